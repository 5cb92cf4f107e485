"""Sources for tests: networks of some plans with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_transfer.files import read_json
from nnunet_transfer.sources import SourceCard, save_source


def save_random_source(
    name: str, plans: Path, configuration: str, *, channels: int = 1, labels: int = 3, seed: int = 7
) -> dict[str, torch.Tensor]:
    """Save a randomly initialised network of these plans as a source; return its state dict."""
    architecture = read_json(plans)["configurations"][configuration]["architecture"]
    torch.manual_seed(seed)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        labels,
        deep_supervision=True,
    )
    task, domain = "segmentation", "t1"
    card = SourceCard(
        name=name,
        task=task,
        domain=domain,
        architecture={
            "network_class_name": architecture["network_class_name"],
            "arch_kwargs": architecture["arch_kwargs"],
            "arch_kwargs_req_import": architecture["_kw_requires_import"],
        },
        input_channels=channels,
        channel_names=("T1",) * channels,
    )
    state = network.state_dict()
    save_source(card, state, overwrite=True)
    return state
