"""The environment variables of a study's steps."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from nnunet_transfer.study.description import Study
from nnunet_transfer.study.jobs import Job


@contextlib.contextmanager
def environment(study: Study, job: Job) -> Iterator[None]:
    """Set nnU-Net's folders, its numbers of processes, and the study's own variables."""
    with _set(variables(study, job)):
        yield


@contextlib.contextmanager
def folders_set(study: Study) -> Iterator[None]:
    """Set nnU-Net's folders alone; none is created."""
    with _set(_folders(study)):
        yield


@contextlib.contextmanager
def _set(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def variables(study: Study, job: Job) -> dict[str, str]:
    """Return the environment variables of a step."""
    cpus = study.resources[job.kind].cpus
    for folder in study.folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    alone = study.device == "cpu"
    return {
        **_folders(study),
        # without a GPU, each training has one core and does all work in its own process
        "nnUNet_n_proc_DA": "0" if alone else str(cpus),
        "nnUNet_def_n_proc": "0" if alone and _is_ours(job) else str(max(1, cpus // 2)),
        **({"nnUNet_compile": "f", "OMP_NUM_THREADS": "1"} if alone else {}),
        **study.environment,
    }


def _folders(study: Study) -> dict[str, str]:
    return {name: str(folder) for name, folder in study.folders.items()}


def _is_ours(job: Job) -> bool:
    return job.kind in ("pretrain", "finetune")
