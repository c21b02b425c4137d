"""Update the reference of commands and options in docs/cli.md from the command-line interface.

    python scripts/docs_cli.py docs/cli.md

The reference is the part of the page between two marks. It is replaced completely.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from wdsremux.commands import app

BEGIN, END = "<!-- options: written by scripts/docs_cli.py -->", "<!-- end of options -->"


def commands() -> Any:
    """The command line, with its commands by name in `commands`."""
    return typer.main.get_command(app)


def reference() -> str:
    """A section for each command, in the order of --help."""
    return "\n\n".join("\n\n".join(_section(name, command)) for name, command in commands().commands.items())


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    words = " ".join(["wdsremux", name, *(_word(each) for each in arguments)])
    yield f"### `{words}` {{ #{name} }}"
    yield " ".join(command.help.split())
    yield _table(("argument", "meaning"), ([f"`{_word(each)}`", each.help] for each in arguments))
    yield _table(("option", "default", "meaning"), ([_names(each), _default(each), each.help] for each in options))


def _word(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    return names if not option.secondary_opts else f"{names} / `{option.secondary_opts[0]}`"


def _default(option: Any) -> str:
    """The default as it would be typed; nothing where there is none, or where the option is a switch that is off."""
    if option.is_flag:
        return f"`{option.opts[0]}`" if option.default else ""
    return "" if option.default is None else f"`{option.default}`"


def _table(headings: tuple[str, ...], rows: Iterator[list[str]]) -> str:
    lines = [f"| {' | '.join(each.replace('|', '&#124;') for each in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}", *lines])


def written(page: str) -> str:
    """The page with the reference as it is now."""
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        sys.exit(f"error: the page has no place for the options. Add the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def main() -> None:
    page = Path(sys.argv[1])
    page.write_text(written(page.read_text()))


if __name__ == "__main__":
    main()
