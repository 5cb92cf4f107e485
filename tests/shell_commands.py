"""What the shell would run of a page's code blocks, and whether the programs would understand it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from nnunet_transfer.cli import COMMANDS, command_parser
from nnunet_transfer.naming import is_ours, parse_trainer_name

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: first words of commands that no test can run -> why
NOT_RUN: dict[tuple[str, ...], str] = {
    ("pip", "install"): "the environment is the tests' own; packaging has tests of its own",
    ("sbatch",): "needs a cluster; tests/slurm has one",
    ("tar", "-xzf"): "the archive is handed out on request",
    ("python", "make_semisynthetic_stroke.py"): "comes with data that are not in the repository",
    ("python", "make_semisynthetic_ms.py"): "comes with data that are not in the repository",
    ("hf", "upload"): "needs an account of the reader",
    ("cd",): "goes to a place on the reader's machine",
}

#: the shell finds no program at all and tells what it was asked for; fields and commands end in control characters
_RECORDER = r"""
command_not_found_handle() { printf '%s\037' "$@"; printf '\036'; } >&3
cd() { command_not_found_handle cd "$@"; }
source() { command_not_found_handle source "$@"; }
set -e
"""


def shell_blocks(page: Path) -> list[str]:
    """Return the fenced shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.M | re.S)


def commands_of(block: str, folder: Path) -> list[list[str]]:
    """Return the commands, in order, that bash would run: loops unrolled, variables and quotes resolved."""
    log = folder / "commands"
    script = _RECORDER + re.sub(r"^\$ ", "", block, flags=re.M)
    with open(log, "wb") as stream:
        run = subprocess.run(
            ["/bin/bash", "-c", f"exec 3>&{stream.fileno()}\n{script}"],
            pass_fds=[stream.fileno()],
            cwd=folder,
            env={"PATH": "/nowhere", "HOME": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, f"bash can't run this:\n{block}\n{run.stderr}"
    return [line.split("\037")[:-1] for line in log.read_text(encoding="utf-8").split("\036")[:-1]]


class _UnderstoodError(Exception):
    """The arguments were understood; the program goes no further."""


def parse_stock(command: Sequence[str]) -> argparse.Namespace:
    """Return what nnU-Net's own parser makes of a command.

    Raises
    ------
    SystemExit
        If it doesn't understand it.
    """
    (entry,) = [e for e in entry_points(group="console_scripts") if e.name == command[0]]
    program = entry.load()
    understood: list[argparse.Namespace] = []
    parse = argparse.ArgumentParser.parse_known_args

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> tuple[argparse.Namespace, list[str]]:
        known, unknown = parse(parser, list(command[1:]))
        if unknown:  # some of nnU-Net's commands would pass over them
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        understood.append(known)
        raise _UnderstoodError

    with pytest.MonkeyPatch.context() as patch:
        # parse_args asks this, too
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patch.setattr(sys, "argv", list(command))
        with pytest.raises(_UnderstoodError):
            program()
    return understood[0]


def check_command(command: Sequence[str]) -> str:
    """Return how a command was checked.

    Raises
    ------
    AssertionError, SystemExit, TransferError
        If it is unknown or has a wrong option, target, module or trainer.
    """
    program, *arguments = command
    for name in arguments:
        if is_ours(name):
            parse_trainer_name(name)
    if program == "nnunet_transfer":
        assert arguments, "nnunet_transfer needs a command"
        assert arguments[0] in COMMANDS, f"unknown command {arguments[0]}"
        command_parser(arguments[0]).parse_args(arguments[1:])
        return "parsed"
    if program.startswith("nnUNetv2_"):
        names = {e.name for e in entry_points(group="console_scripts")}
        assert program in names, f"nnU-Net has no {program}"
        parse_stock(command)
        return "parsed"
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
        assert set(arguments) <= targets, f"the Makefile has no {arguments}"
        return "target exists"
    if program == "python" and arguments[:1] == ["-m"]:
        assert (ROOT / (arguments[1].replace(".", "/") + ".py")).is_file(), f"there is no module {arguments[1]}"
        return "module exists"
    if program == "python" and arguments[0].startswith(("docs/", "tests/", "benchmarks/")):
        assert (ROOT / arguments[0]).is_file(), f"there is no {arguments[0]}"
        return "script exists"
    if program == "cp":
        for file in arguments[:-1]:
            assert (ROOT / file).is_file(), f"there is no {file}"
        return "file exists"
    for words, reason in NOT_RUN.items():
        if tuple(command[: len(words)]) == words:
            return reason
    raise AssertionError(f"unknown command: {' '.join(command)}")
