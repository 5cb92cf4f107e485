"""Small U-Nets of nnU-Net's two kinds, and sources made of them."""

from __future__ import annotations

from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual import BottleneckD
from torch import nn

from nnunet_transfer.sources import Source, SourceCard, load_source, save_source


def residual(dims: int = 2, **changes: Any) -> nn.Module:
    kwargs: dict[str, Any] = {
        "input_channels": 1,
        "features": (4, 6, 8),
        "num_classes": 2,
        "norm": f"InstanceNorm{dims}d",
        "kernel_sizes": 3,
        "blocks": 1,
        **changes,
    }
    features = kwargs["features"]
    n = len(features)
    more = {"block": BottleneckD, "bottleneck_channels": 2} if changes.get("bottleneck") else {}
    return ResidualEncoderUNet(
        kwargs["input_channels"],
        n,
        features,
        getattr(nn, f"Conv{dims}d"),
        kwargs["kernel_sizes"],
        kwargs.get("strides", (1, *(2,) * (n - 1))),
        kwargs["blocks"],
        kwargs["num_classes"],
        1,
        changes.get("conv_bias", True),
        getattr(nn, kwargs["norm"]),
        {"affine": True},
        nonlin=nn.LeakyReLU,
        **more,
    )


def plain(dims: int = 2, **changes: Any) -> nn.Module:
    features = changes.get("features", (4, 6, 8))
    return PlainConvUNet(
        changes.get("input_channels", 1),
        len(features),
        features,
        getattr(nn, f"Conv{dims}d"),
        3,
        (1, *(2,) * (len(features) - 1)),
        1,
        changes.get("num_classes", 2),
        1,
        True,
        getattr(nn, f"InstanceNorm{dims}d"),
        {"affine": True},
        nonlin=nn.LeakyReLU,
    )


def saved(network: nn.Module, **fields: Any) -> Source:
    first = next(p for p in network.parameters() if p.dim() > 2)
    architecture = {"network_class_name": "x", "arch_kwargs": {}, "arch_kwargs_req_import": []}
    card = SourceCard(
        name="s",
        **{  # type: ignore[arg-type]
            "task": "segmentation",
            "domain": "t1",
            "architecture": architecture,
            "input_channels": first.shape[1],
            **fields,
        },
    )
    save_source(card, randomised(network).state_dict(), overwrite=True)
    return load_source("s")


def randomised(network: nn.Module) -> nn.Module:
    """Give every tensor values of its own, norms and biases too, so that no swap goes unseen."""
    with torch.no_grad():
        for tensor in [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]:
            tensor.uniform_(0.1, 1.0)
    return network


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def saved_unchanged(network: nn.Module) -> Source:
    architecture = {"network_class_name": "x", "arch_kwargs": {}, "arch_kwargs_req_import": []}
    card = SourceCard("s3", "segmentation", "t1", architecture, 1)
    save_source(card, network.state_dict(), overwrite=True)
    return load_source("s3")
