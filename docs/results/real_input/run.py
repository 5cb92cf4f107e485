"""Run the study on the data sets of `prepare.py`: plan, preprocess, pre-train, fine-tune, compare; all in 2D on a CPU.

    python run.py WORK OUT [--targets 321 323] [--stop FILE]

WORK holds nnUNet_raw; everything else is written beside it. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from trainings import CONFIGURATION, PLANS, Step, nnunet_environment, prepare, run_queue, train

from nnunet_transfer.comparison import CompareSettings, ReportText, compare
from nnunet_transfer.naming import ARMS, TrainerName
from nnunet_transfer.paths import dataset_name

RECIPE = "fitted"
#: source -> (data set, pretrainer)
SOURCES = {
    "natural_classification": (301, "nnUNetPretrainerClassification"),
    "natural_segmentation": (302, "nnUNetPretrainerSegmentation"),
    "natural_self_supervised": (303, "nnUNetPretrainerSelfSupervised"),
    "t1_classification": (311, "nnUNetPretrainerClassification"),
    "t1_segmentation": (312, "nnUNetPretrainerSegmentation"),
    "t1_self_supervised": (313, "nnUNetPretrainerSelfSupervised"),
}
#: target -> folds that are run
FOLDS = {321: 4, 322: 4, 323: 4, 324: 4}
PROTOCOLS = {321: ("atlas_r2",), 322: ("msseg2016",), 323: (), 324: ("msseg2016",)}
BATCH_SIZE = 8
#: T1 slices are about 103 x 80 pixels
T1_PATCH = (96, 80)
#: MS lesions are so small that they are learnt sooner from patches that hold little else
PATCHES = {301: (64, 64), 302: (64, 64), 303: (64, 64), 322: (48, 48)}
NOTE = (
    "The stroke target is SEMI-SYNTHETIC: real T1 and real lesion shapes, modelled lesion intensities. Few subjects, "
    "2D at 2 mm, a small network and short trainings: see the write-up before reading anything into the numbers."
)


def study_steps(
    work: Path, pretrain: tuple[int, int], finetune: tuple[int, int], seed: int, targets: list[int]
) -> Iterator[Step]:
    """Yield all steps but the comparison, fold after fold."""
    for name, (dataset, base) in SOURCES.items():
        yield preparation(work, dataset)
        trainer = str(TrainerName(base, epochs=pretrain[0], iterations=pretrain[1], seed=seed))
        arguments = {"dataset": dataset, "trainer": trainer, "fold": 0, "source_name": name}
        yield Step(f"pretrain-{name}", train, arguments, summary_file(work, dataset, trainer, 0))
    for dataset in targets:
        yield preparation(work, dataset)
        for fold in range(FOLDS[dataset]):
            for arm in ARMS:
                trainer = arm_name(arm, finetune, seed)
                arguments = {"dataset": dataset, "trainer": trainer, "fold": fold}
                result = summary_file(work, dataset, trainer, fold)
                yield Step(f"train-{dataset}-{trainer}-{fold}", train, arguments, result)


def preparation(work: Path, dataset: int) -> Step:
    """Return the step that prepares a data set."""
    arguments = {"dataset": dataset, "patch": PATCHES.get(dataset, T1_PATCH), "batch_size": BATCH_SIZE}
    result = work / "nnUNet_preprocessed" / dataset_name(dataset) / "splits_final.json"
    return Step(f"prepare-{dataset}", prepare, arguments, result)


def summary_file(work: Path, dataset: int, trainer: str, fold: int) -> Path:
    """Return the summary that a finished training leaves."""
    folder = work / "nnUNet_results" / dataset_name(dataset) / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"
    return folder / "validation" / "summary.json"


def arm_name(arm: str, finetune: tuple[int, int], seed: int) -> str:
    """Return an arm's trainer name with the study's budget."""
    return str(TrainerName(arm, RECIPE, epochs=finetune[0], iterations=finetune[1], seed=seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stop", type=Path, help="end after the present training once this file appears")
    parser.add_argument("--pretrain", type=int, nargs=2, default=(40, 150), metavar=("EPOCHS", "ITERATIONS"))
    parser.add_argument("--finetune", type=int, nargs=2, default=(20, 50), metavar=("EPOCHS", "ITERATIONS"))
    parser.add_argument("--targets", type=int, nargs="+", choices=list(FOLDS), default=list(FOLDS), metavar="ID")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    work = args.work.resolve()
    os.environ.update(nnunet_environment(work / "nnUNet_raw", work))
    finetune = tuple(args.finetune)
    steps = list(study_steps(work, tuple(args.pretrain), finetune, args.seed, args.targets))
    if run_queue(steps, work / "logs", args.stop) or not all(step.result.exists() for step in steps):
        sys.exit("some steps are not done; see the logs, then run again")
    compare(
        args.targets,
        out=args.out,
        arms=[arm_name(arm, finetune, args.seed) for arm in ARMS],
        settings=CompareSettings(
            configuration=CONFIGURATION,
            plans=PLANS,
            protocols={target: PROTOCOLS[target] for target in args.targets},
        ),
        text=ReportText(NOTE),
    )


if __name__ == "__main__":
    main()
