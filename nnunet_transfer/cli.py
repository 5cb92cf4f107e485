"""The command `nnunet_transfer`: one sub-command per module of `nnunet_transfer.commands`."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from nnunet_transfer import __version__
from nnunet_transfer.commands import COMMANDS
from nnunet_transfer.commands.actions import Parser, add_debug
from nnunet_transfer.errors import TransferError, one_line, printable

#: errors of the operating system that a user can fix -> how
HANDLED_OS_ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EACCES: "permission denied; check who owns the folder",
    errno.EROFS: "the file system is read-only; choose another folder",
}


class _Version(argparse.Action):
    """Print the version and, in a checkout, the commit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from nnunet_transfer.training.provenance import git_state

        git = git_state(Path(__file__).parent / "training")
        commit = f" (commit {git['commit'][:12]}{', changed' if git['dirty'] else ''})" if git else ""
        print(f"nnunet_transfer {__version__}{commit}")
        parser.exit()


class _Printable(logging.Formatter):
    """Messages that are safe to print in a terminal: they may quote files."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message without control characters."""
        return printable(super().format(record))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listing = "\n".join(f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items())
    parser = Parser(
        prog="nnunet_transfer",
        description="Transfer learning for nnU-Net v2.",
        epilog=f"commands:\n{listing}\n\n`nnunet_transfer COMMAND --help` explains each.",
    )
    parser.add_argument("--version", action=_Version, help="show version and commit, and exit")
    add_debug(parser)
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def command_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one sub-command's arguments."""
    module = _module(command)
    parser = Parser(
        prog=f"nnunet_transfer {command}",
        description=module.__doc__ or COMMANDS[command][1],
    )
    add_debug(parser)
    module.add_arguments(parser)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"nnunet_transfer.commands.{COMMANDS[command][0]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; return its exit status (0 done, 1 a check failed, 2 a user error)."""
    try:
        if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
            # file names may contain characters that the terminal's encoding doesn't have
            sys.stdout.reconfigure(errors="backslashreplace")
        status = _run(argv)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()  # here, where a reader that went away is handled
        return status
    except BrokenPipeError:
        # the reader (head, less) has ended: not an error
        _drop_output()
        return 0


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    if args.command not in COMMANDS:
        from nnunet_transfer.registration import did_you_mean

        parser.error(f"unknown command {args.command}; {did_you_mean(args.command, COMMANDS)}")
    debug = args.debug or "--debug" in args.arguments
    # libraries log their own affairs (numbers of threads, fonts), which don't help users
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[handler])
    logging.getLogger("nnunet_transfer").setLevel(logging.DEBUG if debug else logging.INFO)
    options = command_parser(args.command).parse_args(args.arguments)
    try:
        status = int(_module(args.command).run(options) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        raise
    except (TransferError, OSError, ValueError, MemoryError) as error:
        text = _user_error(error)
        if debug or not text:
            raise
        print(f"nnunet_transfer {args.command}: {text}", file=sys.stderr)
        if isinstance(error, OSError):
            _drop_output()
        return 2
    except KeyboardInterrupt:
        print(f"nnunet_transfer {args.command}: interrupted", file=sys.stderr)
        return 130


def _user_error(error: BaseException) -> str:
    """Return one line that tells the user what is wrong and what to do; empty for a bug."""
    if isinstance(error, TransferError):
        return one_line(error)
    if isinstance(error, OSError):
        what = HANDLED_OS_ERRORS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
        place = error.filename2 or error.filename  # of a copy, the second is what couldn't be written
        return one_line(f"{place}: {what}" if place else what)
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs or take a machine with more"
    # Python's message for a path with a NUL character
    return "a path holds a NUL character; remove it" if "embedded null" in str(error) else ""


def _drop_output() -> None:
    """Discard what is still to be written to stdout; otherwise Python reports an error at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
