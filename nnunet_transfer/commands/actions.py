"""What all commands' parsers share, and the actions of commands that have several, such as `sources add`."""

from __future__ import annotations

import argparse
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from nnunet_transfer.errors import SettingsError


class Help(argparse.HelpFormatter):
    """Help whose paragraphs fit the terminal; empty and indented lines, such as examples, aren't changed."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for is_paragraph, group in groupby(text.splitlines(), key=lambda line: line[:1].strip() != ""):
            lines = list(group)
            filled += self._split_lines(" ".join(lines), width) if is_paragraph else lines
        return "\n".join(filled)

    def _split_lines(self, text: str, width: int) -> list[str]:
        # names of options and values, and nnU-Net, stay in one piece
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a suggestion for a misspelt option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=Help, **settings)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with status 2."""
        from nnunet_transfer.registration import nearest  # help answers at once without it

        known = _options(self)
        words = message.split() if message.startswith("unrecognized") else []
        typed = [word.partition("=")[0] for word in words if word.startswith("--")]
        near = [name for word in typed for name in nearest(word, known)]
        hint = f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"{self.prog}: {message}{hint} (see `{self.prog} --help`)\n")


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a parser and of its actions, whose unknown options it reports."""
    names = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names.update(*map(_options, action.choices.values()))
    return names


def given(text: str) -> str:
    """Return an argument that names a file, folder or address.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is empty, where a path would mean the working folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("the text is empty, as if a variable of the shell weren't set")
    return text


def given_path(text: str) -> Path:
    """Return the path that an argument names, which must not be empty."""
    return Path(given(text))


def refuse_folder(output: Path, example: str) -> None:
    """Refuse a folder where a table is to be written: before the work, which may take an hour.

    Raises
    ------
    SettingsError
        If `output` is a folder.
    """
    if output.is_dir():
        raise SettingsError(f"{output} is a folder; give -o the name of a file, such as {output / example}")


def add_debug(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """Add `--debug`, which every command and action has."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_action(actions: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """Add an action and return its parser.

    Parameters
    ----------
    actions : what `add_subparsers` returned
    text : what the action does, for the list of actions and for its own help
    example : a command line
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.\n\nExample:\n  nnunet_transfer {example}",
    )
    add_debug(parser, argparse.SUPPRESS)  # also after the action, where users add it to the command that they ran
    return parser
