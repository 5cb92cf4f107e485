"""The two extreme targets in 3D, at 3 mm: a source, then curves from scratch and from it. Resumes, as `run.py`.

python run_3d.py WORK OUT [--stop FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from measure import measure_curve
from run import Arm, curve_file, faster
from trainings import PLANS, Step, prepare, run_from_command_line, train

from nnunet_transfer.naming import TrainerName

CONFIGURATION = "3d_fullres"
PATCH, BATCH_SIZE, SPACING = (40, 48, 40), 2, (3.0, 3.0, 3.0)
SOURCE_DATASET, STROKE, ANATOMY = 332, 341, 343
TITLES = {STROKE: "semi-synthetic stroke", ANATOMY: "anatomy"}
PRETRAINING = (24, 50)
CASES, FOLDS, PER_EPOCH = 3, range(4), 25
SCRATCH_LENGTH, TRANSFERRED_LENGTH = 300, 100
POINTS = {SCRATCH_LENGTH: (0, 50, 100, 150, 200, 300), TRANSFERRED_LENGTH: (0, 25, 50, 100)}
T1_ARM = Arm("t1seg-fitted", "T1 segmentation, fitted", "nnUNetTrainerT1Segmentation", "fitted", TRANSFERRED_LENGTH)
SCRATCH_FITTED = Arm("scratch-fitted", "scratch, fitted", "nnUNetTrainerScratch", "fitted", SCRATCH_LENGTH)
ARMS = (
    T1_ARM,
    faster(T1_ARM),
    SCRATCH_FITTED,
    faster(SCRATCH_FITTED),
    Arm("scratch-adamw", "scratch, AdamW", "nnUNetTrainerScratch", "adamw", SCRATCH_LENGTH),
    Arm("scratch-full", "scratch, nnU-Net's schedule", "nnUNetTrainerScratch", "full", SCRATCH_LENGTH),
)


def preparation(out: Path, dataset: int) -> Step:
    """Return the step that prepares a data set."""
    from nnunet_transfer.paths import dataset_name

    arguments = {
        "dataset": dataset,
        "patch": PATCH,
        "batch_size": BATCH_SIZE,
        "configuration": CONFIGURATION,
        "spacing": SPACING,
    }
    result = out / "nnUNet_preprocessed" / dataset_name(dataset) / "splits_final.json"
    return Step(f"prepare-{dataset}", prepare, arguments, result)


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps: both targets of a fold before the next fold."""
    from nnunet_transfer.paths import dataset_name

    yield preparation(out, SOURCE_DATASET)
    epochs, iterations = PRETRAINING
    trainer = str(TrainerName("nnUNetPretrainerSegmentation", "fitted", epochs=epochs, iterations=iterations, seed=0))
    results = out / "nnUNet_results"
    sources = results / "sources_3d"  # that of 2D has the same name
    arguments = {
        "dataset": SOURCE_DATASET,
        "trainer": trainer,
        "fold": 0,
        "configuration": CONFIGURATION,
        "source_name": "t1_segmentation",
        "sources": sources,
    }
    model = results / dataset_name(SOURCE_DATASET) / f"{trainer}__{PLANS}__{CONFIGURATION}" / "fold_0"
    yield Step("pretrain-3d", train, arguments, model / "validation" / "summary.json")
    for target in TITLES:
        yield preparation(out, target)
    for fold in FOLDS:
        for target in TITLES:
            for arm in ARMS:
                name = TrainerName(
                    arm.trainer,
                    arm.recipe,
                    cases=CASES,
                    epochs=arm.length // PER_EPOCH,
                    iterations=PER_EPOCH,
                    seed=fold,
                )
                file = curve_file(out, target, arm.key, CASES, fold)
                arguments = {
                    "dataset": target,
                    "trainer": str(name),
                    "fold": fold,
                    "out": file,
                    "configuration": CONFIGURATION,
                    "epochs": [p // PER_EPOCH for p in POINTS[arm.length]],
                    "sources": sources,
                }
                yield Step(file.stem, measure_curve, arguments, file)


if __name__ == "__main__":
    run_from_command_line(__doc__, queue)
