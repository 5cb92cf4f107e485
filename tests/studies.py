"""Small studies that run in a minute or two, and what their results are compared by."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import yaml

from nnunet_transfer.locks import locked
from nnunet_transfer.study import read_study, state, study_jobs
from nnunet_transfer.study.steps import report_folder, run_job

SUBJECTS = 6
SHAPE = (40, 40, 6)
#: nnU-Net writes its latest checkpoint every 50 epochs: a training of so many is resumed in its middle
RESUMED = {"epochs": 53, "iterations": 1}
#: the first epoch ends with a checkpoint, from which a training that was killed goes on
SHORT = {"epochs": 2, "iterations": 3}


def write_atlas_tree(root: Path) -> Path:
    """Write T1 images with box-shaped lesions in the layout of ATLAS R2.0; return its folder."""
    rng = np.random.default_rng(0)
    for i in range(1, SUBJECTS + 1):
        mask = np.zeros(SHAPE, np.uint8)
        x, y = rng.integers(4, 28, 2)
        mask[x : x + 8, y : y + 8, 1:5] = 1
        image = rng.normal(10, 1, SHAPE) + 8.0 * mask
        subject = f"sub-r{i % 2 + 1:03d}s{i:03d}"
        folder = root / f"ATLAS_2/Training/R{i % 2 + 1:03d}/{subject}/ses-1/anat"
        folder.mkdir(parents=True)
        stem = folder / f"{subject}_ses-1_space-MNI152NLin2009aSym"
        nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), f"{stem}_T1w.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), f"{stem}_label-L_desc-T1lesion_mask.nii.gz")
    return root / "ATLAS_2"


def write_small_study(folder: Path, **changes: Any) -> Path:
    """Write a study of one converted target, one source and two arms on two folds; return its file."""
    content = {
        "name": "small",
        "profile": "demo",
        "configuration": "2d",
        "device": "cpu",
        "plans": {"batch_size": 2, "patch_size": [32, 32]},
        "datasets": {
            "t1": {"id": 702, "synthetic": "t1"},
            "stroke": {
                "id": 711,
                "converter": "atlas_r2",
                "path": str(write_atlas_tree(folder)),
                "options": {"folds": 2},
            },
        },
        "sources": {"t1_segmentation": {"pretrain": "t1", "seed": 0, **SHORT}},
        "targets": {"stroke": {"dataset": "stroke", "folds": [0, 1], "protocols": ["atlas_r2"]}},
        "training": SHORT,
        "seeds": [0],
        "comparison": {"draws": 200},
        "resources": {
            kind: {"memory_gb": 2} for kind in ("convert", "plan", "preprocess", "pretrain", "finetune", "compare")
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content | changes)), sort_keys=False), encoding="utf-8")
    return path


def run_here(file: Path) -> None:
    """Run all steps of a study in this process, one after another: the reference for every other way to run it."""
    study = read_study(file)
    for job in study_jobs(study).values():
        run_job(study, job)


def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small study that has run step by step; the suite's worker processes run it once and copy it."""
    own = tmp_path_factory.mktemp("finished")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    run = shared / "finished_study"
    with locked(shared / "finished_study.lock"):
        if not (run / "complete").exists():
            run.mkdir()
            run_here(write_small_study(run))
            (run / "complete").touch()
    return moved(run / "study.yaml", own)


def moved(finished: Path, folder: Path) -> Path:
    """Copy a study with its results; its marks and models hold no absolute path that matters."""
    shutil.copytree(finished.parent / "small", folder / "small", symlinks=True)
    shutil.copyfile(finished, folder / "study.yaml")
    return folder / "study.yaml"


def tables(file: Path) -> dict[str, str]:
    """Return the content of all tables of a study's report."""
    return {path.name: path.read_text() for path in sorted(report_folder(read_study(file)).glob("*.csv"))}


def done(file: Path) -> set[str]:
    """Return the names of the jobs that are done."""
    study = read_study(file)
    return {job.name for job in study_jobs(study).values() if state.is_done(study.folder, job)}


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, at once."""
    parent = psutil.Process(process.pid)
    for victim in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait()
