"""anatomix' U-Nets, for this package's `AnatomixUNet`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from nnunet_transfer.checkpoints.converted import NEEDS_PACKAGE, Converted, Format
from nnunet_transfer.checkpoints.copies import by_canonical_key
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.papers import ANATOMIX_PAPER
from nnunet_transfer.checkpoints.several import note_on_others, preferred
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.sources.keys import canonical_key

#: one sequence of layers, numbered
_KEY = re.compile(r"(.*?)model\.(\d{1,4})\.(weight|bias|running_mean|running_var|num_batches_tracked)")
#: number of convolutions besides four per change of size: the first, two at the bottom and the last
_BESIDES = 4


def _recognise(found: Found) -> bool:
    prefixes = _prefixes(found.tensors)
    sequence = f"{preferred(prefixes)}model."
    own = [key for key in map(canonical_key, found.tensors) if key.startswith(sequence)]
    # training may add tensors beside the sequence
    return bool(prefixes) and all(map(_KEY.fullmatch, own))


def _convert(found: Found) -> Converted:
    tensors = _renamed(found.tensors)
    architecture = architecture_from_shapes(tensors)
    batch = architecture["arch_kwargs"]["norm_op"].endswith(("BatchNorm3d", "BatchNorm2d"))
    variant = "anatomix" if batch else "anatomix-dev"
    ways = (
        "maximum pooling, enlarged by repetition" if batch else "average pooling, enlarged linearly, norms of eps 0.01"
    )
    return Converted(
        tensors,
        architecture,
        int(tensors["encoder.stages.0.units.0.conv.weight"].shape[1]),
        trained_on=("synthetic volumes of TotalSegmentator's shapes",),
        licence="MIT",
        citation=ANATOMIX_PAPER,
        notes=(
            NEEDS_PACKAGE,
            f"no tensor shows how it changes the size; that of {variant} is assumed: {ways}",
            "it was trained on intensities scaled to 0 to 1",
            *note_on_others(_prefixes(found.tensors)),
        ),
    )


def _prefixes(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    matches = ((_KEY.fullmatch(canonical_key(key)), tensor) for key, tensor in tensors.items())
    # a sequence of another kind, such as a projection, has no convolution
    return {match[1] for match, tensor in matches if match and match[2] == "0" and tensor.dim() in (4, 5)}


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under this package's names.

    Raises
    ------
    CheckpointError
        If the sequence isn't that of anatomix' U-Net.
    """
    prefix = preferred(_prefixes(tensors))
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in by_canonical_key(tensors).items():
        if (match := _KEY.fullmatch(key)) and match[1] == prefix:
            layers.setdefault(int(match[2]), {})[match[3]] = tensor
    convolutions = [n for n in sorted(layers) if "weight" in layers[n] and layers[n]["weight"].dim() in (4, 5)]
    steps, rest = divmod(len(convolutions) - _BESIDES, 4)
    if steps < 1 or rest:
        raise CheckpointError(
            f"a sequence of {len(convolutions)} convolutions is not anatomix' U-Net, which has 8, 12, 16, ... of them"
        )
    renamed: dict[str, torch.Tensor] = {}
    for name, number in zip(_names(steps), convolutions, strict=True):
        convolution = dict(layers.pop(number))
        if name.startswith("decoder.") and name.endswith("units.0.conv"):
            convolution["weight"] = _below_first(convolution["weight"])
        renamed |= {f"{name}.{kind}": tensor for kind, tensor in convolution.items()}
        if name.endswith(".conv"):
            norm = layers.pop(number + 1, {})
            renamed |= {f"{name.removesuffix('conv')}norm.{kind}": tensor for kind, tensor in norm.items()}
    if layers:
        raise CheckpointError(f"model.{min(layers)} is not part of anatomix' U-Net")
    return renamed


def _names(steps: int) -> list[str]:
    names = [f"encoder.stages.0.units.{n}.conv" for n in range(3)]
    names += [f"encoder.stages.{s}.units.{n}.conv" for s in range(1, steps + 1) for n in range(2)]
    names += [f"decoder.stages.{k}.units.{n}.conv" for k in range(steps) for n in range(2)]
    return [*names, f"decoder.stages.{steps - 1}.project"]


def _below_first(weight: torch.Tensor) -> torch.Tensor:
    """Reorder input channels: first those of the upsampled features, then those of the encoder, which the original has first."""
    own = weight.shape[1] // 3
    return torch.cat((weight[:, own:], weight[:, :own]), dim=1)


ANATOMIX = Format("anatomix' U-Net", _recognise, _convert)
