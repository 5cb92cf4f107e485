"""Settings of plans that determine the preprocessed data, and which data plans share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_transfer.errors import PlansError
from nnunet_transfer.files import read_json
from nnunet_transfer.plans.classes import MASKED_SCHEMES, NORMALIZATION_SCHEMES
from nnunet_transfer.plans.design import Design

#: settings of a configuration and of the plans that determine the preprocessed data
_DATA_SETTINGS = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_seg",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg_kwargs",
)
_PLANS_DATA_SETTINGS = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
#: configurations whose preprocessed data nnU-Net's planners share, and whose spacing doesn't depend on the patch size
_SHARED = ("2d", "3d_fullres")
#: nnU-Net normalises within the part that isn't 0 if cropping leaves less than this share of the images
_CROPPED = 3 / 4


def take_normalization(plans: dict[str, Any], design: Design, folder: Path) -> None:
    """Give each channel the source's normalisation, and a mask where nnU-Net's rule asks for one with it."""
    schemes = set(design.normalization)
    if len(schemes) != 1:
        raise PlansError(f"{design.dictated_by} normalises its channels in different ways; leave it to nnU-Net")
    if foreign := sorted(schemes - NORMALIZATION_SCHEMES):
        raise PlansError(f"{design.dictated_by} names {foreign[0]}, which nnU-Net doesn't have; leave it to nnU-Net")
    cropped = read_json(folder / "dataset_fingerprint.json")["median_relative_size_after_cropping"] < _CROPPED
    for configuration in plans["configurations"].values():
        if "normalization_schemes" in configuration:
            count = len(configuration["normalization_schemes"])
            configuration["normalization_schemes"] = [*schemes] * count
            configuration["use_mask_for_norm"] = [cropped and schemes <= MASKED_SCHEMES] * count


def share_data(plans: dict[str, Any], base_file: Path, dictated: bool) -> None:
    """Let configurations reuse the preprocessed data of the base plans if both would write the same data.

    Without base plans, use the names that nnU-Net's default plans will use, which decide in the same way, unless the source
    has `dictated` a spacing or normalisation.
    """
    base = read_json(base_file) if base_file.is_file() else None
    for name, configuration in plans["configurations"].items():
        if "data_identifier" not in configuration:
            continue
        same = name in _SHARED and not dictated
        if base is not None:
            other = base["configurations"].get(name, {})
            same = all(configuration[k] == other.get(k) for k in _DATA_SETTINGS) and all(
                plans[k] == base.get(k) for k in _PLANS_DATA_SETTINGS
            )
            configuration["data_identifier"] = other.get("data_identifier") if same else None
        if not same:
            configuration["data_identifier"] = f"{plans['plans_name']}_{name}"
