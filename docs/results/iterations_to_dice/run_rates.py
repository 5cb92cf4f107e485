"""Measure semi-synthetic MS with 3 cases again, with three times the learning rate of `fitted`. Resumes, as `run.py`.

    python run_rates.py WORK OUT [--only PATTERN ...] [--stop FILE]

OUT is that of `run.py`, whose data sets and sources the trainings need.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from run import FOLDS, LESION_ARM, MS, SCRATCH_FITTED, T1_ARM, curve_step
from trainings import Step, nnunet_environment, run_queue

from nnunet_transfer import register_recipe
from nnunet_transfer.recipes import RECIPES

FASTER = replace(RECIPES["fitted"], name="fittedFaster", optimiser=replace(RECIPES["fitted"].optimiser, rate=3e-3))
CASES = 3
ARMS = tuple(replace(arm, key=f"{arm.key}-faster", recipe=FASTER.name) for arm in (SCRATCH_FITTED, T1_ARM, LESION_ARM))


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps."""
    for fold in FOLDS:
        yield from (curve_step(out, MS, arm, CASES, fold) for arm in ARMS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stop", type=Path, help="end after the present training once this file appears")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="PATTERN", help="run the steps alone whose names match one of these"
    )
    args = parser.parse_args()
    out = args.out.resolve()
    os.environ.update(nnunet_environment(args.work.resolve() / "nnUNet_raw", out))
    register_recipe(FASTER)
    steps = [step for step in queue(out) if any(fnmatch(step.name, pattern) for pattern in args.only)]
    failed = run_queue(steps, out / "logs", args.stop)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
