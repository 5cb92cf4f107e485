"""Run the study on the data sets of `prepare.py`: plan, preprocess, pre-train, fine-tune, compare; all in 2D on a CPU.

    python run.py WORK OUT [--targets 321 323] [--jobs 2]

WORK holds nnUNet_raw; everything else is written beside it. The steps, their resuming and the report are the demo's;
only the data and the budget differ. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from nnunet_transfer.comparison import compare
from nnunet_transfer.demo.runner import Step, run_steps
from nnunet_transfer.naming import ARMS, TrainerName

PLANS, CONFIGURATION = "nnUNetPlans_demo", "2d"
#: source -> (data set, pretrainer)
SOURCES = {
    "natural_classification": (301, "nnUNetPretrainerClassification"),
    "natural_segmentation": (302, "nnUNetPretrainerSegmentation"),
    "natural_self_supervised": (303, "nnUNetPretrainerSelfSupervised"),
    "t1_classification": (311, "nnUNetPretrainerClassification"),
    "t1_segmentation": (312, "nnUNetPretrainerSegmentation"),
    "t1_self_supervised": (313, "nnUNetPretrainerSelfSupervised"),
}
#: target -> number of folds in its splits
FOLDS = {321: 3, 322: 4, 323: 3}
PROTOCOLS = {321: ("atlas_r2",), 322: ("msseg2016",), 323: ()}
BATCH_SIZE = 8
#: T1 slices are about 103 x 80 pixels
T1_PATCH = (96, 80)
#: MS lesions are so small that they are learnt sooner from patches that hold little else
PATCHES = {301: (64, 64), 302: (64, 64), 303: (64, 64), 322: (48, 48)}
NOTE = (
    "The stroke target is SEMI-SYNTHETIC: real T1 and real lesion shapes, modelled lesion intensities. Few subjects, "
    "2D at 2 mm, a small network and short trainings: see the write-up before reading anything into the numbers."
)


def prepare(dataset: int, patch: tuple[int, int] | None = None, batch_size: int = BATCH_SIZE) -> None:
    """Fingerprint, plan and preprocess one data set for 2D, and install its splits."""
    from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
    from nnunet_transfer.paths import nnunet_raw
    from nnunet_transfer.plans import write_transfer_plans

    folder = extract_fingerprint_in_process(dataset)
    patch = patch or PATCHES.get(dataset, T1_PATCH)
    write_transfer_plans(
        dataset, profile="demo", configurations=[CONFIGURATION], patch_size=patch, batch_size=batch_size
    )
    preprocess_in_process(dataset, PLANS, [CONFIGURATION])
    shutil.copyfile(nnunet_raw() / folder.name / "splits_final.json", folder / "splits_final.json")


def train(dataset: int, trainer: str, fold: int, source_name: str = "") -> None:
    """Train and validate, on from the last checkpoint if there is one."""
    import torch

    from nnunet_transfer._nnunet import run_training_in_process
    from nnunet_transfer.trainers import get_trainer_class

    if source_name:
        os.environ["nnUNet_source_name"] = source_name
    run_training_in_process(
        dataset,
        CONFIGURATION,
        fold,
        get_trainer_class(trainer),
        PLANS,
        device=torch.device("cpu"),
        continue_training=True,  # starts anew where there is no checkpoint
    )


def study_steps(pretrain: tuple[int, int], finetune: tuple[int, int], seed: int, targets: list[int]) -> list[Step]:
    """Return all steps but the comparison."""
    datasets = [dataset for dataset, _ in SOURCES.values()] + targets
    steps = [Step(f"prepare-{d}", prepare, {"dataset": d}, weight=3) for d in datasets]
    for name, (dataset, base) in SOURCES.items():
        trainer = str(TrainerName(base, epochs=pretrain[0], iterations=pretrain[1], seed=seed))
        arguments = {"dataset": dataset, "trainer": trainer, "fold": 0, "source_name": name}
        steps.append(Step(f"pretrain-{name}", train, arguments, (f"prepare-{dataset}",), weight=5))
    for dataset in targets:
        for fold in range(FOLDS[dataset]):
            for arm, source in ARMS.items():
                needs = (f"prepare-{dataset}", *([f"pretrain-{source}"] if source else []))
                arguments = {"dataset": dataset, "trainer": arm_name(arm, finetune, seed), "fold": fold}
                name = f"train-{dataset}-{arm_name(arm, finetune, seed)}-{fold}"
                steps.append(Step(name, train, arguments, needs, weight=2))
    return steps


def arm_name(arm: str, finetune: tuple[int, int], seed: int) -> str:
    """Return an arm's trainer name with the study's budget."""
    return str(TrainerName(arm, epochs=finetune[0], iterations=finetune[1], seed=seed))


def nnunet_environment(folder: Path) -> dict[str, str]:
    """Make nnU-Net's three folders below `folder`; return the variables that name them and keep work in process."""
    folders = {name: folder / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    return {
        **{name: str(path) for name, path in folders.items()},
        "nnUNet_sources": str(folders["nnUNet_results"] / "sources"),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "0",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--pretrain", type=int, nargs=2, default=(10, 40), metavar=("EPOCHS", "ITERATIONS"))
    parser.add_argument("--finetune", type=int, nargs=2, default=(8, 25), metavar=("EPOCHS", "ITERATIONS"))
    parser.add_argument("--targets", type=int, nargs="+", choices=list(FOLDS), default=list(FOLDS), metavar="ID")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    work = args.work.resolve()
    environment = nnunet_environment(work)
    finetune = tuple(args.finetune)
    steps = study_steps(tuple(args.pretrain), finetune, args.seed, args.targets)
    run_steps(steps, work / "steps", jobs=args.jobs, environment=environment, description="study")
    os.environ.update(environment)
    compare(
        args.targets,
        out=args.out,
        arms=[arm_name(arm, finetune, args.seed) for arm in ARMS],
        configuration=CONFIGURATION,
        plans=PLANS,
        protocols={target: PROTOCOLS[target] for target in args.targets},
        note=NOTE,
    )


if __name__ == "__main__":
    main()
