"""MONAI's `UNet`, in bundles and other files, and SynthStroke's, for this package's `MonaiUNet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from nnunet_transfer.checkpoints import stated
from nnunet_transfer.checkpoints.converted import NEEDS_PACKAGE, Converted, Format
from nnunet_transfer.checkpoints.copies import by_canonical_key
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.papers import MONAI_UNET_PAPER, SYNTHSTROKE_PAPER
from nnunet_transfer.checkpoints.several import note_on_others, preferred, prefixes_of
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError, one_line
from nnunet_transfer.sources.keys import canonical_key
from nnunet_transfer.sources.outputs import BACKGROUND

#: a layer contains the layers below it as its second part, `1.submodule`; 0 goes down and 2 up
_KEY = re.compile(r"model\.(?P<depth>(?:1\.submodule\.)*)(?P<rest>.+)")
_DOWN = re.compile(r"0\.((?:conv|adn|residual)\..+)")
_UP = re.compile(r"2\.(?:([01])\.)?((?:conv|adn)\..+)")
_BOTTOM = re.compile(r"((?:conv|adn|residual)\..+)")
_ANCHOR = re.compile(r"(.*?)model\.0\.conv\.")
_MARKS = ("model.0.conv.", "model.1.submodule.")
MAX_DEPTH = 14
#: of a network: an output layer of these numbers of features and outputs is added; parcellations have hundreds
MAX_OUTPUTS = 4096
#: widths of SynthStroke's network, and number of outputs -> their names
_SYNTHSTROKE_WIDTHS = (32, 64, 128, 256, 320, 320)
_SYNTHSTROKE_OUTPUTS = {
    2: (BACKGROUND, "lesion"),
    6: (BACKGROUND, "grey matter", "white matter", "grey and white matter", "csf", "lesion"),
}
#: the authors' names of networks trained on real images only
_REAL = ("baseline", "qatlas")
#: of a norm, those that change nothing after the training or that tensors show, and `eps`
_NORM_OPTIONS = {"affine", "eps", "momentum"}
_NONLINEARITIES = {"relu": "ReLU", "leakyrelu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU", "gelu": "GELU"}


def _recognise(found: Found) -> bool:
    return all(any(mark in key for key in found.tensors) for mark in _MARKS)


def _convert(found: Found) -> Converted:
    settings = _settings(found.network)
    tensors, outputs = _renamed(found.tensors)
    notes = [
        NEEDS_PACKAGE,
        *note_on_others(prefixes_of(found.tensors, _ANCHOR)),
        *_check_settings(settings, found.network is not None),
    ]
    architecture = architecture_from_shapes(tensors, _nonlinearity(tensors, settings, notes))
    kwargs = architecture["arch_kwargs"]
    kernel = kwargs["kernel_sizes"][0]
    same = settings.get("kernel_size", 3) == settings.get("up_kernel_size", 3)
    if not same or any(list(t.shape[2:]) != kernel for key, t in tensors.items() if key.endswith(".up.weight")):
        raise CheckpointError(
            "its transposed convolutions have a different kernel from the others, which isn't supported"
        )
    kwargs["norm_op_kwargs"] |= _norm_options(settings)
    dimensions = len(kwargs["strides"][0])
    if strides := _stated_strides(settings, kwargs["n_stages"], dimensions):
        kwargs["strides"] = [[1] * dimensions, *strides]
    else:
        # a shortcut that changes the size has the kernel of the other convolutions
        downwards = [t for k, t in tensors.items() if k.endswith(".residual.weight") and ".bottom." not in k]
        if any(list(t.shape[2:]) != kernel for t in downwards):
            raise CheckpointError(
                "its shortcuts show a stride of 1; put the network's config.json, which states all strides, beside the weights"
            )
        notes.append("no tensor shows the strides; 2 is assumed for all axes")
    inputs = int(_first(tensors).shape[1])
    dropout = settings.get("dropout")
    if isinstance(dropout, int | float) and dropout:
        notes.append(f"it was trained with dropout of {dropout:g}, which nnU-Net's plans leave out")
    # nnU-Net's output layer reads the original output, which has one feature per label
    last = f"decoder.seg_layers.{kwargs['n_stages'] - 2}"
    tensors[f"{last}.weight"] = torch.eye(outputs).reshape(outputs, outputs, *[1] * dimensions)
    tensors[f"{last}.bias"] = torch.zeros(outputs)
    notes.append(
        f"its last stage has as many features as the original has outputs, {outputs}: targets with many more labels "
        f"are better served by another source"
    )
    names = stated.channel_names({"channel_names": _definition(found, "inputs")})
    labels = stated.channel_names({"channel_names": _definition(found, "outputs")})
    metadata = stated.mapping(found.metadata)
    data = metadata.get("data_source")
    converted = Converted(
        tensors,
        architecture,
        inputs,
        channel_names=names if len(names) == inputs else (),
        trained_on=(data,) if isinstance(data, str) and data.strip() else (),
        citation="; ".join(stated.words(metadata.get("references"))) or MONAI_UNET_PAPER,
        notes=tuple(notes),
        outputs=(labels,) if len(labels) == outputs else (),
        made=(f"{last}.weight", f"{last}.bias"),
    )
    own = _is_synthstroke(found, kwargs, outputs)
    return _synthstroke(converted, str(settings.get("model_type", "")), outputs) if own else converted


def _synthstroke(converted: Converted, kind: str, outputs: int) -> Converted:
    real = kind.startswith(_REAL) or (not kind and outputs == 2)
    return replace(
        converted,
        channel_names=("T1",) if converted.input_channels == 1 else (),
        normalization_schemes=("ZScoreNormalization",) * converted.input_channels,
        spacing=(1.0, 1.0, 1.0),
        # in the order of the authors' training script
        trained_on=("ATLAS",) if real else ("ATLAS", "OASIS-3"),
        licence="MIT",
        citation=SYNTHSTROKE_PAPER,
        notes=(
            *converted.notes,
            "SynthStroke: its lesions are those of ATLAS; as a source for ATLAS it has seen the target's lesions",
            "the authors equalise histograms before normalising, which nnU-Net does not",
        ),
        outputs=(_SYNTHSTROKE_OUTPUTS[outputs],),
    )


def _is_synthstroke(found: Found, kwargs: Mapping[str, Any], outputs: int) -> bool:
    widths = (*kwargs["features_per_stage"][1:], kwargs["bottom_channels"])
    own = any(canonical_key(key).startswith("unet.model.") for key in found.tensors)
    return (
        own and widths == _SYNTHSTROKE_WIDTHS and outputs in _SYNTHSTROKE_OUTPUTS and kwargs["n_conv_per_stage"][0] == 1
    )


def _renamed(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], int]:
    """Return the tensors under this package's names, and the original number of outputs.

    Raises
    ------
    CheckpointError
        If a layer is missing, has parts that MONAI's layers don't have, or there are implausibly many outputs.
    """
    own = by_canonical_key(tensors)
    prefix = preferred(prefixes_of(tensors, _ANCHOR))
    parts: dict[tuple[int, str], torch.Tensor] = {}
    for key, tensor in own.items():
        # the prefix may contain `model.`, too, as Lightning's does
        if key.startswith(prefix) and (match := _KEY.fullmatch(key.removeprefix(prefix))):
            parts[match["depth"].count("submodule"), match["rest"]] = tensor
    depth = max((level for level, _ in parts), default=0)
    if not 1 <= depth <= MAX_DEPTH:
        raise CheckpointError(f"MONAI's U-Net has {depth} layers that change the size; 1 to {MAX_DEPTH} make sense")
    renamed = {}
    for (level, rest), tensor in parts.items():
        if name := _new_name(level, rest, depth):
            renamed[name] = tensor
        else:
            raise CheckpointError(
                f"model.{'1.submodule.' * level}{rest} is not part of MONAI's U-Net of residual units"
            )
    top = f"decoder.transpconvs.{depth - 1}.up.weight"
    if top not in renamed:
        raise CheckpointError("MONAI's U-Net lacks its last layer: the file is incomplete; copy or download it again")
    outputs = int(renamed[top].shape[1])
    if outputs > MAX_OUTPUTS:
        raise CheckpointError(f"MONAI's U-Net has {outputs} outputs; at most {MAX_OUTPUTS} make sense")
    return renamed, outputs


def _new_name(level: int, rest: str, depth: int) -> str:
    """Return this package's name for a part of layer `level` of `depth`; empty if it isn't MONAI's."""
    stage = f"encoder.stages.{min(level + 1, depth)}."
    if level == depth:
        return f"{stage}bottom.{match[1]}" if (match := _BOTTOM.fullmatch(rest)) else ""
    if match := _DOWN.fullmatch(rest):
        return f"{stage}{'down.' if level == depth - 1 else ''}{match[1]}"
    if match := _UP.fullmatch(rest):
        up = depth - 1 - level
        if match[1] == "1":
            return f"decoder.stages.{up}.{match[2]}"
        name = match[2]
        return f"decoder.transpconvs.{up}.{'up.' + name.removeprefix('conv.') if name.startswith('conv.') else name}"
    return ""


