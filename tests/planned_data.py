"""Data sets that are ready to plan for, without images of any size, and sources that are only their plans' network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_transfer.files import write_json
from nnunet_transfer.sources import SourceCard, save_source
from tests.nnunet_data import write_blob_dataset


def planned_ready(
    folders: Path, dataset_id: int, shape: tuple[int, int, int], cropped_to: float = 1.0, **options: Any
) -> str:
    """Write a raw data set and its fingerprint (nnU-Net takes seconds to sample intensities); return its name.

    `shape` has nnU-Net's axis order, z first; `cropped_to` is the share of the images that isn't 0.
    """
    name = write_blob_dataset(folders / "raw", dataset_id, cases=2, shape=shape[::-1], **options)
    channels = len(options.get("channels", ("T1",)))
    values = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
    write_json(
        folders / "preprocessed" / name / "dataset_fingerprint.json",
        {
            "spacings": [[1.0, 1.0, 1.0]] * 2,
            "shapes_after_crop": [list(shape)] * 2,
            "foreground_intensity_properties_per_channel": {
                str(c): dict.fromkeys(values, 1.0) for c in range(channels)
            },
            "median_relative_size_after_cropping": cropped_to,
        },
    )
    return name


def network_of(configuration: dict[str, Any], channels: int = 1, labels: int = 2) -> torch.nn.Module:
    """Return the network of a configuration, with random weights."""
    a = configuration["architecture"]
    return get_network_from_plans(
        a["network_class_name"], a["arch_kwargs"], a["_kw_requires_import"], channels, labels, deep_supervision=False
    )


def save_plans_as_source(name: str, configuration: dict[str, Any], **fields: Any) -> None:
    """Save random weights of a configuration's network as a source."""
    a = configuration["architecture"]
    architecture = {
        "network_class_name": a["network_class_name"],
        "arch_kwargs": a["arch_kwargs"],
        "arch_kwargs_req_import": a["_kw_requires_import"],
    }
    card = SourceCard(name, "segmentation", "t1", architecture, 1, **fields)
    save_source(card, network_of(configuration, labels=4).state_dict())
