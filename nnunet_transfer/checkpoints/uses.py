"""What a checkpoint can be used for, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnunet_transfer.checkpoints.shapes import OWN_NETWORKS
from nnunet_transfer.sources.outputs import BACKGROUND
from nnunet_transfer.sources.terms import licence_note

_SHOWN = 12


def uses_of(
    architecture: Mapping[str, Any], parts: str, outputs: Sequence[Sequence[str]], licence: str
) -> Iterator[str]:
    """Yield the uses that an architecture, the parts with weights, the output names and the licence allow."""
    flat = str(architecture["arch_kwargs"].get("conv_op", "")).endswith("2d")
    ways = "2D as it is, 3D by inflation" if flat else "3D as it is, 2D by summing kernels along the first axis"
    whole = "decoder" in parts
    yield f"starts {'encoder and decoder' if whole else 'the encoder'} of nnU-Net trainings ({ways})"
    if str(architecture["network_class_name"]) in OWN_NETWORKS:
        yield "what is trained from it predicts where nnunet_transfer is installed"
    else:
        yield "what is trained from it predicts in stock nnU-Net, by `export-stock`"
    names = [name for group in outputs for name in group if name != BACKGROUND]
    if names and whole:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        yield f"recipe byName starts from its output layers where the target's labels have these names: {shown}"
    yield licence_note(licence)
