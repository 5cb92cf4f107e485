"""List, show and verify pre-trained networks.

nnunet_transfer sources list
nnunet_transfer sources show t1_segmentation
nnunet_transfer sources verify
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict

from nnunet_transfer.errors import SourceError
from nnunet_transfer.sources import list_sources, load_source

COLUMNS = ("name", "task", "domain", "parts", "channels", "trained on", "licence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `sources`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list all sources")
    listing.add_argument("--json", action="store_true", help="print the cards as JSON")
    show = actions.add_parser("show", help="print a source's card")
    show.add_argument("name")
    verify = actions.add_parser("verify", help="compare weights with the checksums in the cards")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all")


def run(args: argparse.Namespace) -> int:
    """Do the chosen action."""
    return ACTIONS[args.action](args)


def _list(args: argparse.Namespace) -> int:
    cards = list_sources()
    if args.json:
        print(json.dumps([asdict(card) for card in cards], indent=2))
        return 0
    rows = [
        (c.name, c.task, c.domain, c.parts, str(c.input_channels), ", ".join(c.trained_on) or "-", c.licence or "-")
        for c in cards
    ]
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    for row in (COLUMNS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _show(args: argparse.Namespace) -> int:
    print(json.dumps(asdict(load_source(args.name).card), indent=2, ensure_ascii=False))
    return 0


def _verify(args: argparse.Namespace) -> int:
    failed = 0
    for name in args.names or [card.name for card in list_sources()]:
        try:
            load_source(name).verify()
            print(f"{name}: unchanged")
        except SourceError as error:
            failed += 1
            print(f"{name}: {error}")
    return 1 if failed else 0


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {"list": _list, "show": _show, "verify": _verify}
