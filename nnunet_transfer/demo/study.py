"""The demo: the complete study on small synthetic data, as steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.demo import datasets
from nnunet_transfer.demo.runner import Step, run_steps
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import ARMS, DEFAULT_PRETRAINERS, TrainerName

NOTE = (
    "All images of this demo are synthetic: T1-like subjects made from the MNI152 template and crops of a few photos. "
    "The numbers show that the parts work together; they say nothing about patients."
)
PLANS = "nnUNetPlans_demo"
CONFIGURATION = "2d"
#: half a slab: small patches around the foreground show the lesions often enough to be learnt in minutes
PATCH_SIZE = (32, 32)
BATCH_SIZE = 8
#: enough for percentiles of such small images
FINGERPRINT_VOXELS = 1_000_000
OPTIONS_FILE = "demo.json"


@dataclass(frozen=True)
class DemoDataset:
    """A data set of the demo: its id, who writes it, and by which lesion protocol it is compared."""

    dataset_id: int
    write: Callable[[Path, int, int], Path]
    protocols: tuple[str, ...] = ()


SOURCE_DATA = {name: DemoDataset(*datasets.DATASETS[name]) for name in ("natural", "t1")}
TARGETS = {
    "stroke": DemoDataset(*datasets.DATASETS["stroke"], ("atlas_r2",)),
    "ms": DemoDataset(*datasets.DATASETS["ms"], ("msseg2016",)),
    "anatomy": DemoDataset(*datasets.DATASETS["anatomy"]),
}


@dataclass(frozen=True)
class Budget:
    """How much is run: pre-training and fine-tuning in (epochs, iterations per epoch), arms, targets, folds."""

    pretrain: tuple[int, int] = (5, 100)
    finetune: tuple[int, int] = (5, 80)
    arms: tuple[str, ...] = tuple(ARMS)
    targets: tuple[str, ...] = tuple(TARGETS)
    folds: tuple[int, ...] = (0, 1)


FULL = Budget()
#: a look at the machinery in about a minute
QUICK = Budget(
    pretrain=(1, 5),
    finetune=(1, 5),
    arms=("nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"),
    targets=("stroke",),
)


def demo_steps(raw: Path, budget: Budget, seed: int) -> list[Step]:
    """Return all steps but the comparison, in an order that respects their needs."""
    sources = {ARMS[arm] for arm in budget.arms} - {None}
    steps = []
    used = {name: SOURCE_DATA[name] for name in SOURCE_DATA if any(s and s.startswith(name) for s in sources)}
    used |= {name: TARGETS[name] for name in budget.targets}
    for name, data in used.items():
        arguments = {"name": name, "raw": raw, "seed": seed}
        steps.append(Step(f"data-{name}", make_data, arguments, weight=1))
        steps.append(Step(f"prepare-{name}", prepare, {"dataset": data.dataset_id}, (f"data-{name}",), weight=1))
    epochs, iterations = budget.pretrain
    for domain, data in SOURCE_DATA.items():
        for task, base in DEFAULT_PRETRAINERS.items():
            source = f"{domain}_{task}"
            if source in sources:
                trainer = str(TrainerName(base, epochs=epochs, iterations=iterations, seed=seed))
                arguments = {"dataset": data.dataset_id, "trainer": trainer, "fold": 0, "source_name": source}
                steps.append(Step(f"pretrain-{source}", train, arguments, (f"prepare-{domain}",), weight=8))
    epochs, iterations = budget.finetune
    for target in budget.targets:
        for arm in budget.arms:
            needs = (f"prepare-{target}", *([f"pretrain-{ARMS[arm]}"] if ARMS[arm] else []))
            trainer = str(TrainerName(arm, epochs=epochs, iterations=iterations, seed=seed))
            for fold in budget.folds:
                arguments = {"dataset": TARGETS[target].dataset_id, "trainer": trainer, "fold": fold}
                steps.append(Step(f"train-{target}-{arm}-{fold}", train, arguments, needs, weight=4))
    return steps


def make_data(name: str, raw: Path, seed: int) -> None:
    """Write one data set into `nnUNet_raw`; a half-written one can't exist, a finished one is kept."""
    data = (SOURCE_DATA | TARGETS)[name]
    if not any(raw.glob(f"Dataset{data.dataset_id:03d}_*")):
        data.write(raw, data.dataset_id, seed)


def prepare(dataset: int) -> None:
    """Fingerprint, plan, preprocess, and put the splits where nnU-Net reads them."""
    from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
    from nnunet_transfer.paths import dataset_name, nnunet_raw
    from nnunet_transfer.plans import write_transfer_plans

    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=FINGERPRINT_VOXELS)
    write_transfer_plans(
        dataset, profile="demo", configurations=[CONFIGURATION], patch_size=PATCH_SIZE, batch_size=BATCH_SIZE
    )
    preprocess_in_process(dataset, PLANS, [CONFIGURATION])
    shutil.copyfile(nnunet_raw() / dataset_name(dataset) / "splits_final.json", preprocessed / "splits_final.json")


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


def run_demo(out: Path, *, budget: Budget = FULL, seed: int = 0, jobs: int = 2, resume: bool = False) -> Path:
    """Run the demo below `out`; return the report's path.

    Raises
    ------
    SettingsError
        If `out` holds another demo, or one that is not to be resumed.
    StepError
        If a step fails; what is finished is kept for `resume`.
    """
    from nnunet_transfer.comparison import compare

    options = {"seed": seed, "budget": repr(budget)}
    _claim(out, options, resume)
    environment = nnunet_environment(out)
    steps = demo_steps(out / "nnUNet_raw", budget, seed)
    run_steps(steps, out / "steps", jobs=jobs, environment=environment, description="demo")
    os.environ.update(environment)
    epochs, iterations = budget.finetune
    compare(
        [TARGETS[target].dataset_id for target in budget.targets],
        out=out / "report",
        arms=[str(TrainerName(arm, epochs=epochs, iterations=iterations, seed=seed)) for arm in budget.arms],
        configuration=CONFIGURATION,
        plans=PLANS,
        protocols={TARGETS[target].dataset_id: TARGETS[target].protocols for target in budget.targets},
        note=NOTE,
    )
    return out / "report" / "report.html"


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


def _claim(out: Path, options: dict[str, object], resume: bool) -> None:
    """Note the options in `out`, or compare them with those of the demo that lies there."""
    file = out / OPTIONS_FILE
    if file.exists():
        if not resume:
            raise SettingsError(f"{out} holds a demo already; go on with --resume or choose another --out")
        if read_json(file) != options:
            raise SettingsError(f"{out} holds a demo with other options; choose another --out, or remove it")
    elif out.exists() and any(out.iterdir()):
        raise SettingsError(f"{out} is not empty and holds no demo; choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, options)
