"""Measure Dice against training iterations for several arms and recipes, on one core.

    python run.py WORK OUT [--stop FILE]

WORK holds the nnUNet_raw of `../real_input/prepare.py`; everything else is written to OUT. A run that was stopped goes on
with the next training. The trainings with 3 cases come first, then those with 1 and with 8. `table.py` reads the curves.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from measure import measure_curve
from trainings import CONFIGURATION, PLANS, Step, nnunet_environment, prepare, run_queue, train

from nnunet_transfer.naming import TrainerName

PATCH, BATCH_SIZE = (64, 64), 8
FOLDS = range(4)
CASES = (3, 1, 8)
STROKE, ANATOMY, MS = 321, 323, 324
TARGETS = {STROKE: "semi-synthetic stroke", ANATOMY: "anatomy", MS: "semi-synthetic MS"}
PER_EPOCH = 25
SCRATCH_LENGTH, TRANSFERRED_LENGTH = 800, 300
#: iterations after which the validation cases are predicted, by the length of the training
POINTS = {
    SCRATCH_LENGTH: (0, 50, 100, 150, 200, 300, 400, 600, 800),
    TRANSFERRED_LENGTH: (0, 25, 50, 75, 100, 150, 200, 300),
}


@dataclass(frozen=True)
class Arm:
    """One curve's arm: trainer, recipe, length of the training, the targets it applies to, and the sources' registry."""

    key: str
    title: str
    trainer: str
    recipe: str
    length: int
    targets: tuple[int, ...] = tuple(TARGETS)
    registry: str = "sources"


FIRST_ARMS = (
    Arm("scratch-fitted", "scratch, fitted", "nnUNetTrainerScratch", "fitted", SCRATCH_LENGTH),
    Arm("t1seg-fitted", "T1 segmentation, fitted", "nnUNetTrainerT1Segmentation", "fitted", TRANSFERRED_LENGTH),
)
NATURAL_ARM = Arm(
    "natural-fitted", "natural segmentation, fitted", "nnUNetTrainerNaturalSegmentation", "fitted", TRANSFERRED_LENGTH
)
#: the T1 arm whose source has seen lesions of other donors in the same images, too
LESION_ARM = Arm(
    "lesion-fitted",
    "T1 tissues and lesions, fitted",
    "nnUNetTrainerT1Segmentation",
    "fitted",
    TRANSFERRED_LENGTH,
    (STROKE, MS),
    "sources_lesions",
)
LONG_LESION_ARM = replace(
    LESION_ARM,
    key="lesion-long-fitted",
    title="the same, source trained twice as long",
    targets=(STROKE,),
    registry="sources_lesions_long",
)
OTHER_SCRATCH = (
    Arm("scratch-adamw", "scratch, AdamW", "nnUNetTrainerScratch", "adamw", SCRATCH_LENGTH),
    Arm("scratch-sgd", "scratch, SGD", "nnUNetTrainerScratch", "warmup", SCRATCH_LENGTH),
)
ARMS = (*OTHER_SCRATCH, *FIRST_ARMS, NATURAL_ARM, LESION_ARM, LONG_LESION_ARM)
#: name of the source, data set, epochs and iterations per epoch of its pre-training, registry below OUT
T1_SOURCE = ("t1_segmentation", 312, 40, 150, "sources")
NATURAL_SOURCE = ("natural_segmentation", 302, 24, 150, "sources")
#: the MS target's folds 2 and 3 have the subjects of group train: their T1 source knows those of group test only
OTHER_T1_SOURCE = ("t1_segmentation", ANATOMY, 30, 150, "sources_of_test")
#: made by `synthesize --images real` from the subjects of group train, and of group test
LESION_SOURCE = ("t1_segmentation", 314, 30, 150, "sources_lesions")
LONG_LESION_SOURCE = ("t1_segmentation", 314, 60, 150, "sources_lesions_long")
OTHER_LESION_SOURCE = ("t1_segmentation", 318, 20, 150, "sources_lesions_of_test")


def registry(out: Path, dataset: int, fold: int, name: str) -> Path:
    """Return the registry whose T1 sources have not seen the subjects of this fold."""
    return out / "nnUNet_results" / (f"{name}_of_test" if dataset == MS and fold >= 2 else name)


def preparation(out: Path, dataset: int) -> Step:
    """Return the step that prepares a data set."""
    from nnunet_transfer.paths import dataset_name

    result = out / "nnUNet_preprocessed" / dataset_name(dataset) / "splits_final.json"
    return Step(f"prepare-{dataset}", prepare, {"dataset": dataset, "patch": PATCH, "batch_size": BATCH_SIZE}, result)


def source_step(out: Path, source: str, dataset: int, epochs: int, iterations: int, folder: str) -> Step:
    """Return the step that pre-trains a source."""
    trainer = str(TrainerName("nnUNetPretrainerSegmentation", epochs=epochs, iterations=iterations, seed=0))
    arguments = {
        "dataset": dataset,
        "trainer": trainer,
        "fold": 0,
        "source_name": source,
        "sources": out / "nnUNet_results" / folder,
    }
    return Step(f"pretrain-{source}-{dataset}-{epochs}epochs", train, arguments, result_of(out, dataset, trainer, 0))


def result_of(out: Path, dataset: int, trainer: str, fold: int) -> Path:
    """Return the summary that a finished training with validation leaves."""
    from nnunet_transfer.paths import dataset_name

    folder = out / "nnUNet_results" / dataset_name(dataset) / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"
    return folder / "validation" / "summary.json"


def curve_step(out: Path, dataset: int, arm: Arm, cases: int, fold: int) -> Step:
    """Return the step that measures a curve; the fold is also the seed."""
    epochs = arm.length // PER_EPOCH
    name = TrainerName(arm.trainer, arm.recipe, cases=cases, epochs=epochs, iterations=PER_EPOCH, seed=fold)
    arguments = {
        "dataset": dataset,
        "trainer": str(name),
        "fold": fold,
        "out": curve_file(out, dataset, arm.key, cases, fold),
        "configuration": CONFIGURATION,
        "epochs": [p // PER_EPOCH for p in POINTS[arm.length]],
        "sources": registry(out, dataset, fold, arm.registry),
    }
    return Step(arguments["out"].stem, measure_curve, arguments, arguments["out"])


def curve_file(out: Path, dataset: int, arm: str, cases: int, fold: int) -> Path:
    """Return where a curve is kept."""
    return out / "curves" / f"{dataset}-{cases}cases-{arm}-fold{fold}.json"


def share_source(out: Path, name: str) -> Step:
    """Return the step that copies a source that has seen no brain into the other registry."""
    folder = out / "nnUNet_results"
    result = folder / "sources_of_test" / name
    arguments = {"src": folder / "sources" / name, "dst": result}
    return Step(f"share-{name}", shutil.copytree, arguments, result)


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps in the order in which they are run: what is finished at any time is a comparison of its own."""
    yield from pretraining(out, T1_SOURCE)
    cases = CASES[0]
    for dataset in (STROKE, ANATOMY):
        yield from curves(out, FIRST_ARMS, dataset, cases)
    yield from pretraining(out, OTHER_T1_SOURCE)
    yield from curves(out, FIRST_ARMS, MS, cases)
    yield from pretraining(out, NATURAL_SOURCE)
    yield share_source(out, NATURAL_SOURCE[0])
    for arms in ([NATURAL_ARM], OTHER_SCRATCH):
        for dataset in TARGETS:
            yield from curves(out, arms, dataset, cases)
    yield from pretraining(out, LESION_SOURCE)
    yield from curves(out, [LESION_ARM], STROKE, cases)
    yield from pretraining(out, OTHER_LESION_SOURCE)
    yield from curves(out, [LESION_ARM], MS, cases)
    yield from pretraining(out, LONG_LESION_SOURCE)
    yield from curves(out, [LONG_LESION_ARM], STROKE, cases)
    for cases in CASES[1:]:
        for arms in (FIRST_ARMS, [LESION_ARM], [NATURAL_ARM], OTHER_SCRATCH):
            for dataset in TARGETS:
                yield from curves(out, arms, dataset, cases)


def pretraining(out: Path, source: tuple[str, int, int, int, str]) -> Iterator[Step]:
    """Yield the steps that make a source."""
    yield preparation(out, source[1])
    yield source_step(out, *source)


def curves(out: Path, arms: Iterable[Arm], dataset: int, cases: int) -> Iterator[Step]:
    """Yield the steps that measure the curves of these arms on a target, all folds of an arm together."""
    yield preparation(out, dataset)
    for arm in arms:
        if dataset in arm.targets:
            yield from (curve_step(out, dataset, arm, cases, fold) for fold in FOLDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stop", type=Path, help="end after the present training once this file appears")
    args = parser.parse_args()
    out = args.out.resolve()
    os.environ.update(nnunet_environment(args.work.resolve() / "nnUNet_raw", out))
    (out / "curves").mkdir(exist_ok=True)
    failed = run_queue(list(queue(out)), out / "logs", args.stop)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
