"""nnU-Net v2: runs, exported models, and any file whose keys are those of nnU-Net's U-Nets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from nnunet_transfer.checkpoints import stated
from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.copies import check_copies
from nnunet_transfer.checkpoints.found import Found, json_of
from nnunet_transfer.checkpoints.several import note_on_others, preferred, prefixes_of
from nnunet_transfer.checkpoints.shapes import OWN_NETWORKS, architecture_from_shapes
from nnunet_transfer.configurations import with_inherited
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.plans.classes import NETWORKS
from nnunet_transfer.sources.keys import canonical
from nnunet_transfer.words import counted

_ENCODER = re.compile(
    r"encoder\.stages\.\d+\.(blocks\.\d+\.conv1\.conv|0\.convs\.\d+\.conv|\d+\.conv1|ops\.\d+\.conv1|units\.\d+\.conv"
    r"|(down\.)?conv\.unit0\.conv|down\.conv)\.weight"
)
#: the paper behind the weights of every nnU-Net run
NNUNET_PAPER = "Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021), doi 10.1038/s41592-020-01008-z"


#: convolution that reads the image, by type of network
_FIRST = (
    "encoder.stem.convs.0.conv.weight",
    "encoder.stages.0.0.convs.0.conv.weight",
    "encoder.stages.0.0.conv1.weight",
    "encoder.stages.0.ops.0.conv1.weight",
    "encoder.stages.0.units.0.conv.weight",
    *(f"encoder.stages.1.{down}{conv}.weight" for down in ("", "down.") for conv in ("conv.unit0.conv", "conv")),
)
#: prefixes of nnU-Net's keys in files of Lightning and other wrappers; the decoder contains the encoder
_PREFIX = re.compile(r"(.*?)(?:(?<![^.])decoder\.)?encoder\.(?:stem\.convs|stages\.[01])\.")
_HEAD = re.compile(r"decoder\.seg_layers\.\d+\.weight")
#: a network consists of these
_PARTS = ("encoder.", "decoder.")


def nnunet_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of one network under canonical names, without prefixes and tensors of other programs."""
    prefix = preferred(_prefixes(tensors))
    own = canonical(tensors) if prefix else tensors
    named = canonical({key[len(prefix) :]: tensor for key, tensor in own.items() if key.startswith(prefix)})
    # training may add queues and counters
    return {key: tensor for key, tensor in named.items() if key.startswith(_PARTS)}


