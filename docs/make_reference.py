"""Writes ``docs/command_line.md`` from the help texts: ``python docs/make_reference.py``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

OUT = Path(__file__).parent / "command_line.md"
COMMANDS = (
    "import",
    "generate",
    "info",
    "train",
    "rollout",
    "eval",
    "drive",
    "perturb",
    "view",
    "score",
    *(f"maps {part}" for part in ("list", "check", "cache", "draw", "get")),
)
_HEAD = """# Command line

Written by `python docs/make_reference.py` from `perlsim COMMAND --help`; a test keeps the two in step.
"""
_DEFAULT = re.compile(r"\s*\((default: [^()]*|required)\)$")


def render() -> str:
    """The reference of all commands, as Markdown."""
    return _HEAD + "".join(_section(name, _help_of(name)) for name in COMMANDS)


def _help_of(command: str) -> str:
    # Wide and without colours, so that only the texts' own line breaks remain.
    environment = {**os.environ, "COLUMNS": "1000", "NO_COLOR": "1"}
    command_line = [sys.executable, "-m", "perlsim.cli", *command.split(), "--help"]
    return subprocess.run(command_line, env=environment, capture_output=True, text=True, check=True).stdout


def _section(command: str, text: str) -> str:
    _usage, *paragraphs = text.partition("╭")[0].strip().split("\n\n")
    lines = [line.strip("│").rstrip()[1:] for line in text.splitlines() if line.startswith("│")]
    rows = "".join(_row(entry) for entry in _entries(lines) if not entry[0].startswith("-h, "))
    about = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    table = f"| option | default | meaning |\n|---|---|---|\n{rows}"
    return f"\n## perlsim {command}\n\n{about}\n\n{table}"


def _entries(lines: list[str]) -> list[tuple[str, str]]:
    """Pairs of an option as it is written and its meaning; meanings are indented."""
    entries: list[list[str]] = []
    for line in lines:
        if line.startswith(" "):
            entries[-1][1] += " " + line.strip()
        else:
            option, _, meaning = line.partition("  ")
            entries.append([option, meaning])
    return [(option, " ".join(meaning.split())) for option, meaning in entries]


def _row(entry: tuple[str, str]) -> str:
    option, meaning = entry
    stated = _DEFAULT.search(meaning)
    default = stated.group(1).removeprefix("default:").strip() if stated else ""
    default = {"None": "", "False": "off"}.get(default, default)
    option = option.replace("{None}|", "").replace("{None,", "{").replace("|", "\\|")
    return f"| `{option}` | {default} | {_DEFAULT.sub('', meaning)} |\n"


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
