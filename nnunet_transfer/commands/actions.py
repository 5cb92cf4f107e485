"""The actions of commands that have several, such as `sources add`."""

from __future__ import annotations

import argparse
from typing import Any


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
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # also after the action, where users add it to the command that they ran
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    return parser