def _first(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    for down in ("", "down."):
        for conv in ("conv.unit0.conv", "conv"):
            if (weight := tensors.get(f"encoder.stages.1.{down}{conv}.weight")) is not None:
                return weight
    raise CheckpointError(
        "MONAI's U-Net lacks its first convolution: the file is incomplete; copy or download it again"
    )


def _settings(network: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the arguments of MONAI's class from the file beside the weights."""
    settings = stated.mapping(network)
    return stated.mapping(settings.get("config")) or settings


def _named(value: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the name and options of a layer type in MONAI's notation; an empty name if there is none."""
    if isinstance(value, list | tuple) and value:
        return str(value[0]).lower(), stated.mapping(value[1] if len(value) > 1 else None)
    return (value.lower(), {}) if isinstance(value, str) else ("", {})


def _check_settings(settings: Mapping[str, Any], known: bool) -> list[str]:
    """Check settings that tensors don't show; return notes on assumptions.

    Raises
    ------
    CheckpointError
        If `MonaiUNet` doesn't support the settings.
    """
    order = settings.get("adn_ordering", "NDA")
    if not isinstance(order, str) or order.upper().replace("D", "") != "NA":
        raise CheckpointError(
            f"its layers come in the order {str(order)[:20]}; only norm before nonlinearity is supported"
        )
    norm, _ = _named(settings.get("norm", "instance"))
    if norm not in ("instance", "batch"):
        raise CheckpointError(f"its norm is {norm or 'none'}; only instance and batch normalisation are supported")
    return (
        [] if known else ["no settings lie beside the weights: MONAI's defaults are assumed where no tensor shows them"]
    )


def _norm_options(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the stated options of the norm that no tensor shows.

    Raises
    ------
    CheckpointError
        If an option is none of those that are read.
    """
    _, options = _named(settings.get("norm"))
    if unknown := sorted(set(options) - _NORM_OPTIONS):
        raise CheckpointError(f"its norm has the option {one_line(unknown[0], 40)}, which is not read")
    eps = options.get("eps", 1e-5)
    if not stated.numbers([eps]) or not 0 < eps < 1:
        raise CheckpointError(f"its norm has eps {one_line(eps, 40)}, which is not a number between 0 and 1")
    return {"eps": float(eps)}


def _nonlinearity(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any], notes: list[str]) -> str:
    slopes = [tensor for key, tensor in tensors.items() if key.endswith(".adn.A.weight")]
    if any(tensor.numel() != 1 for tensor in slopes):
        raise CheckpointError("its PReLUs have a slope per channel; only one for all is supported")
    if slopes:
        return "PReLU"
    name, options = _named(settings.get("act"))
    if not name:
        notes.append("no tensor shows the nonlinearity; ReLU is assumed")
        return "ReLU"
    if name not in _NONLINEARITIES or name == "prelu" or set(options) - {"inplace"}:
        raise CheckpointError(f"its nonlinearity {name[:20]} with {len(options)} options is not read")
    return _NONLINEARITIES[name]


def _stated_strides(settings: Mapping[str, Any], stages: int, dimensions: int) -> list[list[int]]:
    listed = settings.get("strides")
    if not isinstance(listed, list | tuple) or len(listed) < stages - 1:
        return []
    strides = [[int(s)] * dimensions if isinstance(s, int) else [int(v) for v in stated.numbers(s)] for s in listed]
    if any(len(entry) != dimensions or min(entry) < 1 for entry in strides):
        raise CheckpointError(f"its settings have strides {str(listed)[:100]} for a network of {dimensions} axes")
    return strides[: stages - 1]


def _definition(found: Found, side: str) -> Mapping[str, Any]:
    """Return the names of channels in a bundle's metadata, number -> name, by number: 10 may come before 2 in the file."""
    formats = stated.mapping(stated.mapping(found.metadata).get("network_data_format"))
    first = next(iter(stated.mapping(formats.get(side)).values()), None)
    names = stated.mapping(stated.mapping(first).get("channel_def"))
    numbered = all(number.isdecimal() for number in names)
    return {number: names[number] for number in sorted(names, key=int)} if numbered else names


MONAI_UNET = Format("MONAI's U-Net", _recognise, _convert)
