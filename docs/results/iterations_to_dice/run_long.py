"""Trainings with all 8 cases and 2000 iterations: is the default recipe right there, too? Resumes, as `run.py`.

    python run_long.py WORK OUT [--only PATTERN ...] [--stop FILE]

`full`, nnU-Net's own schedule, beside `fitted` and `fitted` with three times the rate, from scratch and from T1 segmentation.
OUT is that of `run.py`, whose data sets and source the trainings need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from run import ANATOMY, LONG_LENGTH, MS, SCRATCH_FITTED, STROKE, T1_ARM, curve_step, faster, preparation
from trainings import Step, run_from_command_line

CASES = 8
#: each arm of a target takes some four minutes of a core
FOLDS = range(2)
RECIPE_ARMS = tuple(
    replace(arm, key=f"{source}-{recipe}-long", title=f"{title}, {recipe}", recipe=recipe, length=LONG_LENGTH)
    for source, title, arm in (("scratch", "scratch", SCRATCH_FITTED), ("t1seg", "T1 segmentation", T1_ARM))
    for recipe in ("full", "fitted")
)
ARMS = (*RECIPE_ARMS, *(faster(arm) for arm in RECIPE_ARMS if arm.recipe == "fitted"))


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps: all targets of a fold before the next fold."""
    for dataset in (STROKE, ANATOMY, MS):
        yield preparation(out, dataset)
    for fold in FOLDS:
        for dataset in (MS, STROKE, ANATOMY):
            yield from (curve_step(out, dataset, arm, CASES, fold) for arm in ARMS)


if __name__ == "__main__":
    run_from_command_line(__doc__, queue)
