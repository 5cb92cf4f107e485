"""Measure semi-synthetic MS with 3 cases again, with three times the learning rate of `fitted`. Resumes, as `run.py`.

    python run_rates.py WORK OUT [--only PATTERN ...] [--stop FILE]

OUT is that of `run.py`, whose data sets and sources the trainings need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from run import FOLDS, LESION_ARM, MS, SCRATCH_FITTED, T1_ARM, curve_step
from trainings import Step, run_from_command_line

from nnunet_transfer import register_recipe
from nnunet_transfer.recipes import RECIPES

FASTER = replace(RECIPES["fitted"], name="fittedFaster", optimiser=replace(RECIPES["fitted"].optimiser, rate=3e-3))
CASES = 3
ARMS = tuple(replace(arm, key=f"{arm.key}-faster", recipe=FASTER.name) for arm in (SCRATCH_FITTED, T1_ARM, LESION_ARM))


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps."""
    for fold in FOLDS:
        yield from (curve_step(out, MS, arm, CASES, fold) for arm in ARMS)


if __name__ == "__main__":
    register_recipe(FASTER)
    run_from_command_line(__doc__, queue)
