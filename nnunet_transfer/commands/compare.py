"""Compare all arms of one or several targets over cross-validation.

Example:
  nnunet_transfer compare -d 111 -c 3d_fullres --protocol atlas_r2 -o comparison

Writes report.html, which needs no network; its figures as PNG and SVG (figures/), its tables as LaTeX (tables/) and as CSV:
cases, lesions, summary, tests (differences to the baseline), pairs (between all arms), ranks, detection (pooled), sizes
(sensitivity by lesion size), volumes and curves (arms trained on _<N>cases). A second comparison into the same folder
scores only what is new.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from nnunet_transfer.commands.evaluate import add_scoring_arguments, scoring_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("-d", "--dataset", nargs="+", required=True, metavar="ID", help="targets, by id or name")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder for the report")
    parser.add_argument("--arms", nargs="+", metavar="TRAINER", help="trainers to compare (default: all)")
    parser.add_argument("-c", "--configuration", metavar="CONFIG", help="nnU-Net configuration, e.g. 3d_fullres")
    parser.add_argument("-p", "--plans", metavar="PLANS", help="plans identifier")
    parser.add_argument("--baseline", default="nnUNetTrainerScratch", metavar="TRAINER", help="(default %(default)s)")
    parser.add_argument(
        "--rope",
        type=float,
        default=0.01,
        metavar="D",
        help="differences of at most this count as practically equal (default %(default)s)",
    )
    parser.add_argument(
        "--all-cases",
        action="store_true",
        help="draw every case, in a folder beside the report (default: 30 per target)",
    )
    add_scoring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, and print the table and where the report lies."""
    from nnunet_transfer.comparison import compare
    from nnunet_transfer.errors import SettingsError

    if not 0 <= args.rope < 1:
        raise SettingsError(f"--rope {args.rope:g}: give a difference from 0 to below 1")
    settings = scoring_settings(args)
    comparison = compare(
        args.dataset,
        out=args.output,
        arms=args.arms,
        configuration=args.configuration,
        plans=args.plans,
        baseline=args.baseline,
        protocols=settings.protocols,
        surface=settings.surface,
        tolerance_mm=settings.tolerance_mm,
        processes=args.processes,
        allow_missing=args.allow_missing,
        rope=args.rope,
        all_cases=args.all_cases,
        command=shlex.join(["nnunet_transfer", *sys.argv[1:]]),
    )
    print((comparison.report.parent / "summary.txt").read_text(encoding="utf-8"))
    print(f"Report: {comparison.report}")
    return 0
