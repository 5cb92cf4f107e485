"""Compare all arms of one or several targets over cross-validation.

Example:
  nnunet_transfer compare -d 111 -c 3d_fullres --protocol atlas_r2 -o comparison

Writes report.html, the tables cases.csv, lesions.csv, summary.csv and tests.csv, and the figures.
"""

from __future__ import annotations

import argparse
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
    add_scoring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, and print the table and where the report lies."""
    from nnunet_transfer.comparison import compare

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
    )
    print((comparison.report.parent / "summary.txt").read_text(encoding="utf-8"))
    print(f"Report: {comparison.report}")
    return 0
