"""Print a script that lets the shell complete commands, options and files.

Example:
  nnunet_transfer completion bash > ~/.local/share/bash-completion/completions/nnunet_transfer
"""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that you use")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from nnunet_transfer.cli import full_parser

    print(shtab.complete(full_parser(), shell=args.shell))
    return 0
