"""Inspect, add, fetch, list, show, publish, rank and verify pre-trained networks.

Example:
  nnunet_transfer sources inspect checkpoint_final.pth
  nnunet_transfer sources add --name openmind --task self_supervised \\
      --domain brain_mri hf://AnonRes/ResEncL-OpenMind-MAE/checkpoint_final.pth
  nnunet_transfer sources fetch imagenet_resnet18d
  nnunet_transfer sources list
  nnunet_transfer sources show t1_segmentation
  nnunet_transfer sources publish t1_segmentation to_upload
  nnunet_transfer sources rank -d 21 -c 2d -p nnUNetPlans_resnet18
  nnunet_transfer sources verify
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nnunet_transfer.api import (
    add_source,
    fetch_source,
    inspect_source,
    load_source,
    publish_source,
    rank_sources,
)
from nnunet_transfer.commands.actions import add_action, given, given_path, refuse_folder
from nnunet_transfer.commands.output import print_table, terminal_width, wrapped
from nnunet_transfer.errors import SourceError, one_line, printable
from nnunet_transfer.files import printable_json
from nnunet_transfer.paths import dataset_name, sources_folder
from nnunet_transfer.sources import TASKS, source_names
from nnunet_transfer.sources.learning import learning_warnings
from nnunet_transfer.words import counted

if TYPE_CHECKING:
    from nnunet_transfer.checkpoints import Reading

#: characters of a table's cell, and of a line that quotes a file
CELL = 48
MAX_LINE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `sources`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for declare in (
        _inspect_action,
        _add_action,
        _fetch_action,
        _list_action,
        _show_action,
        _publish_action,
        _rank_action,
        _verify_action,
    ):
        declare(actions)


def _inspect_action(actions: Any) -> None:
    parser = add_action(
        actions, "inspect", "show what a checkpoint has, without adding it", "sources inspect checkpoint_final.pth"
    )
    _reading_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _add_action(actions: Any) -> None:
    parser = add_action(
        actions,
        "add",
        "add a checkpoint to the registry",
        "sources add ct.zip --name ct --task segmentation --domain ct",
    )
    _reading_arguments(parser)
    parser.add_argument(
        "--name", default="", metavar="NAME", help="name in the registry; not needed for a published source"
    )
    parser.add_argument(
        "--task",
        default="",
        choices=TASKS,
        metavar="TASK",
        help=f"task it was trained on: {', '.join(TASKS)}; not needed for a published source",
    )
    parser.add_argument(
        "--domain",
        default="",
        metavar="DOMAIN",
        help="images it was trained on, for example natural or t1; not needed for a published source",
    )
    parser.add_argument("--licence", default="", metavar="LICENCE", help="licence of the weights")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to cite the weights")
    parser.add_argument(
        "--trained-on", nargs="+", default=[], metavar="DATASET", help="names of the data sets it was trained on"
    )
    parser.add_argument("--channel-names", nargs="+", default=[], metavar="NAME", help="names of the input channels")
    parser.add_argument("--overwrite", action="store_true", help="replace a source of this name")


def _fetch_action(actions: Any) -> None:
    parser = add_action(
        actions,
        "fetch",
        "download a public checkpoint and add it; without a name: list them",
        "sources fetch imagenet_resnet18d",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="name in the catalogue")
    parser.add_argument("--save-as", metavar="NAME", help="name in the registry (default: the catalogue's)")
    parser.add_argument("--json", action="store_true", help="print the catalogue with addresses and citations as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace a source of this name")


def _list_action(actions: Any) -> None:
    parser = add_action(
        actions, "list", "list all sources: licence, score, training data, overlap with targets", "sources list"
    )
    parser.add_argument("--json", action="store_true", help="print everything, including the cards, as JSON")


def _show_action(actions: Any) -> None:
    parser = add_action(
        actions, "show", "print a source's model card, with its licence and citation", "sources show t1_segmentation"
    )
    parser.add_argument("name", metavar="NAME", help="name in the registry")
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def _publish_action(actions: Any) -> None:
    parser = add_action(
        actions,
        "publish",
        "write a source into a folder to upload, e.g. to Hugging Face",
        "sources publish t1_segmentation to_upload",
    )
    parser.add_argument("name", metavar="NAME", help="name in the registry")
    parser.add_argument("folder", type=given_path, metavar="FOLDER", help="new or empty folder")
    parser.add_argument("--licence", default="", metavar="LICENCE", help="licence of the weights (default: the card's)")
    parser.add_argument("--licence-file", type=given_path, metavar="FILE", help="the licence's text")
    parser.add_argument(
        "--leave-out-cases", action="store_true", help="leave out identifiers of training cases and lesion donors"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier publication in this folder")


def _rank_action(actions: Any) -> None:
    parser = add_action(
        actions,
        "rank",
        "score sources for a target before any fine-tuning",
        "sources rank -d 21 -c 2d -p nnUNetPlans_resnet18",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="sources to score (default: all)")
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="ID", help="id or folder name of the target, preprocessed"
    )
    parser.add_argument("-c", "--configuration", required=True, metavar="CONFIG", help="2d, 3d_fullres ...")
    parser.add_argument("-p", "--plans", required=True, metavar="PLANS", help="name of the target's plans")
    parser.add_argument(
        "-f", "--fold", type=int, metavar="K", help="use only this fold's training cases (default: all cases)"
    )
    parser.add_argument("-o", "--output", type=given_path, metavar="CSV", help="also write all scores to a file")
    parser.add_argument("--cases", type=int, default=40, metavar="N", help="use at most N cases (default: %(default)s)")
    parser.add_argument(
        "--results", type=given_path, metavar="CSV", help="table of scores on other targets: source, target, score"
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda ... (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="K", help="seed of all random numbers (default: %(default)s)"
    )


def _verify_action(actions: Any) -> None:
    parser = add_action(
        actions, "verify", "compare weights with the checksums in the cards", "sources verify t1_segmentation"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="sources to check (default: all)")


def _reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        type=given,
        metavar="FILE_OR_FOLDER_OR_URL",
        help="weights file, nnU-Net run or model folder, exported zip, or an address: https://, hf://OWNER/REPOSITORY[/FILE], "
        "timm://MODEL, torchvision://WEIGHTS",
    )
    parser.add_argument(
        "--sha256", metavar="HEX", help="expected checksum of a file or download, or at least its first 8 digits"
    )
    parser.add_argument("--fold", metavar="K", help="which fold of a model (default: all, else the first)")
    parser.add_argument("--checkpoint", metavar="NAME", help="which file of a fold (default: the final one)")
    parser.add_argument(
        "--map", type=given_path, dest="key_map", metavar="FILE", help="lines 'regex = replacement' for keys"
    )
    parser.add_argument(
        "--trust", action="store_true", help="unpickle the file without checks: it may run any program as you"
    )


def run(args: argparse.Namespace) -> int:
    """Do the chosen action."""
    return ACTIONS[args.action](args)


def _inspect(args: argparse.Namespace) -> int:
    content = inspect_source(args.path, reading=_reading(args), sha256=_sha256(args))
    if args.json:
        print(printable_json(content))
        return 0
    width = max(map(len, content))
    for name, value in content.items():
        lines = [str(v) for v in value] if name in ("uses", "notes") else [_text(value)]
        for line in lines or ["-"]:
            print(
                *wrapped(one_line(line, MAX_LINE), terminal_width(), f"{name:<{width}}  ", " " * (width + 2)), sep="\n"
            )
            name = ""
    return 0


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:,}" if isinstance(value, int) else str(value) or "-"


def _add(args: argparse.Namespace) -> int:
    from nnunet_transfer.checkpoints import Provenance
    from nnunet_transfer.checkpoints.published import may_be_published

    missing = [option for option in ("name", "task", "domain") if not getattr(args, option)]
    if missing and not may_be_published(args.path):
        raise SourceError(f"give --{', --'.join(missing)}; only folders written by `sources publish` state them")
    source = add_source(
        args.path,
        args.name,
        task=args.task,
        domain=args.domain,
        provenance=Provenance(args.licence, args.citation, tuple(args.trained_on), tuple(args.channel_names)),
        reading=_reading(args),
        sha256=_sha256(args),
        overwrite=args.overwrite,
    )
    print(source.folder)
    return 0


def _reading(args: argparse.Namespace) -> Reading:
    from nnunet_transfer.checkpoints import Reading

    return Reading(args.trust, args.key_map, args.fold, args.checkpoint)


def _sha256(args: argparse.Namespace) -> str:
    if args.sha256 == "":
        # as of a variable that isn't set: nothing would be checked
        raise SourceError("--sha256 is empty; give the checksum, or leave it out")
    return args.sha256 or ""


def _list(args: argparse.Namespace) -> int:
    from nnunet_transfer.sources.overview import COLUMNS, overview

    entries = overview()
    if args.json:
        print(printable_json([entry.to_dict() for entry in entries]))
        return 0
    print_table((COLUMNS, *(tuple(map(_cell, entry.row())) for entry in entries)))
    if not entries:
        _say_that_there_are_none()
    return 0


def _say_that_there_are_none() -> None:
    where = one_line(str(sources_folder()))
    print(f"no sources in {where}; `nnunet_transfer sources fetch` lists public ones", file=sys.stderr)


def _cell(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= CELL else f"{shown[: CELL - 3]}..."


def _fetch(args: argparse.Namespace) -> int:
    if args.name and args.json:
        raise SourceError("--json prints the catalogue; leave out the name, or --json")
    if not args.name and (args.save_as or args.overwrite):
        raise SourceError("--save-as and --overwrite go with the name of a checkpoint; without one, fetch lists them")
    if args.name:
        print(fetch_source(args.name, save_as=args.save_as, overwrite=args.overwrite).folder)
        return 0
    from nnunet_transfer.checkpoints.catalogue import CATALOGUE

    if args.json:
        print(printable_json({name: e.to_dict() for name, e in CATALOGUE.items()}))
        return 0
    rows = [(name, e.task, e.domain, ", ".join(e.trained_on) or "-", e.licence) for name, e in CATALOGUE.items()]
    print_table((("name", "task", "domain", "trained on", "licence"), *rows))
    return 0


def _show(args: argparse.Namespace) -> int:
    from nnunet_transfer.sources.publishing import model_card

    card = load_source(args.name).card
    print(printable_json(asdict(card)) if args.json else printable(model_card(card).rstrip()))
    for warning in learning_warnings(card):
        print(f"WARNING: {one_line(warning)}", file=sys.stderr)
    return 0


def _publish(args: argparse.Namespace) -> int:
    folder = publish_source(
        args.name,
        args.folder,
        licence=args.licence,
        licence_file=args.licence_file,
        leave_out_cases=args.leave_out_cases,
        overwrite=args.overwrite,
    )
    card = load_source(folder).card
    if card.trained_on_cases:
        print(
            f"source.json names {counted(len(card.trained_on_cases), 'training case')}; --leave-out-cases leaves them out",
            file=sys.stderr,
        )
    print(folder)
    return 0


def _rank(args: argparse.Namespace) -> int:
    from nnunet_transfer.ranking.rank import RankSettings, table_of, write_ranking

    if args.output:
        refuse_folder(args.output, "ranks.csv")
    settings = RankSettings(fold=args.fold, cases=args.cases, seed=args.seed, results=args.results)
    rows = rank_sources(args.dataset, args.configuration, args.plans, args.names, settings=settings, device=args.device)
    if args.output:
        write_ranking(rows, args.output, target=dataset_name(args.dataset), fold=args.fold)
    print_table(table_of(rows))
    return 0


def _verify(args: argparse.Namespace) -> int:
    failed = 0
    names = args.names or source_names()
    if not names:
        _say_that_there_are_none()
    for name in names:
        try:
            load_source(name).verify()
            print(f"{name}: unchanged")
        except SourceError as error:
            failed += 1
            print(f"{name}: {error}")
    return 1 if failed else 0


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "inspect": _inspect,
    "add": _add,
    "fetch": _fetch,
    "list": _list,
    "show": _show,
    "publish": _publish,
    "rank": _rank,
    "verify": _verify,
}
