"""Other numbers than those of `run.py`: a higher rate than that of `fitted`, a source with lesions that was trained three times
as long, and long trainings with all cases. Resumes, as `run.py`.

    python run_variants.py WORK OUT [--only PATTERN ...] [--stop FILE]

OUT is that of `run.py`, whose sources the trainings start from.
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

from measure import measure_curve
from run import (
    ANATOMY,
    FOLDS,
    LESION_ARM,
    LESION_TARGETS,
    PER_EPOCH,
    POINTS,
    SCRATCH_FITTED,
    SCRATCH_SGD,
    STROKE,
    T1_ARM,
    Arm,
    Source,
    curve_file,
    source_step,
)
from trainings import CONFIGURATION, Step, nnunet_environment, run_queue

from nnunet_transfer import register_recipe
from nnunet_transfer.naming import TrainerName
from nnunet_transfer.recipes import RECIPES

#: `fitted` with three times its learning rate
FASTER = replace(RECIPES["fitted"], name="fittedFaster", optimiser=replace(RECIPES["fitted"].optimiser, rate=3e-3))
FEW, MANY = 3, 8
#: the lesion arm's source, trained three times as long
PATIENT_SOURCE: Source = ("t1_segmentation", 314, "fitted", 90, 150, "sources_lesions_long")
PATIENT_ARM = replace(LESION_ARM, key="lesion-fitted-longsource", registry="sources_lesions_long")
LONG_FOLD = 0
LONG_POINTS = (0, 300, 750, 1500, 3000)
LONG_ARMS = (SCRATCH_SGD, SCRATCH_FITTED, replace(T1_ARM, key="t1seg-sgd", recipe="warmup"), T1_ARM)


def curve_step(
    out: Path, dataset: int, arm: Arm, suffix: str, cases: int, fold: int, points: tuple[int, ...], recipe: str
) -> Step:
    """Return the step that measures a curve, with a suffix to the arm's name; the fold is also the seed."""
    epochs = points[-1] // PER_EPOCH
    name = TrainerName(arm.trainer, recipe, cases=cases, epochs=epochs, iterations=PER_EPOCH, seed=fold)
    arguments = {
        "dataset": dataset,
        "trainer": str(name),
        "fold": fold,
        "out": curve_file(out, dataset, f"{arm.key}{suffix}", cases, fold),
        "configuration": CONFIGURATION,
        "epochs": [p // PER_EPOCH for p in points],
        "sources": out / "nnUNet_results" / arm.registry,
    }
    return Step(arguments["out"].stem, measure_curve, arguments, arguments["out"])


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps."""
    yield source_step(out, *PATIENT_SOURCE)
    for dataset in LESION_TARGETS:
        for fold in FOLDS:
            yield curve_step(out, dataset, PATIENT_ARM, "", FEW, fold, POINTS[PATIENT_ARM.length], PATIENT_ARM.recipe)
    for dataset in (*LESION_TARGETS, ANATOMY):
        for fold in FOLDS:
            for arm in (SCRATCH_FITTED, T1_ARM, *([LESION_ARM] if dataset in LESION_TARGETS else [])):
                yield curve_step(out, dataset, arm, "-faster", FEW, fold, POINTS[arm.length], FASTER.name)
    for dataset in (STROKE, ANATOMY):
        for arm in LONG_ARMS:
            yield curve_step(out, dataset, arm, "-long", MANY, LONG_FOLD, LONG_POINTS, arm.recipe)


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
