"""Estimates of the time and disk space that a study needs. No torch."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.naming import NNUNET_EPOCHS, NNUNET_ITERATIONS, parse_trainer_name
from nnunet_transfer.plans import PROFILES, Profile
from nnunet_transfer.plans.profiles import PLAIN_8GB, RESENC_L, RESENC_M
from nnunet_transfer.recipes import NNUNET_SGD, RECIPES
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.jobs import Job

TRAININGS = ("pretrain", "finetune")
#: hours of one 3d_fullres training of 1000 epochs on an A100 (nnU-Net's documentation, resenc_presets.md)
_HOURS = {PLAIN_8GB: 9.0, RESENC_M: 12.0, RESENC_L: 35.0}
#: 2D relative to 3D; this package's assumption
_SHARE_2D = 0.5
#: checkpoints per fold: final, best and, during training, latest
_CHECKPOINTS = 3
#: tensors per weight in a checkpoint: the weight itself, SGD's momentum or AdamW's two moments
_TENSORS_PER_WEIGHT = {"SGD": 2, "AdamW": 3}
#: preprocessed data relative to the compressed images; this package's assumption
_PREPROCESSED_PER_RAW = 3.0
#: maximum number of files to inspect for the size of a data set
_MOST_FILES = 200_000
GB = 1e9


@dataclass(frozen=True)
class Estimate:
    """Remaining training time and disk space.

    Attributes
    ----------
    hours : kind of step -> hours of training; NaN if the speed of the device is unknown
    measured : whether the estimate is based on finished trainings of this study
    gigabytes : environment variable of nnU-Net's folder -> GB to write there
    """

    hours: Mapping[str, float]
    measured: bool
    gigabytes: Mapping[str, float]


def estimate(study: Study, jobs: Mapping[str, Job]) -> Estimate:
    """Estimate the cost of the unfinished steps."""
    left = [job for job in jobs.values() if not state.is_done(study.folder, job)]
    speeds = {kind: _seconds_per_iteration(study, jobs.values(), kind) for kind in TRAININGS}
    hours = {kind: 0.0 for kind in TRAININGS}
    for job in left:
        if job.kind in TRAININGS:
            measured = speeds[job.kind]
            seconds = assumed_seconds(study, job) if measured is None else measured
            hours[job.kind] += iterations(job) * seconds / 3600
    return Estimate(hours, any(s is not None for s in speeds.values()), _gigabytes(study, left))


def iterations(job: Job) -> int:
    """Return the number of iterations of a training."""
    return parse_trainer_name(job.settings["trainer"]).total_iterations


def _seconds_per_iteration(study: Study, jobs: Iterable[Job], kind: str) -> float | None:
    seconds, count = 0.0, 0
    for job in jobs:
        if job.kind == kind and (done := state.read_mark(study.folder, job, state.DONE)):
            seconds += float(done.get("seconds", 0))
            count += iterations(job)
    return seconds / count if count else None


def assumed_seconds(study: Study, job: Job) -> float:
    """Return the assumed duration of an iteration in seconds; NaN without a GPU, because the speed is unknown."""
    if study.device == "cpu":
        return math.nan
    share = _SHARE_2D if job.settings["configuration"] == "2d" else 1.0
    return share * _HOURS[PROFILES[study.profile].memory] * 3600 / (NNUNET_EPOCHS * NNUNET_ITERATIONS)


def _gigabytes(study: Study, left: Iterable[Job]) -> dict[str, float]:
    total = dict.fromkeys(study.folders, 0.0)
    for job in left:
        if job.kind == "convert":
            total["nnUNet_raw"] += _size(study, job.settings["dataset"])
        elif job.kind == "preprocess":
            size = _size(study, job.settings["dataset"]) * len(job.settings["configurations"])
            total["nnUNet_preprocessed"] += _PREPROCESSED_PER_RAW * size
        elif job.kind in TRAININGS:
            dimensions = 2 if job.settings["configuration"] == "2d" else 3
            weights = 4 * parameters(PROFILES[study.profile], dimensions) / GB
            total["nnUNet_results"] += _CHECKPOINTS * _TENSORS_PER_WEIGHT[_optimiser(job)] * weights
            if job.kind == "pretrain":
                total["nnUNet_sources"] += weights
    return total


def _optimiser(job: Job) -> str:
    """Return the kind of optimiser of a training."""
    name = parse_trainer_name(job.settings["trainer"])
    return NNUNET_SGD.kind if name.own_schedule else RECIPES[name.recipe].optimiser.kind


def _size(study: Study, name: str) -> float:
    dataset = study.datasets[name]
    folder = dataset.path
    if folder is None:
        found = sorted(study.folders["nnUNet_raw"].glob(f"Dataset{dataset.number:03d}_*"))
        folder = found[0] if found else None
    return folder_bytes(folder) / GB if folder is not None else 0.0


def folder_bytes(folder: Path) -> int:
    """Return the size of the files in a folder; stop after `_MOST_FILES` files, without extrapolating."""
    total = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            count += 1
            if count > _MOST_FILES:
                return total
            try:
                total += os.path.getsize(os.path.join(place, name))
            except OSError:
                continue
    return total


def parameters(profile: Profile, dimensions: int) -> int:
    """Estimate the number of parameters in the convolutions of a profile's U-Net, with one input and one label."""
    kernel, window = 3**dimensions, 2**dimensions
    widths = profile.features
    total, before = kernel * widths[0], widths[0]
    inner = profile.bottleneck_channels or (0,) * len(widths)
    for width, blocks, narrow in zip(widths, profile.blocks, inner, strict=True):
        for block in range(blocks):
            incoming = before if block == 0 else width
            if narrow:
                total += incoming * narrow + kernel * narrow * narrow + narrow * width
            else:
                total += kernel * incoming * width + (kernel * width * width if profile.residual else 0)
        before = width
    for width, below in itertools.pairwise(widths):
        total += window * below * width + kernel * 2 * width * width
        total += (profile.decoder_convolutions - 1) * kernel * width * width
    return total
