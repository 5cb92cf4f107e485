"""Write nnU-Net plans with the architecture of a profile or a source."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer import __version__
from nnunet_transfer.errors import DataError, PlansError
from nnunet_transfer.files import read_json
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed, nnunet_raw
from nnunet_transfer.plans.classes import wrong_class
from nnunet_transfer.plans.data_settings import share_data, take_normalization
from nnunet_transfer.plans.design import Design, design_of
from nnunet_transfer.plans.plans_file import write_plans
from nnunet_transfer.sources import SourceCard
from nnunet_transfer.sources.differences import differences
from nnunet_transfer.sources.target import Target
from nnunet_transfer.subjects import copy_subjects

log = logging.getLogger(__name__)

#: nnU-Net's other files in the folder that holds the plans
_OTHER_FILES = ("dataset", "dataset_fingerprint", "splits_final")
#: nnU-Net's default
PREPROCESSOR = "DefaultPreprocessor"
NNUNET = "nnU-Net's rule"
FITTED = f"{NNUNET} for this network's memory"
GIVEN = "given by the user"


@dataclass(frozen=True)
class PlanSettings:
    """Settings of plans, apart from the architecture.

    Attributes
    ----------
    configurations
        Which of `2d`, `3d_fullres`, ... to write, together with the configurations they inherit from and the other
        stages of their cascade; default: all that nnU-Net plans.
    patch_size
        Patch size in voxels, for the configurations with this number of axes.
    batch_size
        Replaces nnU-Net's choice.
    gpu_memory
        GPU memory in GB that patch and batch size are fitted to; default: that of the profile, or 8 GB for a source.
    target_spacing
        Spacing in mm per axis of the data set's images; replaces nnU-Net's choice.
    preprocessor
        Class name of nnU-Net's preprocessor.
    name
        Name of the plans; default: derived from profile and source.
    base_plans
        Plans whose preprocessed data are reused where the settings agree.
    follow_source
        What else to take from the source: any of `spacing`, `normalization` and `patch_size`.
    rules
        How to adapt the weights when a training starts from these plans, see `TransferSettings`.
    """

    configurations: tuple[str, ...] | None = None
    patch_size: tuple[int, ...] | None = None
    batch_size: int | None = None
    gpu_memory: float | None = None
    target_spacing: tuple[float, ...] | None = None
    preprocessor: str = PREPROCESSOR
    name: str | None = None
    base_plans: str = "nnUNetPlans"
    follow_source: tuple[str, ...] = ()
    rules: Mapping[str, str | float] | None = None


def write_transfer_plans(
    dataset: str | int,
    *,
    profile: str | None = None,
    source: str | None = None,
    configurations: Sequence[str] | None = None,
    patch_size: Sequence[int] | None = None,
    batch_size: int | None = None,
    gpu_memory: float | None = None,
    target_spacing: Sequence[float] | None = None,
    preprocessor: str = PREPROCESSOR,
    name: str | None = None,
    base_plans: str = "nnUNetPlans",
    follow_source: Collection[str] = (),
    rules: Mapping[str, str | float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Plan a data set with a fixed architecture, for use with the stock nnU-Net commands.

    Spacing, normalisation, resampling, patch and batch size follow nnU-Net's own planner, run on the data set's
    fingerprint with the memory requirement of the fixed network. The plans' `transfer` block states the origin of each value. The
    subjects of the cases are written beside the plans, for trainings without the raw data set.

    Parameters
    ----------
    dataset : folder name or id
    profile, source : name of a profile, and name of a source in the registry, or its folder there. A source alone
        determines the architecture. With both, the architecture is the profile's, and `nnUNetTrainerTransfer` starts from
        the adapted weights of the source
    configurations : which of `2d`, `3d_fullres`, ... to write, together with the configurations they inherit from and the
        other stages of their cascade; default: all that nnU-Net plans. Missing ones are added to plans with this name
    patch_size : patch size in voxels, for the configurations with this number of axes
    batch_size : replaces nnU-Net's choice
    gpu_memory : GB that patch and batch size are fitted to; default: that of the profile, or 8 GB for a source
    target_spacing : mm per axis of the data set's images; replaces nnU-Net's choice
    preprocessor : class name of nnU-Net's preprocessor
    name : name of the plans; default: `plans_name_for`
    base_plans : plans whose preprocessed data are reused where the settings agree
    follow_source : what else to take from the source, any of `FOLLOW`
    rules : how to adapt the weights when a training starts from these plans, see `adaptation.TransferSettings`
    overwrite : replace different plans with this name

    Returns
    -------
    Path
        The plans file in the preprocessed data set's folder.

    Raises
    ------
    PlansError
        If the fingerprint is missing, a configuration can't be planned, a size doesn't fit the network, or different
        plans with this name exist.
    """
    design = design_of(profile, source, follow_source)
    name = name or design.plans_name
    _check_name(name)
    _check_numbers(batch_size, gpu_memory, target_spacing)
    dataset = dataset_name(dataset)
    folder = nnunet_preprocessed() / dataset
    _check_dataset(dataset, folder)
    plans = _planned(
        dataset,
        name,
        design,
        patch_sizes={**design.patch_sizes, **({len(patch_size): tuple(patch_size)} if patch_size else {})},
        batch_size=batch_size,
        gpu_memory=gpu_memory,
        target_spacing=target_spacing,
        preprocessor=preprocessor,
    )
    plans["configurations"] = _chosen(plans["configurations"], configurations, patch_size, dataset)
    _check_followed_patch(design, plans["configurations"], patch_size)
    if design.normalization:
        take_normalization(plans, design, folder)
    dictated = bool(design.spacing or design.normalization or target_spacing) or preprocessor != PREPROCESSOR
    share_data(plans, folder / f"{base_plans}.json", dictated)
    plans["experiment_planner_used"] = "nnunet_transfer"
    plans["transfer"] = {
        "profile": profile,
        "source": design.card.name if design.card else None,
        "sha256": design.card.sha256 if design.card else None,
        "created_with": f"nnunet_transfer {__version__}",
        **({"rules": dict(rules)} if rules else {}),
        "origin": _origins(
            design, patch_size=patch_size, batch_size=batch_size, gpu_memory=gpu_memory, target_spacing=target_spacing
        ),
    }
    copy_subjects(nnunet_raw() / dataset, folder)
    path = write_plans(plans, folder / f"{name}.json", overwrite)
    if design.card:
        _say_what_differs(design.card, plans)
    return path


