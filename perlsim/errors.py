"""The one exception type that perlsim raises for problems a user can act on."""


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


def _rebuild(cls, message, file, field, remedy):
    return cls(message, file=file, field=field, remedy=remedy)
