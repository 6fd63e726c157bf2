"""The one exception type that perlsim raises for problems a user can act on."""

from __future__ import annotations

from collections.abc import Iterable

# Names that an error lists at most.
_LISTED = 20


class PerlsimError(Exception):
    """A problem with an input, stated so that the reader knows where it is and what to do.

    Args:
        message: What is wrong, with what was expected and what was found.
        file: The file in which the problem lies, if any.
        field: The field, key or option inside the file, if any.
        remedy: What the user can do about it.
    """

    def __init__(
        self, message: str, *, file: object | None = None, field: str | None = None, remedy: str | None = None
    ):
        self.message = message
        self.file = None if file is None else str(file)
        self.field = field
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = " ".join(part for part in (self.file, f"[{self.field}]" if self.field else None) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.remedy})" if self.remedy else text

    def __reduce__(self):
        # Process pools pickle exceptions by their positional arguments only.
        return (_rebuild, (type(self), self.message, self.file, self.field, self.remedy))


class FormatError(PerlsimError):
    """A file is not of the format it was read as, or its content breaks the format's rules."""


def unknown_name(what: str, name: str, known: Iterable[str], field: str | None = None) -> PerlsimError:
    """An error about a name that nothing has, which suggests the nearest that something has.

    Args:
        what: what is named, such as "policy".
        name: the unknown name.
        known: the names there are.
        field: where the name was given; ``what`` by default.
    """
    import difflib

    known = list(known)
    close = difflib.get_close_matches(name, known, 1, 0.5)
    suggestion = f", did you mean {close[0]}?" if close else ""
    listed = known if len(known) <= _LISTED else [*known[:_LISTED], "…"]
    return PerlsimError(
        f"unknown {what} {name!r}{suggestion}",
        field=field or what,
        remedy=f"known: {', '.join(listed) or 'none'}",
    )


def _rebuild(cls, message, file, field, remedy):
    return cls(message, file=file, field=field, remedy=remedy)
