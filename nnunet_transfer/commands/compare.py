"""Compare all arms of one or several targets over cross-validation.

Example:
  nnunet_transfer compare -d 111 -c 3d_fullres --protocol atlas_r2 -o comparison

Writes report.html, which needs no network; its figures as PNG and SVG (figures/), its tables as LaTeX (tables/) and as CSV:
cases, lesions, summary, tests (differences from the baseline), pairs (between all arms), ranks, folds, grid (source task by
domain), detection (pooled), lesion_free (false positives where the reference is empty), sizes (sensitivity by lesion size),
volumes, curves (arms trained on _<N>cases), lengths (arms trained for several _<N>epochs), recipes (arms with several),
arm_key (sources and baselines) and consensus (ranks over several targets). A second comparison into the same folder scores
only what is new.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from nnunet_transfer.commands.actions import given_path
from nnunet_transfer.commands.evaluate import add_scoring_arguments, scoring_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("-d", "--dataset", nargs="+", required=True, metavar="ID", help="targets, by id or name")
    parser.add_argument(
        "-o", "--output", required=True, type=given_path, metavar="FOLDER", help="folder for the report"
    )
    parser.add_argument("--arms", nargs="+", metavar="TRAINER", help="trainers to compare (default: all)")
    parser.add_argument("-c", "--configuration", metavar="CONFIG", help="2d, 3d_fullres ... (default: the only one)")
    parser.add_argument("-p", "--plans", metavar="PLANS", help="name of the plans (default: the only ones)")
    parser.add_argument(
        "--baseline",
        default="nnUNetTrainerScratch",
        metavar="TRAINER",
        help="arm to compare with (default: %(default)s)",
    )
    parser.add_argument(
        "--rope",
        type=float,
        default=0.01,
        metavar="D",
        help="differences of at most this count as practically equal (default: %(default)s)",
    )
    parser.add_argument(
        "--all-cases",
        action="store_true",
        help="draw every case, in a folder beside the report (default: 30 per target)",
    )
    parser.add_argument(
        "--viewer",
        type=given_path,
        metavar="NIIVUE",
        help="also write an interactive page for each drawn case, with copies of its volumes inside; NIIVUE: the file "
        "dist/niivue.umd.js of the npm package @niivue/niivue",
    )
    parser.add_argument(
        "--ranking",
        type=given_path,
        nargs="+",
        default=[],
        metavar="CSV",
        help="show these tables of `sources rank` in the report",
    )
    parser.add_argument(
        "--draws", type=int, default=10_000, metavar="N", help="bootstrap samples (default: %(default)s)"
    )
    add_scoring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, and print the table and where the report lies."""
    from nnunet_transfer.api import compare
    from nnunet_transfer.comparison import CompareSettings, ReportText

    scoring = scoring_settings(args)
    settings = CompareSettings(
        protocols=scoring.protocols,
        surface=scoring.surface,
        tolerance_mm=scoring.tolerance_mm,
        empty=args.empty,
        rope=args.rope,
        draws=args.draws,
        baseline=args.baseline,
        configuration=args.configuration,
        plans=args.plans,
        allow_missing=args.allow_missing,
    )
    viewer = None
    if args.viewer is not None:
        from nnunet_transfer.comparison.viewer import niivue_script

        viewer = niivue_script(args.viewer)  # before scoring, which takes long
    if args.ranking:
        from nnunet_transfer.comparison.source_rankings import check_rankings
        from nnunet_transfer.paths import dataset_name

        check_rankings(args.ranking, [dataset_name(name) for name in args.dataset])  # likewise
    command = shlex.join(["nnunet_transfer", *sys.argv[1:]])
    comparison = compare(
        args.dataset,
        out=args.output,
        arms=args.arms,
        settings=settings,
        processes=args.processes,
        text=ReportText(command=command, all_cases=args.all_cases, viewer=viewer, rankings=tuple(args.ranking)),
    )
    print((comparison.report.parent / "summary.txt").read_text(encoding="utf-8"))
    print(f"Report: {comparison.report}")
    return 0
