"""The U-Net of Models Genesis and of SuPreM, for this package's `GenesisUNet`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from nnunet_transfer.checkpoints.converted import NEEDS_PACKAGE, Converted, Format
from nnunet_transfer.checkpoints.copies import by_canonical_key
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.nnunet_v2 import input_channels_of, parts_of
from nnunet_transfer.checkpoints.papers import GENESIS_PAPER, SUPREM_PAPER
from nnunet_transfer.checkpoints.several import note_on_others, preferred, prefixes_of
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.sources.keys import is_statistic

#: what a file says of itself only by the key that SuPreM's training writes
_SUPREM = "net"
_ANCHOR = re.compile(r"(.*?)down_tr(\d+)\.ops\.")
#: stages are named after their widths
_DOWN = re.compile(r"down_tr(\d+)\.(ops\..+)")
_UP = re.compile(r"up_tr(\d+)\.(ops\.|up_conv\.)(.+)")


def _recognise(found: Found) -> bool:
    return any(_ANCHOR.match(key) for key in found.tensors)


def _convert(found: Found) -> Converted:
    tensors = _renamed(found.tensors)
    if other := next((k for k in tensors if ".activation." in k), None):
        raise CheckpointError(f"{other}: the network's nonlinearity has weights, that of Models Genesis has none")
    notes = (
        NEEDS_PACKAGE,
        "the original normalises by each batch's own statistics in evaluation, too: running statistics are left out",
        "it was trained on CT whose intensities were cut and scaled to 0 to 1",
        *note_on_others(prefixes_of(found.tensors, _ANCHOR)),
    )
    return Converted(
        tensors,
        architecture_from_shapes(tensors),
        input_channels_of(tensors),
        parts=parts_of(tensors),
        citation=SUPREM_PAPER if _SUPREM in found.top else GENESIS_PAPER,
        notes=notes,
    )


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = by_canonical_key({key: tensor for key, tensor in tensors.items() if not is_statistic(key)})
    prefix = preferred(prefixes_of(tensors, _ANCHOR))
    own = {key.removeprefix(prefix): tensor for key, tensor in own.items() if key.startswith(prefix)}
    down = _numbered(sorted({int(m[1]) for key in own if (m := _DOWN.fullmatch(key))}))
    up = _numbered(sorted({int(m[1]) for key in own if (m := _UP.fullmatch(key))}, reverse=True))
    renamed = {}
    for key, tensor in own.items():
        if match := _DOWN.fullmatch(key):
            renamed[f"encoder.stages.{down[int(match[1])]}.{match[2]}"] = tensor
        elif match := _UP.fullmatch(key):
            # the output layer out_tr belongs to the source's task
            kind = "stages" if match[2] == "ops." else "transpconvs"
            number = up[int(match[1])]
            renamed[f"decoder.{kind}.{number}.{'ops.' if kind == 'stages' else ''}{match[3]}"] = tensor
    return renamed


def _numbered(widths: Sequence[int]) -> dict[int, int]:
    return {width: number for number, width in enumerate(widths)}


GENESIS = Format("Models Genesis' U-Net", _recognise, _convert)
