"""The help of every command and action: defaults in one form, and examples that the program understands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_transfer import cli
from nnunet_transfer.cli import COMMANDS, command_parser
from nnunet_transfer.commands.convert import GEOMETRIES
from nnunet_transfer.conversion.geometry import POLICIES
from tests.shell_commands import check_command, commands_of


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for command in COMMANDS:
        parser = command_parser(command)
        yield command, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{command} {name}", inner) for name, inner in action.choices.items())


PARSERS = dict(_parsers())


@pytest.mark.parametrize("command", PARSERS)
def test_help_states_every_default_in_one_form(command: str) -> None:
    for action in PARSERS[command]._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue  # each action has its own line
        text = (action.help or "") % vars(action)
        name = "/".join(action.option_strings) or action.dest
        assert action.help, f"{name} is not explained"
        assert not re.search(r"\(default [^)]|\(default\)", text), f"{name}: write (default: ...)"
        if action.default not in (None, False, "", [], argparse.SUPPRESS):
            assert "(default: " in text, f"{name} doesn't say that its default is {action.default}"


@pytest.mark.parametrize("command", PARSERS)
def test_help_names_values_in_capitals(command: str) -> None:
    for action in PARSERS[command]._actions:
        if action.nargs != 0 and not action.choices:
            assert isinstance(action.metavar, str), f"{action.dest} has no name for its value"
            assert action.metavar != action.metavar.lower(), action.metavar


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for parser in (cli._parser(), *PARSERS.values()):
        for line in parser.format_help().splitlines():
            # examples and the list of commands are made for the usual terminal
            assert len(line) <= (max(80, columns) if line.startswith("  ") else columns), line


def test_help_names_all_rules_of_geometry() -> None:
    assert GEOMETRIES == POLICIES


@pytest.mark.parametrize("command", PARSERS)
def test_the_examples_of_the_help_are_understood(command: str, tmp_path: Path) -> None:
    lines = re.findall(r"^ {2}.*(?:\n {6}.*)*", PARSERS[command].description or "", re.M)
    shown = [re.sub(r" > \S+", "", line) for line in lines if re.match(r" +(nnunet_transfer|nnUNetv2_\w+) ", line)]
    if command == "env":  # its lines are those of several shells
        shown = ['eval "$(nnunet_transfer env)"']
        assert shown[0] in "\n".join(lines)
    assert shown, "no example"
    for run in commands_of("\n".join(shown), tmp_path):
        check_command(run)
