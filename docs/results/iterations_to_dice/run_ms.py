"""Semi-synthetic MS with 3 cases: what else may help there. Resumes, as `run.py`.

    python run_ms.py WORK OUT [--only PATTERN ...] [--stop FILE]

A higher learning rate, a source whose lesions are those of MS alone, and fine-tuning that ends after 40 iterations, a
twentieth of what scratch has. OUT is that of `run.py`, whose data sets and sources the trainings need; data set 317 is made
by `synthesize`, as the write-up says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from run import (
    FOLDS,
    LESION_ARM,
    LONGER_LESION_ARM,
    MS,
    SCRATCH_LENGTH,
    T1_ARM,
    Arm,
    Source,
    curve_step,
    faster,
    preparation,
    pretraining,
)
from trainings import Step, run_from_command_line

CASES = 3
#: a twentieth of a training from scratch, and the epochs' iterations that divide it
SHORT, SHORT_EPOCH = SCRATCH_LENGTH // 20, 10
MS_SOURCE: Source = ("t1_segmentation", 317, "fitted", 60, 150, "sources_ms_lesions")
MS_ARM = replace(LESION_ARM, key="lesion-ms-fitted", title="tissues and MS lesions", registry=MS_SOURCE[-1])
TRANSFERRED = (T1_ARM, LESION_ARM, LONGER_LESION_ARM, MS_ARM)


def short(arm: Arm) -> Arm:
    """Return the arm with a training of 40 iterations, at the end of which the rate is 0."""
    return replace(
        arm, key=f"{arm.key}-short", title=f"{arm.title}, 40 iterations", length=SHORT, per_epoch=SHORT_EPOCH
    )


def finely(arm: Arm) -> Arm:
    """Return the arm with short epochs, so that it can be measured every 10 iterations."""
    return replace(arm, key=f"{arm.key}-finely", title=f"{arm.title}, measured often", per_epoch=SHORT_EPOCH)


ARMS = (
    MS_ARM,
    finely(LONGER_LESION_ARM),
    *map(short, TRANSFERRED),
    *map(faster, (T1_ARM, LESION_ARM, MS_ARM)),  # the other two are arms of `run.py`
    *(short(faster(arm)) for arm in TRANSFERRED),
)


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps."""
    yield from pretraining(out, MS_SOURCE)
    yield preparation(out, MS)
    for fold in FOLDS:
        yield from (curve_step(out, MS, arm, CASES, fold) for arm in ARMS)


if __name__ == "__main__":
    run_from_command_line(__doc__, queue)
