"""Print a script that lets the shell complete commands, options and files.

Example:
  mkdir -p ~/.local/share/bash-completion/completions
  nnunet_transfer completion bash \\
      > ~/.local/share/bash-completion/completions/nnunet_transfer
"""

from __future__ import annotations

import argparse
import importlib

from nnunet_transfer.commands import COMMANDS
from nnunet_transfer.commands.actions import add_debug

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that you use")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(full_parser(), shell=args.shell))
    return 0


def full_parser() -> argparse.ArgumentParser:
    """Return one parser of all commands, for shell completion; it imports every command's module."""
    parser = argparse.ArgumentParser(prog="nnunet_transfer", description="Transfer learning for nnU-Net v2.")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        add_debug(command)
        importlib.import_module(f"nnunet_transfer.commands.{module}").add_arguments(command)
    return parser
