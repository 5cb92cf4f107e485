"""The demo: a study on synthetic data that comes with this package and runs like any other study."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import holds_nothing, read_text, write_text
from nnunet_transfer.study.checked_run import run_checked
from nnunet_transfer.study.reading import read_study

STUDY_FILE = "study.yaml"
#: `--quick`: a trial of all steps in about a minute
QUICK_TARGET, QUICK_SOURCE = "stroke", "t1_segmentation"
QUICK_TRAINING = {"epochs": 1, "iterations": 5}


def demo_file(*, quick: bool = False, seed: int = 0) -> str:
    """Return the content of the demo's study file, with the given seed and size."""
    text = files(__package__).joinpath("demo.yaml").read_text(encoding="utf-8")
    if not quick and not seed:
        return text
    content: dict[str, Any] = yaml.safe_load(text)
    if quick:
        _reduce(content)
    for entry in (*content["datasets"].values(), *content["sources"].values()):
        entry["seed"] = seed
    content["seeds"] = [seed]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def note() -> str:
    """Return the report's note on the data."""
    return str(yaml.safe_load(demo_file())["comparison"]["note"])


def _reduce(content: dict[str, Any]) -> None:
    target, source = content["targets"][QUICK_TARGET], content["sources"][QUICK_SOURCE]
    used = (target["dataset"], source["pretrain"])
    content["datasets"] = {name: entry for name, entry in content["datasets"].items() if name in used}
    content["sources"] = {QUICK_SOURCE: {**source, **QUICK_TRAINING}}
    content["targets"] = {QUICK_TARGET: target}
    content["arms"] = ["scratch", QUICK_SOURCE]
    content["training"] = dict(QUICK_TRAINING)


def run_demo(out: Path, *, quick: bool = False, seed: int = 0, jobs: int = 2, resume: bool = False) -> Path:
    """Run the demo below `out`; return the report's path.

    Parameters
    ----------
    quick : one target, two arms, a few iterations
    seed : seed of data and trainings
    jobs : number of parallel steps
    resume : resume a demo in `out`; finished steps are kept

    Raises
    ------
    SettingsError
        If `out` contains a different demo, a demo without `resume`, or other files.
    StudyError
        If a step fails.
    """
    _claim(out, demo_file(quick=quick, seed=seed), resume)
    return run_checked(read_study(out / STUDY_FILE), jobs=jobs)


def _claim(out: Path, content: str, resume: bool) -> None:
    """Write the study file to `out`, or compare it with the existing one."""
    file = out / STUDY_FILE
    if file.exists():
        if not resume:
            raise SettingsError(f"{out} holds a demo already; continue with --resume or choose another --output")
        if read_text(file) != content:
            raise SettingsError(f"{file} is not this demo's; choose another --output, or continue it with `study run`")
    elif not holds_nothing(out):
        raise SettingsError(f"{out} is not empty and holds no demo; choose another --output")
    else:
        write_text(file, content)