def _check_name(name: str) -> None:
    if name.startswith(".") or name in _OTHER_FILES:
        raise PlansError(f"{name}.json in the folder of a preprocessed data set is not for plans; choose another name")
    if "__" in name or "/" in name or name.endswith("_"):
        raise PlansError(
            f"plans name '{name}' must not contain '__' or '/', nor end in '_': nnU-Net joins names by '__' in folder names"
        )


def _check_numbers(batch_size: int | None, gpu_memory: float | None, target_spacing: Sequence[float] | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise PlansError(f"batch size {batch_size} must be at least 1")
    if gpu_memory is not None and not 0 < gpu_memory < math.inf:
        raise PlansError(f"GPU memory {gpu_memory} must be a number of GB above 0")
    if target_spacing is not None and (len(target_spacing) != 3 or not all(0 < v < math.inf for v in target_spacing)):
        raise PlansError(f"spacing {' '.join(map(str, target_spacing))} must be three numbers of mm above 0")


def _check_dataset(dataset: str, folder: Path) -> None:
    if not (nnunet_raw() / dataset / "dataset.json").is_file():
        raise DataError(f"{nnunet_raw() / dataset} has no dataset.json; convert the data set first")
    if not (folder / "dataset_fingerprint.json").is_file():
        number = int(dataset[len("Dataset") :].split("_")[0])
        raise PlansError(
            f"{dataset} has no fingerprint in {folder}; run `nnUNetv2_extract_fingerprint -d {number}` first"
        )


def _planned(dataset: str, name: str, design: Design, **given: Any) -> dict[str, Any]:
    import numpy as np

    from nnunet_transfer.plans.planner import FixedArchitecturePlanner

    # a source may come from anyone, and nnU-Net calls the classes in its card
    if wrong := next(filter(None, map(wrong_class, design.architectures.values())), ""):
        raise PlansError(
            f"{design.label} names {wrong}, which isn't a network or layer that plans may name; not planned"
        )
    # nnU-Net prints every attempt; the plans contain the result
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            planner = FixedArchitecturePlanner(
                dataset,
                name,
                design.architectures,
                design.memory,
                spacing=design.spacing or None,
                **given,
            )
        except AssertionError:
            # nnunetv2 2.8: the planner copies the splits of the raw folder and asserts that they agree
            raise PlansError(
                f"splits_final.json of {dataset} differs between {nnunet_raw()} and {nnunet_preprocessed()}; "
                f"keep the right one in both"
            ) from None
        try:
            with np.errstate(all="ignore"):
                plans = planner.plan_experiment()
        except OverflowError:
            raise PlansError(
                f"nnU-Net can't plan {dataset} with this spacing or GPU memory: images or patches would have no voxel or too "
                "many; take another"
            ) from None
    log.debug("%s", printed.getvalue())
    return plans


def _origins(
    design: Design,
    *,
    patch_size: Sequence[int] | None,
    batch_size: int | None,
    gpu_memory: float | None,
    target_spacing: Sequence[float] | None,
) -> dict[str, str]:
    """Return what each setting of the plans comes from."""
    return {
        "architecture": design.label,
        "spacing": GIVEN if target_spacing else design.dictated_by if design.spacing else NNUNET,
        "normalization": design.dictated_by if design.normalization else NNUNET,
        "patch_size": GIVEN if patch_size else design.dictated_by if design.patch_sizes else FITTED,
        "batch_size": GIVEN if batch_size else FITTED,
        **({"gpu_memory": f"{gpu_memory:g} GB, {GIVEN}"} if gpu_memory else {}),
    }


def _chosen(
    planned: dict[str, Any], wanted: Sequence[str] | None, patch_size: Sequence[int] | None, dataset: str
) -> dict[str, Any]:
    if wanted is None:
        chosen = planned
    else:
        if missing := [c for c in wanted if c not in planned]:
            raise PlansError(f"nnU-Net plans no {', '.join(missing)} for {dataset}; there are: {', '.join(planned)}")
        linked = _linked(planned, wanted)
        chosen = {c: planned[c] for c in planned if c in linked}
        if more := [c for c in chosen if c not in wanted]:
            log.info("%s also needs %s: planned, too", ", ".join(wanted), ", ".join(more))
    if patch_size and not any(len(c.get("patch_size", ())) == len(patch_size) for c in chosen.values()):
        raise PlansError(
            f"patch size {' '.join(map(str, patch_size))} has {len(patch_size)} axes, but no configuration of "
            f"{', '.join(chosen)} has; give one number per axis"
        )
    return chosen


def _check_followed_patch(design: Design, chosen: Mapping[str, Any], given: Sequence[int] | None) -> None:
    """Refuse to take the source's patch size where no configuration has as many axes."""
    axes = {len(configuration.get("patch_size", ())) for configuration in chosen.values()}
    if design.patch_sizes and not given and not axes & set(design.patch_sizes):
        (size,) = design.patch_sizes.values()
        raise PlansError(
            f"the patch size of {design.dictated_by}, {' '.join(map(str, size))}, has {len(size)} axes, but no configuration of "
            f"{', '.join(chosen)} has; leave it to nnU-Net"
        )


def _linked(planned: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """Return the requested configurations, those that they inherit from, and the other stages of their cascades."""
    found = list(wanted)
    for name in found:  # it grows
        for key in ("inherits_from", "previous_stage", "next_stage"):
            links = planned[name].get(key) or ()
            found += [link for link in ((links,) if isinstance(links, str) else links) if link not in found]
    return found


def _say_what_differs(card: SourceCard, plans: Mapping[str, Any]) -> None:
    """Log the differences between the source and the configurations, as in the transfer report of a training."""
    dataset_json = read_json(nnunet_raw() / plans["dataset_name"] / "dataset.json")
    # the others inherit everything
    own = {name: c for name, c in plans["configurations"].items() if "architecture" in c}
    found: dict[str, list[str]] = {}
    for name, configuration in own.items():
        target = Target.of_plans(plans["dataset_name"], configuration, dataset_json)
        for text in differences(card, configuration["architecture"]["arch_kwargs"], target):
            found.setdefault(text, []).append(name)
    for text, names in found.items():
        log.warning("note%s: %s", "" if len(names) == len(own) else f" on {', '.join(names)}", text)
