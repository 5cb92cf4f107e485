"""nnssl's checkpoints: self-supervised networks with an `nnssl_adaptation_plan` (OpenMind and others).

Their architecture may be given by name alone (`arch_kwargs` is null).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.found import Found, json_of
from nnunet_transfer.checkpoints.nnunet_v2 import has_nnunet_keys, input_channels_of, nnunet_tensors, parts_of
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError

#: nnssl's names of networks -> whether the decoder is nnU-Net's, with skip connections
_NETWORKS = {"ResEncL": True, "NoSkipResEncL": False, "ResidualEncoderUNet": True, "PlainConvUNet": True}


def _convert(found: Found) -> Converted:
    plan = found.adaptation_plan or {}
    architecture_plans = plan.get("architecture_plans") or {}
    name = str(architecture_plans.get("arch_class_name", "")).rsplit(".", 1)[-1]
    if name not in _NETWORKS or not has_nnunet_keys(found.tensors):
        raise CheckpointError(
            f"the checkpoint is a {name or 'network without a name'}; its weights are of no use to an nnU-Net CNN, "
            f"only those of {', '.join(_NETWORKS)} are"
        )
    tensors = nnunet_tensors(found.tensors)
    notes = []
    if not _NETWORKS[name]:
        tensors = {k: t for k, t in tensors.items() if k.startswith("encoder.")}
        notes.append("its decoder has no skip connections and was left out")
    if architecture_plans.get("arch_kwargs") is None:
        notes.append("the architecture was read off the shapes: the adaptation plan gives only its name")
    # shapes say more than `arch_kwargs`, which nnssl leaves out or writes in several ways
    architecture = architecture_from_shapes(tensors)
    configuration = _first(plan.get("pretrain_plan"))
    citations = found.top.get("citations") or ()
    return Converted(
        tensors,
        architecture,
        input_channels_of(tensors),
        parts=parts_of(tensors),
        normalization_schemes=tuple(map(str, configuration.get("normalization_schemes") or ())),
        spacing=tuple(float(v) for v in configuration.get("spacing") or ()),
        patch_size=tuple(int(v) for v in configuration.get("patch_size") or ()),
        trained_on=_dataset(plan.get("pretrain_plan")),
        citation="; ".join(map(str, json_of(citations))) if not isinstance(citations, str) else citations,
        notes=tuple(notes),
    )


def _first(pretrain_plan: Any) -> Mapping[str, Any]:
    configurations = pretrain_plan.get("configurations") if isinstance(pretrain_plan, Mapping) else None
    return next(iter(configurations.values())) if configurations else {}


def _dataset(pretrain_plan: Any) -> tuple[str, ...]:
    name = pretrain_plan.get("dataset_name") if isinstance(pretrain_plan, Mapping) else None
    return (str(name),) if name else ()


NNSSL = Format("nnssl", lambda found: found.adaptation_plan is not None, _convert)
