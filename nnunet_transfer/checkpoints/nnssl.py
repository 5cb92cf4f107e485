"""nnssl's checkpoints: self-supervised networks with an `nnssl_adaptation_plan` (OpenMind and others).

Their architecture may be given only by name (`arch_kwargs` is null).
"""

from __future__ import annotations

from nnunet_transfer.checkpoints import stated
from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.copies import check_copies
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.nnunet_v2 import (
    has_nnunet_keys,
    input_channels_of,
    nnunet_tensors,
    other_networks,
    parts_of,
)
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError

#: nnssl's names of networks -> whether the decoder is nnU-Net's, with skip connections
_NETWORKS = {"ResEncL": True, "NoSkipResEncL": False, "ResidualEncoderUNet": True, "PlainConvUNet": True}


def _convert(found: Found) -> Converted:
    plan = found.adaptation_plan or {}
    architecture_plans = stated.mapping(plan.get("architecture_plans"))
    name = str(architecture_plans.get("arch_class_name", "")).rsplit(".", 1)[-1]
    if name in _NETWORKS and not has_nnunet_keys(found.tensors):
        raise CheckpointError(
            f"the adaptation plan says {name}, but the weights have other keys, such as {next(iter(found.tensors))}"
        )
    if name not in _NETWORKS:
        raise CheckpointError(
            f"the checkpoint is a {name or 'network without a name'}; its weights don't fit nnU-Net's CNNs, "
            f"only those of {', '.join(_NETWORKS)} do"
        )
    check_copies(found.tensors)
    tensors = nnunet_tensors(found.tensors)
    notes = [*other_networks(found.tensors)]
    if not _NETWORKS[name]:
        tensors = {k: t for k, t in tensors.items() if k.startswith("encoder.")}
        notes.append("its decoder has no skip connections and was left out")
    if architecture_plans.get("arch_kwargs") is None:
        notes.append("the architecture was derived from the shapes: the adaptation plan gives only its name")
    # shapes are more reliable than `arch_kwargs`, which nnssl omits or writes in several ways
    architecture = architecture_from_shapes(tensors)
    pretrain_plan = stated.mapping(plan.get("pretrain_plan"))
    configuration = stated.mapping(next(iter(stated.mapping(pretrain_plan.get("configurations")).values()), None))
    citations = found.top.get("citations")
    return Converted(
        tensors,
        architecture,
        input_channels_of(tensors),
        parts=parts_of(tensors),
        normalization_schemes=stated.words(configuration.get("normalization_schemes")),
        spacing=stated.numbers(configuration.get("spacing")),
        patch_size=tuple(map(int, stated.numbers(configuration.get("patch_size")))),
        trained_on=(str(pretrain_plan["dataset_name"]),) if pretrain_plan.get("dataset_name") else (),
        citation=citations if isinstance(citations, str) else "; ".join(stated.words(citations)),
        notes=tuple(notes),
    )


def _recognise(found: Found) -> bool:
    # a plan beside a file of another program isn't that file's
    own = "network_weights" in found.top or "nnssl_adaptation_plan" in found.top
    return found.adaptation_plan is not None and (own or has_nnunet_keys(found.tensors))


NNSSL = Format("nnssl", _recognise, _convert)
