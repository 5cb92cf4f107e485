"""Parameters of network parts: groups with different learning rates, freezing, and the pull towards the initial weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from nnunet_transfer.adaptation.parts import part_of as part_of_key
from nnunet_transfer.errors import AdaptationError, DataError
from nnunet_transfer.files import atomic_path
from nnunet_transfer.recipes import DECODER, ENCODER, HEAD, STEM, Recipe
from nnunet_transfer.sources.keys import canonical_key

HEADS = "seg_layers"


def check_parts(network: nn.Module) -> None:
    """Raise `AdaptationError` for a network without encoder and decoder that can be trained separately."""
    if not isinstance(getattr(network, "encoder", None), nn.Module) or not hasattr(network, "decoder"):
        raise AdaptationError(
            f"{type(network).__name__} has no encoder and decoder to train separately; use the recipe full or warmup"
        )


def part_of(name: str) -> str:
    """Return the part of a parameter by its name; parameters outside a U-Net count as decoder."""
    return part_of_key(canonical_key(name)) or DECODER


def set_trained(network: nn.Module, trained: Iterable[str]) -> bool:
    """Unfreeze the given parts and freeze the others; return whether anything changed."""
    trained = set(trained)
    changed = False
    for name, parameter in network.named_parameters():
        wanted = part_of(name) in trained
        changed |= parameter.requires_grad != wanted
        parameter.requires_grad_(wanted)
        if not wanted:
            # gradients of the previous phase would still be applied
            parameter.grad = None
    return changed


def freeze_statistics(network: nn.Module, trained: Iterable[str]) -> None:
    """Freeze the running statistics of BatchNorm layers in frozen parts, in addition to their weights."""
    trained = set(trained)
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and part_of(f"{name}.weight") not in trained:
            module.eval()


def parameter_groups(network: nn.Module, recipe: Recipe, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups; group k has `lr_scale` = layer_decay ** (distance from the output).

    The first group, that of the output layers, has the highest rate, which nnU-Net logs. In an encoder with stages 0 to
    n - 1, stage s has the distance n - s, and the stem the distance n + 1. A recipe's `body_rate` scales the rate of all
    layers except the output layers. A pull towards the initial weights replaces the weight decay of all layers except the
    heads.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    stages = _number_of_stages(network) if recipe.layer_decay != 1 else 0
    for name, parameter in network.named_parameters():
        distance = 0
        if recipe.layer_decay != 1 and part_of(name) in (STEM, ENCODER):
            distance = stages - _stage_of(name)
        decay = 0.0 if recipe.start_pull and HEADS not in name else weight_decay
        scale = recipe.layer_decay**distance * (1.0 if part_of(name) == HEAD else recipe.body_rate)
        groups.setdefault((-scale, decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": -scale}
        for (scale, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _number_of_stages(network: nn.Module) -> int:
    check_parts(network)
    stages: Any = network.get_submodule(f"{ENCODER}.stages")
    return len(stages)


def _stage_of(name: str) -> int:
    """Return the encoder stage in a name such as `encoder.stages.2.blocks.0.conv1.conv.weight`; the stem is -1."""
    parts = name.split(".")
    return int(parts[parts.index("stages") + 1]) if "stages" in parts else -1


class StartPull:
    """Add strength * (w - w_start) to every gradient except those of the heads before each optimiser step (L2-SP)."""

    def __init__(self, network: nn.Module, start: dict[str, torch.Tensor], strength: float) -> None:
        self._pairs = [
            (parameter, start[name].to(parameter.device))
            for name, parameter in network.named_parameters()
            if HEADS not in name
        ]
        self._strength = strength

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Run as a hook of `Optimizer.register_step_pre_hook`."""
        for parameter, start in self._pairs:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self._strength)


def save_start(network: nn.Module, path: Path) -> None:
    """Write the initial weights of a training, so that `--c` pulls towards the same weights."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in network.named_parameters() if HEADS not in name}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def read_start(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights that `save_start` wrote.

    Raises
    ------
    DataError
        If the file is missing or damaged, so that the training can't continue.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; without the weights it pulls towards, this training must start again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(
            f"{path} can't be read ({error}); without the weights it pulls towards, this training must start again"
        ) from None