def other_networks(tensors: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return a note on the networks that `nnunet_tensors` leaves out, if there are any."""
    return note_on_others(_prefixes(tensors))


def _prefixes(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    return {prefix for prefix in prefixes_of(tensors, _PREFIX) if not prefix or prefix.endswith(".")}


def has_nnunet_keys(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether the keys, without wrappers and aliases, are those of U-Nets of nnU-Net or this package."""
    return any(_ENCODER.fullmatch(key) for key in nnunet_tensors(tensors))


def input_channels_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the number of channels that the first convolution reads."""
    for key in _FIRST:
        if key in tensors:
            return int(tensors[key].shape[1])
    raise CheckpointError("the network has no first convolution under nnU-Net's name")


def parts_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return `encoder` or `encoder+decoder`, depending on the canonical tensors."""
    whole = any(k.startswith(("decoder.stages.", "decoder.transpconvs.")) for k in tensors)
    return "encoder+decoder" if whole else "encoder"


def _convert_run(found: Found) -> Converted:
    plans, configuration = stated_configuration(found)
    dataset = stated.mapping(stated.mapping(found.top.get("init_args")).get("dataset_json")) or found.dataset or {}
    check_copies(found.tensors)
    tensors = nnunet_tensors(found.tensors)
    own = stated.architecture(configuration) or stated.old_architecture(configuration)
    why = "the plans with the weights don't state it" if plans else "no plans lie beside the weights"
    notes = [*other_networks(found.tensors)]
    if not own:
        notes.append(f"the architecture was derived from the shapes: {why}")
    architecture = (
        {
            "network_class_name": own["network_class_name"],
            "arch_kwargs": json_of(own["arch_kwargs"]),
            "arch_kwargs_req_import": list(own["_kw_requires_import"]),
        }
        if own
        else architecture_from_shapes(tensors)
    )
    network = str(architecture["network_class_name"])
    if network not in OWN_NETWORKS and not network.endswith(("PlainConvUNet", "ResidualEncoderUNet")):
        raise CheckpointError(
            f"the network is a {network.rsplit('.', 1)[-1]}; only PlainConvUNet, ResidualEncoderUNet and the networks of "
            f"nnunet_transfer exchange weights"
        )
    if own:
        found_architecture = architecture_from_shapes(tensors)
        shown = found_architecture["arch_kwargs"]
        # names that no network may have are refused later, by name
        if network in NETWORKS and network != found_architecture["network_class_name"]:
            raise _other_network("network_class_name", network, found_architecture["network_class_name"])
        _check_plans(architecture["arch_kwargs"], shown, tensors)
        if norm := _trained_norm(architecture["arch_kwargs"], shown, tensors):
            architecture["arch_kwargs"] = {**architecture["arch_kwargs"], **norm}
            notes.append(
                f"the norm is that of the weights, {norm['norm_op'].rsplit('.', 1)[-1]}: the plans say another"
            )
    outputs, heads = stated.outputs(dataset), _number_of_outputs(tensors)
    if outputs and sum(map(len, outputs)) != heads:
        if heads:
            notes.append(
                f"dataset.json names {sum(map(len, outputs))} outputs, the network has {heads}: the names are left out"
            )
        outputs = ()
    inputs = input_channels_of(tensors)
    names = stated.channel_names(dataset)
    schemes = stated.words(configuration.get("normalization_schemes"))
    labels = inputs - (len(names) or len(schemes) or inputs) if configuration.get("previous_stage") else 0
    if labels > 0:
        notes.append(
            f"the second stage of a cascade: the last {labels} of {inputs} input channels hold the first stage's labels; a "
            f"transfer takes the channels of images alone"
        )
    if names and len(names) != inputs - max(labels, 0):
        notes.append(
            f"dataset.json names {counted(len(names), 'channel')}, the network has {inputs}: the names are left out"
        )
    return Converted(
        tensors,
        architecture,
        inputs,
        channel_names=names if len(names) == inputs - max(labels, 0) else (),
        parts=parts_of(tensors),
        normalization_schemes=schemes,
        spacing=stated.numbers(configuration.get("spacing")),
        patch_size=tuple(map(int, stated.numbers(configuration.get("patch_size")))),
        trained_on=(str(plans["dataset_name"]),) if plans.get("dataset_name") else (),
        licence=str(dataset.get("licence") or dataset.get("license") or ""),
        citation=NNUNET_PAPER,
        notes=tuple(notes),
        label_channels=max(labels, 0),
        outputs=outputs,
    )


def _number_of_outputs(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the number of outputs of the output layers; 0 without any, or if theirs differ."""
    heads = {len(tensor) for key, tensor in tensors.items() if _HEAD.fullmatch(key) and tensor.dim()}
    return heads.pop() if len(heads) == 1 else 0


def _trained_norm(own: Mapping[str, Any], shown: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the settings of BatchNorm if a trainer put it in the place of the plans' InstanceNorm, as nnUNetTrainerBN does.

    InstanceNorm has no running statistics unless the plans ask for them.
    """
    planned = "InstanceNorm" in str(own.get("norm_op"))
    tracked = stated.mapping(own.get("norm_op_kwargs")).get("track_running_stats")
    trained = "BatchNorm" in str(shown.get("norm_op")) and any(key.endswith(".running_mean") for key in keys)
    return {key: shown[key] for key in ("norm_op", "norm_op_kwargs")} if planned and trained and not tracked else {}


#: settings that follow from the shapes of an encoder
_SHOWN = (
    *("conv_op", "n_stages", "features_per_stage", "n_blocks_per_stage", "n_conv_per_stage", "kernel_sizes"),
    *("conv_bias", "block", "bottleneck_channels", "stem_channels"),
)


def _check_plans(own: Mapping[str, Any], found: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Check that plans describe the network whose weights have these keys; `found` was derived from the weights."""
    stages, axes = found["n_stages"], len(found["kernel_sizes"][0])
    own, found = _complete(own), _complete(found)
    shown = list(_SHOWN)
    if any(re.match(r"decoder\.stages\.\d+\.convs\.", key) for key in keys):
        shown.append("n_conv_per_stage_decoder")
    if any(re.fullmatch(r"decoder\.transpconvs\.\d+\.weight", key) for key in keys):
        shown.append("strides")
    for name in shown:
        if name not in own or name not in found:
            continue
        said, seen = (_written_out(name, value, stages, axes) for value in (own[name], found[name]))
        if name == "strides":  # the stride of the first stage is unknown
            said, seen = said[1:], seen[1:]
        if said != seen:
            raise _other_network(name, own[name], found[name])


def _other_network(setting: str, said: Any, seen: Any) -> CheckpointError:
    return CheckpointError(
        f"the plans with the weights say {setting} {said}, the weights {seen}: they belong to another network"
    )


def _complete(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a network with those that plans may leave out."""
    widths = kwargs.get("features_per_stage")
    first = widths[0] if isinstance(widths, list | tuple) and widths else widths
    return {"block": "BasicBlockD", "stem_channels": first, **{k: v for k, v in kwargs.items() if v is not None}}


def _written_out(name: str, value: Any, stages: int, axes: int) -> Any:
    """Expand a setting to one entry per stage and axis, as plans may state one number for all, and shorten names of classes."""
    if name in ("n_stages", "conv_bias", "stem_channels"):
        return value
    if name in ("conv_op", "block"):
        return str(value).rsplit(".", 1)[-1]
    count = stages - 1 if name == "n_conv_per_stage_decoder" else stages
    entries = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if name in ("kernel_sizes", "strides"):
        return [list(entry) if isinstance(entry, (list, tuple)) else [entry] * axes for entry in entries]
    return entries


def stated_configuration(found: Found) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the plans with a checkpoint and the configuration that it was trained with; empty if there are none."""
    arguments = stated.mapping(found.top.get("init_args"))
    plans = stated.mapping(arguments.get("plans")) or found.plans or {}
    configurations = stated.mapping(plans.get("configurations"))
    name = str(arguments.get("configuration") or _name_of(found, configurations))
    return plans, with_inherited(configurations, name)


def _name_of(found: Found, configurations: Mapping[str, Any]) -> str:
    """Return the configuration named in the run's folder, `<trainer>__<plans>__<configuration>`, or the only one."""
    last = found.run_folder.rsplit("__", 1)[-1]
    return last if last in configurations else next(iter(configurations)) if len(configurations) == 1 else ""


def _convert_keys(found: Found) -> Converted:
    check_copies(found.tensors)
    tensors = nnunet_tensors(found.tensors)
    return Converted(
        tensors,
        architecture_from_shapes(tensors),
        input_channels_of(tensors),
        parts=parts_of(tensors),
        notes=(
            "the architecture was derived from the shapes; strides without a decoder are taken as 2",
            *(
                ["plans.json beside the weights isn't used: the file isn't a checkpoint of nnU-Net's"]
                if found.plans
                else []
            ),
            *other_networks(found.tensors),
        ),
    )


NNUNET_V2 = Format(
    "nnU-Net v2",
    lambda found: "network_weights" in found.top and has_nnunet_keys(found.tensors),
    _convert_run,
)
NNUNET_KEYS = Format("nnU-Net's keys", lambda found: has_nnunet_keys(found.tensors), _convert_keys)
