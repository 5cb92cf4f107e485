"""Run the whole study on small synthetic data, offline, without a GPU.

Example:
  nnunet_transfer demo --output my_demo --jobs 4

Six pre-trainings, then seven arms on three targets in two folds, then one report: some minutes on two cores. The
images are made from the MNI152 template and a few photos; the results say nothing about patients.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from nnunet_transfer.api import run_demo
from nnunet_transfer.commands.actions import given_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "-o",
        "--output",
        type=given_path,
        default=Path("nnunet_transfer_demo"),
        metavar="FOLDER",
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="resume an interrupted demo; finished steps are kept")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="K", help="seed of data and trainings (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="trainings at a time, one core each (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="one target, two arms, a few iterations")


def run(args: argparse.Namespace) -> int:
    """Run the demo and print where the report lies."""
    from nnunet_transfer.study.demo import note

    start = time.monotonic()
    report = run_demo(args.output, quick=args.quick, seed=args.seed, jobs=args.jobs, resume=args.resume)
    print((report.parent / "summary.txt").read_text(encoding="utf-8"))
    print(note())
    print(f"Report: {report} ({(time.monotonic() - start) / 60:.1f} minutes)")
    return 0
