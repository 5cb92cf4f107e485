"""Lesions in few iterations: each length of training by itself, so that its learning rate falls to 0. Resumes, as `run.py`.

    python run_lengths.py WORK OUT [--only PATTERN ...] [--stop FILE]

Early in a training of 300 iterations the rate is still high. Here 40, 80 and 200 iterations are trainings of their own, from
the longer source of tissues alone, on both lesion targets; and again with three times the rate. OUT is that of `run.py`,
whose data sets and sources the trainings need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from run import (
    CASES,
    FOLDS,
    LESION_TARGETS,
    LONGER_T1_ARM,
    LONGER_T1_FASTER,
    Arm,
    curve_name,
    curve_step,
    preparation,
)
from trainings import Step, run_from_command_line

LENGTHS = (40, 80, 200)
#: divides all lengths
PER_EPOCH = 20
TRANSFERRED = (LONGER_T1_ARM, LONGER_T1_FASTER)


def of_length(arm: Arm, length: int) -> Arm:
    """Return the arm with a training of this length."""
    return replace(
        arm,
        key=f"{arm.key}-{length}",
        title=f"{arm.title}, {length} iterations",
        length=length,
        per_epoch=PER_EPOCH,
    )


def joined(arm: Arm) -> Arm:
    """Return the arm whose curve is made of the ends of trainings of several lengths."""
    return replace(arm, key=f"{arm.key}-lengths", title=f"{arm.title}, each length by itself")


JOINED = tuple(map(joined, TRANSFERRED))


def join(curves: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """Return the curves of the joined arms: the Dice before any training, and that with which each length ends."""
    found = {}
    for arm in TRANSFERRED:
        for dataset in LESION_TARGETS:
            for cases in CASES:
                for fold in FOLDS:
                    names = [
                        curve_name(dataset, key, cases, fold)
                        for key in (*(of_length(arm, length).key for length in LENGTHS), arm.key)
                    ]
                    parts = [curves[name] for name in names if name in curves]
                    if len(parts) >= len(LENGTHS):
                        ends = {max(part): part[max(part)] for part in parts}
                        found[curve_name(dataset, joined(arm).key, cases, fold)] = {0: parts[0][0], **ends}
    return found


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps, those of a rate together."""
    for dataset in LESION_TARGETS:
        yield preparation(out, dataset)
    for arm in TRANSFERRED:
        arms = [of_length(arm, length) for length in LENGTHS]
        for cases in CASES:
            for dataset in LESION_TARGETS:
                for fold in FOLDS:
                    yield from (curve_step(out, dataset, one, cases, fold) for one in arms)


if __name__ == "__main__":
    run_from_command_line(__doc__, queue)
