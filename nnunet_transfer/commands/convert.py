"""Turn a public data set, or your own, into an nnU-Net data set.

Example:
  nnunet_transfer convert --list
  nnunet_transfer convert atlas_r2 /data/ATLAS_2 -d 4

Cases that can't be converted are errors with their reason; --allow-skips leaves them out. Run the same
command again after an interrupt or an error: finished cases are kept. Afterwards:

  nnUNetv2_plan_and_preprocess -d 4 --verify_dataset_integrity
  nnunet_transfer install-splits -d 4
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from nnunet_transfer.commands.actions import given_path
from nnunet_transfer.commands.output import terminal_width, wrapped
from nnunet_transfer.errors import SettingsError, printable

if TYPE_CHECKING:
    from nnunet_transfer.conversion.description import DatasetDescription
    from nnunet_transfer.conversion.engine import Outcome
    from nnunet_transfer.conversion.plan import Options, Plan

#: `POLICIES` of `conversion.geometry`, without the imports of that module
GEOMETRIES = ("error", "copy-from-image", "resample-label", "resample-label-coverage", "resample-image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `convert`."""
    parser.add_argument(
        "dataset", nargs="?", metavar="NAME", help="data set (see --list), or a Python file describing yours"
    )
    parser.add_argument("source", nargs="?", type=given_path, metavar="SRC", help="folder the data set was unpacked to")
    parser.add_argument(
        "-d", "--id", "--dataset-id", dest="dataset_id", type=int, metavar="ID", help="id of the new data set"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="list the data sets, or the one named, with licence, citation and where to get them",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="name of the new data set, after DatasetXXX_ (default: the data set's own)"
    )
    parser.add_argument(
        "--option",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="options of a data set (see --list)",
    )
    _add_image_arguments(parser.add_argument_group("images and labels"))
    _add_case_arguments(parser.add_argument_group("cases and folds"))


def _add_image_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--channels",
        nargs="+",
        metavar="C",
        help="images to take, in this order (default: T1, or the images that the labels were drawn on)",
    )
    group.add_argument(
        "--label-set", metavar="NAME", help="which of the data set's segmentations to take (default: the first)"
    )
    group.add_argument("--rater", metavar="R", help="rater's name, or union, intersection or majority of all raters")
    group.add_argument(
        "--geometry",
        default="error",
        choices=GEOMETRIES,
        metavar="RULE",
        help=f"what to do if image and label are on different grids: {', '.join(GEOMETRIES)} (default: %(default)s)",
    )
    group.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="binary masks: values above T are foreground, for masks that were interpolated",
    )
    group.add_argument(
        "--reorient",
        nargs="?",
        const="RAS",
        default="",
        metavar="AXES",
        help="turn axes to one orientation (RAS, unless given)",
    )
    group.add_argument("--link", action="store_true", help="link to files that need no change instead of copying them")


def _add_case_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--group-by",
        default="subject",
        choices=("subject", "site"),
        help="what stays in one fold (default: %(default)s)",
    )
    group.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds (default: %(default)s)")
    group.add_argument("--limit", type=int, metavar="N", help="convert the first N cases only, of each class in turn")
    group.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="cases at a time (default: %(default)s)"
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be converted; write nothing")
    group.add_argument("--allow-skips", action="store_true", help="leave out cases that can't be converted")
    group.add_argument("--overwrite", action="store_true", help="replace the data set with this id and name")


def run(args: argparse.Namespace) -> int:
    """List, check or convert."""
    if args.list:
        from nnunet_transfer.conversion.catalogue import all_descriptions, get_description

        if not _only_lists(args):
            raise SettingsError("--list converts nothing; give it at most a data set's NAME")
        listed = [get_description(args.dataset)] if args.dataset else all_descriptions().values()
        print("\n\n".join(map(_describe, listed)))
        return 0
    if not (args.dataset and args.source and args.dataset_id is not None):
        raise SettingsError("give the data set's NAME, its folder and an id: nnunet_transfer convert NAME SRC -d ID")
    from nnunet_transfer.api import plan_conversion
    from nnunet_transfer.conversion.preview import class_lines, preview, report

    plan = plan_conversion(args.dataset, args.source, args.dataset_id, _options(args))
    if args.dry_run:
        print(printable(preview(plan)))
        to_train_on = any(case.split == "train" for case in plan.cases)
        return 0 if to_train_on and (args.allow_skips or not plan.found.problems) else 1
    if classes := class_lines(plan):
        print(printable("\n".join(classes)), flush=True)
    print(printable(report(plan, _convert_with_bar(plan))))
    return 0


def _only_lists(args: argparse.Namespace) -> bool:
    """Return whether nothing but `--list` and a data set's name was given."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    alone = parser.parse_args(["--list", *filter(None, [args.dataset])])
    return all(getattr(args, name) == value for name, value in vars(alone).items())


def _convert_with_bar(plan: Plan) -> Outcome:
    """Convert with one progress bar, shown where someone watches."""
    from tqdm import tqdm

    from nnunet_transfer.api import convert_planned

    with tqdm(total=len(plan.cases), desc=plan.folder.name, unit="case", disable=None) as bar:

        def show(done: int, _: int) -> None:
            bar.update(done - bar.n)

        return convert_planned(plan, show)


def _options(args: argparse.Namespace) -> Options:
    from nnunet_transfer.conversion.plan import Options

    if wrong := [text for text in args.option if "=" not in text]:
        raise SettingsError(f"--option {wrong[0]} has no value; write KEY=VALUE")
    keys = [text.split("=", 1)[0] for text in args.option]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise SettingsError(f"--option {twice[0]} is given twice; give it once")
    return Options(
        name=args.name,
        channels=tuple(args.channels) if args.channels else None,
        label_set=args.label_set,
        rater=args.rater,
        geometry=args.geometry,
        reorient=args.reorient.upper(),
        threshold=args.threshold,
        group_by=args.group_by,
        folds=args.folds,
        processes=args.processes,
        limit=args.limit,
        link=args.link,
        allow_skips=args.allow_skips,
        overwrite=args.overwrite,
        dataset_options=dict(text.split("=", 1) for text in args.option),
    )


def _describe(description: DatasetDescription) -> str:
    rows = {
        "channels": " ".join(description.all_channels()) if not description.pictures else "",
        "labels": " ".join(description.label_sets) if len(description.label_sets) > 1 else "",
        "raters": _raters(description),
        "options": "; ".join(f"{key}: {text}" for key, text in description.known_options.items()),
        "licence": description.licence,
        "cite": description.citation,
        "get it": description.request,
        "unconfirmed": description.unconfirmed,
    }
    width = terminal_width()
    lines = [line for key, text in rows.items() if text for line in wrapped(text, width, f"  {key:<12}", " " * 14)]
    return "\n".join([*wrapped(f"{description.name}: {description.title}", width, "", "  "), *lines])


def _raters(description: DatasetDescription) -> str:
    with_raters = [name for name in description.label_sets if description.has_raters(name)]
    if not with_raters:
        return ""
    chosen = description.default_rater or "must be chosen"
    return chosen if len(with_raters) == len(description.label_sets) else f"{chosen} for {' '.join(with_raters)}"
