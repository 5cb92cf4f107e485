"""Checkpoint files for tests: small random networks in published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_transfer.adaptation import transfer_weights
from nnunet_transfer.checkpoints import add_source
from nnunet_transfer.sources import Source, load_source


def plans_architecture(residual: bool = True, dims: int = 3, stages: int = 3) -> dict[str, Any]:
    """Return the architecture block of plans for a small network."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet."
        + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [4, 6, 8, 10][:stages],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * stages,
            "strides": [[1] * dims] + [[2] * dims] * (stages - 1),
            ("n_blocks_per_stage" if residual else "n_conv_per_stage"): [1, 2, 2, 2][:stages],
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def build(architecture: dict[str, Any], channels: int = 1, labels: int = 2) -> nn.Module:
    """Build the network of an architecture block, in the keys of plans or of a source card."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    imports = architecture.get("_kw_requires_import") or architecture["arch_kwargs_req_import"]
    return get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], imports, channels, labels, allow_init=True
    )


def randomise(network: nn.Module) -> nn.Module:
    """Give every tensor values of its own, norms and running statistics too, so that no swap goes unseen."""
    with torch.no_grad():
        for tensor in [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]:
            tensor.uniform_(0.1, 1.0)
    return network


def nnunet_run(network: nn.Module, architecture: dict[str, Any], **plans: Any) -> dict[str, Any]:
    """Return what nnU-Net v2 stores in `checkpoint_final.pth`."""
    import numpy as np

    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "val_losses": [np.float32(1)], "lrs": [1e-2]},
        "_best_ema": np.float64(0.25),
        "current_epoch": 3,
        "init_args": {
            "plans": {
                "dataset_name": "Dataset042_Answer",
                "plans_name": "nnUNetPlans",
                "configurations": {
                    "3d_fullres": {
                        "architecture": architecture,
                        "spacing": [1.0, 0.5, 0.5],
                        "patch_size": [16, 32, 32],
                        "normalization_schemes": ["ZScoreNormalization"],
                    },
                    "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
                },
                **plans,
            },
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {"channel_names": {"0": "T1"}, "labels": {"background": 0, "x": 1}, "licence": "CC0"},
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def nnunet_v1_state(network: PlainConvUNet, stages: int) -> dict[str, torch.Tensor]:
    """Return a `PlainConvUNet`'s weights under the names of nnU-Net v1's `Generic_UNet`, two convolutions a stage."""
    state: dict[str, torch.Tensor] = {}
    kinds = (("conv", "conv"), ("norm", "instnorm"))
    for s in range(stages):
        for c in range(2):
            for new, old in kinds:
                place = f"{s}.{c}.blocks.0" if s == stages - 1 else f"{s}.blocks.{c}"
                for name, tensor in getattr(network.encoder.stages[s][0].convs[c], new).state_dict().items():
                    state[f"conv_blocks_context.{place}.{old}.{name}"] = tensor
    for s in range(stages - 1):
        for c in range(2):
            for new, old in kinds:
                for name, tensor in getattr(network.decoder.stages[s].convs[c], new).state_dict().items():
                    state[f"conv_blocks_localization.{s}.{c}.blocks.0.{old}.{name}"] = tensor
        state[f"tu.{s}.weight"] = network.decoder.transpconvs[s].weight
        state[f"seg_outputs.{s}.weight"] = network.decoder.seg_layers[s].weight
    return state


__all__ = [
    "PlainConvUNet",
    "ResidualEncoderUNet",
    "build",
    "nnunet_run",
    "nnunet_v1_state",
    "plans_architecture",
    "randomise",
]


def valid(tmp_path: Path) -> bytes:
    """Return the bytes of a small checkpoint of nnU-Net's."""
    architecture = plans_architecture()
    path = tmp_path / "valid.pth"
    torch.save(nnunet_run(build(architecture), architecture), path)
    return path.read_bytes()


def added(content: Any, folder: Path, name: str = "s", **options: Any) -> Source:
    """Save a checkpoint, add it to the registry and return the source."""
    path = folder / f"{name}.pth"
    torch.save(content, path)
    add_source(path, name, task="segmentation", domain="t1", **options)
    return load_source(name)


def same_functions(network: nn.Module, source: Source, dims: int, **options: Any) -> None:
    """Check that a network built from the card and filled from the source gives the original's features."""
    mine = build(dict(source.card.architecture), source.card.input_channels).eval()
    report = transfer_weights(mine, source, **options)
    assert report.coverage["encoder"] == 1.0
    x = torch.randn(1, source.card.input_channels, *(16,) * dims)
    with torch.no_grad():
        for a, b in zip(mine.encoder(x), network.eval().encoder(x), strict=True):
            assert torch.equal(a, b)
