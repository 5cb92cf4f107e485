"""Score a folder of predictions against a folder of references.

Example:
  nnunet_transfer evaluate labelsTs predictions -o cases.csv --protocol atlas_r2

Writes one row per case and label, and with a protocol also lesions.csv in the same folder, one row per reference lesion.
If the folder has the lesions of another run, they are kept, and the new ones are in NAME_lesions.csv.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_transfer.commands.actions import given_path, refuse_folder

if TYPE_CHECKING:
    from nnunet_transfer.evaluation.scores import ScoringSettings

LESIONS = "lesions.csv"
#: of NSD, in mm, unless another is given
TOLERANCE = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("references", type=given_path, metavar="REF_DIR", help="folder of reference masks")
    parser.add_argument(
        "predictions", type=given_path, metavar="PRED_DIR", help="folder of predicted masks, named like the references"
    )
    parser.add_argument("-o", "--output", required=True, type=given_path, metavar="CASES.csv", help="table to write")
    add_scoring_arguments(parser)
    parser.add_argument(
        "--labels",
        type=int,
        nargs="+",
        metavar="N",
        help="label values to score (default: those in dataset.json or, without it, all in the references)",
    )
    parser.add_argument("--ignore-label", type=int, metavar="N", help="reference label that isn't scored")
    parser.add_argument(
        "--dataset-json",
        type=given_path,
        metavar="FILE",
        help="dataset.json with the names of the labels (default: the one in or beside one of the two folders)",
    )


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments shared with `compare`."""
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        metavar="NAME",
        help="lesion protocol; may be given several times: atlas_r2, isles22, isles26, wmh2017, msseg2016, "
        "shifts_ms, isbi2015, brats2023",
    )
    parser.add_argument(
        "--protocol-file",
        action="append",
        default=[],
        type=given_path,
        metavar="FILE",
        help="JSON file with your own protocols",
    )
    parser.add_argument(
        "--empty",
        choices=("score", "leave-out"),
        default="score",
        help="empty references: an empty prediction scores 1 and any other 0, or they are left out (default: %(default)s)",
    )
    parser.add_argument("--no-surface", action="store_true", help="leave out HD95 and NSD")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, metavar="MM", help="NSD tolerance in mm (default: %(default)s)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="cases at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave out cases that can't be scored, and list them"
    )


def run(args: argparse.Namespace) -> int:
    """Score the folders and write the tables."""
    from nnunet_transfer.api import evaluate
    from nnunet_transfer.errors import SettingsError
    from nnunet_transfer.evaluation.folders import EvaluateSettings, cases_by_reason
    from nnunet_transfer.evaluation.mean_iou import mean_iou
    from nnunet_transfer.evaluation.tables import csv_text
    from nnunet_transfer.files import write_text
    from nnunet_transfer.words import counted

    refuse_folder(args.output, "cases.csv")
    wanted = bool(args.protocol or args.protocol_file)
    if wanted and args.output.name.lower() == LESIONS:
        raise SettingsError(f"{args.output} is where the table of lesions goes; give -o another name")
    own, free = _lesions_file(args.output)
    if wanted and not (own or free):
        raise SettingsError(f"{args.output.parent} has lesions of other runs under both names; give -o another folder")
    settings = EvaluateSettings(
        scoring=scoring_settings(args),
        labels=tuple(args.labels) if args.labels else None,
        ignore_label=args.ignore_label,
        dataset_json=args.dataset_json,
        empty=args.empty,
        allow_missing=args.allow_missing,
    )
    result = evaluate(args.references, args.predictions, settings=settings, processes=args.processes)
    write_text(args.output, csv_text(result.cases))
    if wanted and (lesions := own or free):
        write_text(lesions, csv_text(result.lesions))
    elif own:
        own.unlink()
        print(f"removed {own}, which was of the earlier {args.output.name}")
    for notice in result.notices:
        print(notice)
    for why, cases in cases_by_reason(result.problems).items():
        print(f"left out {', '.join(cases)}: {why}")
    print("mean over cases:")
    print(result.cases.groupby("label", sort=False).mean(numeric_only=True).T.to_string(float_format="%.4f"))
    miou = mean_iou(result.cases, args.empty)
    print(f"mIoU over cases {miou.over_cases:.4f}, over classes {miou.over_classes:.4f}, pooled {miou.pooled:.4f}")
    print(f"{counted(result.cases['case'].nunique(), 'case')} in {args.output}")
    if wanted:
        print(f"reference lesions in {lesions}")
    return 0


def _lesions_file(output: Path) -> tuple[Path | None, Path | None]:
    """Return the table of lesions that belongs to an earlier table of cases at `output`, and a name that is free for one."""
    from nnunet_transfer.evaluation.tables import are_of_one_run

    names = output.with_name(LESIONS), output.with_name(f"{output.stem}_{LESIONS}")
    # two runs may have found and missed the same lesions
    own = (path for path in reversed(names) if are_of_one_run(output, path))
    return next(own, None), next((path for path in names if not path.exists()), None)


def scoring_settings(args: argparse.Namespace) -> ScoringSettings:
    """Return the `ScoringSettings` that the arguments ask for."""
    from nnunet_transfer.errors import SettingsError
    from nnunet_transfer.evaluation.protocols import get_protocol, read_protocols
    from nnunet_transfer.evaluation.scores import ScoringSettings

    if args.processes < 1:
        raise SettingsError(f"--processes is {args.processes}; give 1 or more")
    if args.no_surface and args.tolerance != TOLERANCE:
        raise SettingsError("--tolerance is for NSD, which --no-surface leaves out; give one of them")
    protocols = [get_protocol(name) for name in args.protocol]
    for path in args.protocol_file:
        protocols += read_protocols(path)
    return ScoringSettings(tuple(protocols), not args.no_surface, args.tolerance)
