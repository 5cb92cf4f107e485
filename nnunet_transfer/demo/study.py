"""The demo: the paper's study on small synthetic data.

It is a study like any other, with a `study.yaml` in its folder that `nnunet_transfer study` understands. Only its steps
are run by a few processes that live on, not by Snakemake with one process each: the imports of nnU-Net would take longer
than these steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nnunet_transfer.demo.runner import Step, run_steps
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import holds_nothing, read_json, write_json, write_text
from nnunet_transfer.naming import ARMS
from nnunet_transfer.study import Study, read_study, state, study_jobs
from nnunet_transfer.study.environment import variables
from nnunet_transfer.study.steps import report_folder, run_job
from nnunet_transfer.synthetic.datasets import DATASETS

NOTE = (
    "All images of this demo are synthetic: T1-like subjects made from the MNI152 template and crops of a few photos. "
    "The numbers show that the parts work together; they say nothing about patients."
)
#: half a slab: small patches around the foreground show the lesions often enough to be learnt in minutes
PLANS = {"patch_size": [32, 32], "batch_size": 8}
PROTOCOLS = {"stroke": ["atlas_r2"], "ms": ["msseg2016"], "anatomy": []}
#: of each kind of step, relative to one another, for the progress bar
WEIGHTS = {"pretrain": 8.0, "finetune": 4.0, "report": 6.0}
OPTIONS_FILE, STUDY_FILE = "demo.json", "study.yaml"


@dataclass(frozen=True)
class Budget:
    """How much is run: pre-training and fine-tuning in (epochs, iterations per epoch), arms, targets, folds."""

    pretrain: tuple[int, int] = (5, 100)
    finetune: tuple[int, int] = (5, 80)
    arms: tuple[str, ...] = tuple(ARMS)
    targets: tuple[str, ...] = tuple(PROTOCOLS)
    folds: tuple[int, ...] = (0, 1)


FULL = Budget()
#: a look at the machinery in about a minute
QUICK = Budget(
    pretrain=(1, 5),
    finetune=(1, 5),
    arms=("nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"),
    targets=("stroke",),
)


def study_file_content(budget: Budget, seed: int) -> dict[str, Any]:
    """Return the demo as a study's file has it."""
    sources = [source for arm in budget.arms if (source := ARMS[arm])]
    # a source's name starts with that of the data set it is pre-trained on
    domains = {source: source.split("_")[0] for source in sources}
    used = [name for name in DATASETS if name in domains.values() or name in budget.targets]
    pretrain = dict(zip(("epochs", "iterations"), budget.pretrain, strict=True))
    return {
        "name": "demo",
        "folder": ".",
        "folders": {"sources": "nnUNet_results/sources"},
        "profile": "demo",
        "configuration": "2d",
        "device": "cpu",
        "plans": dict(PLANS),
        "datasets": {name: {"id": DATASETS[name][0], "synthetic": name, "seed": seed} for name in used},
        "sources": {name: {"pretrain": domains[name], **pretrain, "seed": seed} for name in sources},
        "targets": {
            name: {"dataset": name, "folds": list(budget.folds), "protocols": PROTOCOLS[name]}
            for name in budget.targets
        },
        "arms": [ARMS[arm] or "scratch" for arm in budget.arms],
        "seeds": [seed],
        "training": dict(zip(("epochs", "iterations"), budget.finetune, strict=True)),
        "comparison": {"note": NOTE},
    }


def demo_steps(study: Study) -> list[Step]:
    """Return all steps, in an order that respects their needs."""
    return [
        Step(job.name, run_step, {"file": study.file, "name": job.name}, job.needs, WEIGHTS.get(job.kind, 1.0))
        for job in study_jobs(study).values()
    ]


def run_step(file: Path, name: str) -> None:
    """Run one step of the demo's study."""
    study = read_study(file)
    run_job(study, study_jobs(study)[name])


def run_demo(out: Path, *, budget: Budget = FULL, seed: int = 0, jobs: int = 2, resume: bool = False) -> Path:
    """Run the demo below `out`; return the report's path.

    Raises
    ------
    SettingsError
        If `out` holds another demo, or one that is not to be resumed.
    StepError
        If a step fails; what is finished is kept for `resume`.
    """
    _claim(out, {"seed": seed, "budget": repr(budget)}, resume)
    file = out / STUDY_FILE
    write_text(file, yaml.safe_dump(study_file_content(budget, seed), sort_keys=False))
    study = read_study(file)
    known = study_jobs(study)
    run_steps(
        demo_steps(study),
        out / state.LOGS,
        jobs=jobs,
        # the same for all steps but those that train, whose variables keep all work in their process
        environment=variables(study, next(job for job in known.values() if job.kind == "finetune")),
        description="demo",
        is_done=lambda step: state.is_done(study.folder, known[step.name]),
    )
    return report_folder(study) / "report.html"


def _claim(out: Path, options: dict[str, object], resume: bool) -> None:
    """Note the options in `out`, or compare them with those of the demo that lies there."""
    file = out / OPTIONS_FILE
    if file.exists():
        if not resume:
            raise SettingsError(f"{out} holds a demo already; go on with --resume or choose another --out")
        if read_json(file) != options:
            raise SettingsError(f"{out} holds a demo with other options; choose another --out, or remove it")
    elif not holds_nothing(out):
        raise SettingsError(f"{out} is not empty and holds no demo; choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, options)
