"""Measure Dice against training iterations for several arms and recipes, on one core.

    python run.py WORK OUT [--only PATTERN ...] [--stop FILE]

WORK holds the nnUNet_raw of `../real_input/prepare.py`; everything else is written to OUT. A run that was stopped goes on
with the next training. The trainings with 3 cases come first, then those with 1 and with 8. `table.py` reads the curves.
To use several cores, make the data sets and sources first (`--only 'prepare-*'`, then one process for each
`--only 'pretrain-*-312'`), then start a process per fold (`--only '*-fold0'`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from measure import make_source, measure_curve
from trainings import CONFIGURATION, Step, prepare, run_from_command_line

from nnunet_transfer.naming import TrainerName

PATCH, BATCH_SIZE = (64, 64), 8
FOLDS = range(4)
CASES = (3, 1, 8)
STROKE, ANATOMY, MS, REAL_MS = 321, 323, 324, 322
TARGETS = {
    STROKE: "semi-synthetic stroke",
    ANATOMY: "anatomy",
    MS: "semi-synthetic MS",
    REAL_MS: "real MS, T1 and FLAIR",
}
PER_EPOCH = 25
SCRATCH_LENGTH, TRANSFERRED_LENGTH, LONG_LENGTH = 800, 300, 2000
#: iterations after which the validation cases are predicted, by the length of the training
POINTS = {
    SCRATCH_LENGTH: (0, 100, 200, 400, 800),
    TRANSFERRED_LENGTH: (0, 25, 50, 75, 150, 200, 300),
    SCRATCH_LENGTH // 20: (),
    LONG_LENGTH: (0, 200, 500, 1000, 2000),
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
    per_epoch: int = PER_EPOCH


SCRATCH_FITTED = Arm(
    "scratch-fitted",
    "scratch, fitted",
    "nnUNetTrainerScratch",
    "fitted",
    SCRATCH_LENGTH,
)
SCRATCH_ADAMW = Arm("scratch-adamw", "scratch, AdamW", "nnUNetTrainerScratch", "adamw", SCRATCH_LENGTH)
SCRATCH_SGD = Arm("scratch-sgd", "scratch, SGD", "nnUNetTrainerScratch", "warmup", SCRATCH_LENGTH)
T1_ARM = Arm(
    "t1seg-fitted",
    "T1 segmentation, fitted",
    "nnUNetTrainerT1Segmentation",
    "fitted",
    TRANSFERRED_LENGTH,
)
#: the T1 arm whose source has seen lesions of other donors in the same images, too
LESION_ARM = replace(
    T1_ARM,
    key="lesion-fitted",
    title="T1 tissues and lesions, fitted",
    registry="sources_lesions",
)
#: the same source, trained three times as long
LONGER_LESION_ARM = replace(
    LESION_ARM,
    key="lesion-long-fitted",
    title="T1 tissues and lesions, longer, fitted",
    registry="sources_lesions_long",
)
#: the source of tissues alone, trained three times as long
LONGER_T1_ARM = replace(
    T1_ARM,
    key="t1seg-long-fitted",
    title="T1 segmentation, longer, fitted",
    registry="sources_long",
)
#: T1 arms whose sources have seen no image of a person: label maps became images, without and with lesions
SYNTHETIC_ARM = replace(
    T1_ARM,
    key="synthetic-fitted",
    title="synthetic T1 segmentation, fitted",
    registry="sources_synthetic",
)
SYNTHETIC_LESION_ARM = replace(
    T1_ARM,
    key="synthetic-lesion-fitted",
    title="synthetic T1 tissues and lesions, fitted",
    registry="sources_synthetic_lesions",
)
BY_NAME_ARM = replace(
    T1_ARM,
    key="t1seg-byname",
    title="T1 segmentation, by name",
    recipe="byName",
    targets=(ANATOMY,),
)


def faster(arm: Arm) -> Arm:
    """Return the arm with three times the learning rate."""
    return replace(arm, key=f"{arm.key}-faster", title=f"{arm.title}, rate 0.003", recipe="fittedFaster")


SCRATCH_FASTER, LONGER_T1_FASTER, LONGER_LESION_FASTER = map(faster, (SCRATCH_FITTED, LONGER_T1_ARM, LONGER_LESION_ARM))
NATURAL_ARM = Arm(
    "natural-fitted",
    "natural segmentation, fitted",
    "nnUNetTrainerNaturalSegmentation",
    "fitted",
    TRANSFERRED_LENGTH,
)
ARMS = (
    SCRATCH_ADAMW,
    SCRATCH_SGD,
    SCRATCH_FITTED,
    SCRATCH_FASTER,
    NATURAL_ARM,
    T1_ARM,
    BY_NAME_ARM,
    LONGER_T1_ARM,
    LONGER_T1_FASTER,
    LESION_ARM,
    LONGER_LESION_ARM,
    LONGER_LESION_FASTER,
    SYNTHETIC_ARM,
    SYNTHETIC_LESION_ARM,
)
Source = tuple[str, int, str, int, int, str]
#: name of the source, data set, recipe, epochs and iterations per epoch of its pre-training, registry below OUT
T1_SOURCE: Source = ("t1_segmentation", 312, "fitted", 30, 150, "sources")
LONGER_T1_SOURCE: Source = ("t1_segmentation", 312, "fitted", 90, 150, "sources_long")
NATURAL_SOURCE: Source = ("natural_segmentation", 302, "fitted", 20, 150, "sources")
#: made by `synthesize --images real` from the subjects of group train
LESION_SOURCE: Source = ("t1_segmentation", 314, "fitted", 30, 150, "sources_lesions")
LONGER_LESION_SOURCE: Source = ("t1_segmentation", 314, "fitted", 90, 150, "sources_lesions_long")
#: made by `synthesize` from label maps of other people, without and with lesions
SYNTHETIC_SOURCE: Source = ("t1_segmentation", 315, "fitted", 30, 150, "sources_synthetic")
SYNTHETIC_LESION_SOURCE: Source = ("t1_segmentation", 316, "fitted", 30, 150, "sources_synthetic_lesions")
SOURCES = (
    T1_SOURCE,
    LONGER_T1_SOURCE,
    LESION_SOURCE,
    LONGER_LESION_SOURCE,
    SYNTHETIC_SOURCE,
    SYNTHETIC_LESION_SOURCE,
    NATURAL_SOURCE,
)
LESION_TARGETS = (STROKE, MS)
FROM_SCRATCH = (SCRATCH_FITTED, SCRATCH_SGD, SCRATCH_ADAMW, SCRATCH_FASTER)


def preparation(out: Path, dataset: int) -> Step:
    """Return the step that prepares a data set."""
    from nnunet_transfer.paths import dataset_name

    result = out / "nnUNet_preprocessed" / dataset_name(dataset) / "splits_final.json"
    return Step(
        f"prepare-{dataset}",
        prepare,
        {"dataset": dataset, "patch": PATCH, "batch_size": BATCH_SIZE},
        result,
    )


def source_step(
    out: Path,
    source: str,
    dataset: int,
    recipe: str,
    epochs: int,
    iterations: int,
    folder: str,
) -> Step:
    """Return the step that pre-trains a source."""
    trainer = TrainerName(
        "nnUNetPretrainerSegmentation",
        recipe,
        epochs=epochs,
        iterations=iterations,
        seed=0,
    )
    arguments = {
        "dataset": dataset,
        "trainer": str(trainer),
        "out": out / "sources" / f"{folder}-{source}.json",
        "name": source,
        "sources": out / "nnUNet_results" / folder,
    }
    return Step(f"pretrain-{folder}-{source}-{dataset}", make_source, arguments, arguments["out"])


def curve_step(out: Path, dataset: int, arm: Arm, cases: int, fold: int) -> Step:
    """Return the step that measures a curve; the fold is also the seed."""
    epochs = arm.length // arm.per_epoch
    name = TrainerName(
        arm.trainer,
        arm.recipe,
        cases=cases,
        epochs=epochs,
        iterations=arm.per_epoch,
        seed=fold,
    )
    arguments = {
        "dataset": dataset,
        "trainer": str(name),
        "fold": fold,
        "out": curve_file(out, dataset, arm.key, cases, fold),
        "configuration": CONFIGURATION,
        "epochs": [p // arm.per_epoch for p in points(arm)],
        "sources": out / "nnUNet_results" / arm.registry,
    }
    return Step(arguments["out"].stem, measure_curve, arguments, arguments["out"])


def points(arm: Arm) -> Sequence[int]:
    """Return the iterations after which an arm is measured."""
    if arm.length not in POINTS:
        return (0, arm.length)
    if arm.per_epoch == PER_EPOCH:
        return POINTS[arm.length]
    return (*range(0, min(arm.length, 100) + 1, arm.per_epoch), *(p for p in POINTS[arm.length] if p > 100))


def curve_name(dataset: int, arm: str, cases: int, fold: int) -> str:
    """Return the name of a curve."""
    return f"{dataset}-{cases}cases-{arm}-fold{fold}"


def curve_file(out: Path, dataset: int, arm: str, cases: int, fold: int) -> Path:
    """Return where a curve is kept."""
    return out / "curves" / f"{curve_name(dataset, arm, cases, fold)}.json"


def queue(out: Path) -> Iterator[Step]:
    """Yield all steps in the order in which they are run: what is finished at any time is a comparison of its own."""
    for source in SOURCES:
        yield from pretraining(out, source)
    lesion_arms = (
        T1_ARM,
        LONGER_T1_ARM,
        LONGER_T1_FASTER,
        LESION_ARM,
        LONGER_LESION_ARM,
        LONGER_LESION_FASTER,
        SYNTHETIC_ARM,
        SYNTHETIC_LESION_ARM,
        *FROM_SCRATCH,
        NATURAL_ARM,
    )
    anatomy_arms = (T1_ARM, LONGER_T1_ARM, LONGER_T1_FASTER, BY_NAME_ARM, SYNTHETIC_ARM, *FROM_SCRATCH, NATURAL_ARM)
    for cases in CASES:
        for dataset in LESION_TARGETS:
            yield from curves(out, lesion_arms, dataset, cases)
        yield from curves(out, anatomy_arms, ANATOMY, cases)
    real_arms = (T1_ARM, LONGER_T1_ARM, LONGER_T1_FASTER, LESION_ARM, LONGER_LESION_ARM, LONGER_LESION_FASTER)
    yield from curves(out, (*real_arms, *FROM_SCRATCH), REAL_MS, CASES[0])


def pretraining(out: Path, source: Source) -> Iterator[Step]:
    """Yield the steps that make a source."""
    yield preparation(out, source[1])
    yield source_step(out, *source)


def curves(out: Path, arms: Iterable[Arm], dataset: int, cases: int) -> Iterator[Step]:
    """Yield the steps that measure the curves of these arms on a target, all arms of a fold together: they share batches."""
    yield preparation(out, dataset)
    for fold in FOLDS:
        yield from (curve_step(out, dataset, arm, cases, fold) for arm in arms if dataset in arm.targets)


if __name__ == "__main__":
    run_from_command_line(__doc__, queue)
