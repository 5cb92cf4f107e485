"""The table of formats, most specific first, and key maps of users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from nnunet_transfer.checkpoints.anatomix_unet import ANATOMIX
from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.copies import check_copies
from nnunet_transfer.checkpoints.dynunet import DYNUNET
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.genesis_unet import GENESIS
from nnunet_transfer.checkpoints.monai_unet import MONAI_UNET
from nnunet_transfer.checkpoints.nnssl import NNSSL
from nnunet_transfer.checkpoints.nnunet_v1 import NNUNET_V1
from nnunet_transfer.checkpoints.nnunet_v2 import (
    NNUNET_KEYS,
    NNUNET_V2,
    has_nnunet_keys,
    input_channels_of,
    nnunet_tensors,
    other_networks,
    parts_of,
)
from nnunet_transfer.checkpoints.refused import REFUSED
from nnunet_transfer.checkpoints.resnet import RESNET
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.checkpoints.stunet import STU_NET
from nnunet_transfer.errors import CheckpointError, DataError
from nnunet_transfer.files import read_text
from nnunet_transfer.registration import Registry
from nnunet_transfer.unpickling.process import answer_of


def _check_format(name: str, known: Format) -> None:
    if not isinstance(known, Format) or known.name != name:
        raise CheckpointError(f"checkpoint format {name}: register a Format with this name")


FORMATS: Registry[Format] = Registry(
    "formats",
    {
        known.name: known
        for known in (
            *(NNSSL, NNUNET_V2, STU_NET, NNUNET_V1, NNUNET_KEYS, GENESIS, MONAI_UNET, DYNUNET, ANATOMIX, RESNET),
            *REFUSED,
        )
    },
    _check_format,
)
KEYS_SHOWN = 3
#: maximum size of a key map in bytes, and maximum CPU time of its rules in seconds
MAX_KEY_MAP = 1 << 20
RENAMING_SECONDS = 10


@dataclass(frozen=True)
class KeyMap:
    """A user's rules for renaming keys.

    Attributes
    ----------
    path : the file
    rules : line number, regular expression and replacement, as text
    """

    path: Path
    rules: tuple[tuple[int, str, str], ...]


def recognise(found: Found) -> Format:
    """Return the format of a checkpoint.

    Raises
    ------
    CheckpointError
        If no format recognises it; the message shows some keys and how to map them.
    """
    added = [name for name in FORMATS if name not in FORMATS.own]
    # registered formats are more specific than built-in ones, which may misinterpret them
    for known in (FORMATS[name] for name in (*added, *FORMATS.own)):
        if known.recognise(found):
            return known
    keys = ", ".join(list(found.tensors)[:KEYS_SHOWN])
    raise CheckpointError(
        f"{found.path.name}: none of the known formats ({', '.join(FORMATS)}) has keys like {keys}; "
        f"map them to nnU-Net's with --map FILE"
    )


def read_key_map(path: Path) -> KeyMap:
    """Read a key map: one `regular expression = replacement` per line; `#` starts a comment. The replacement may be empty.

    Regular expressions are only compiled when they are used, in a process with a time limit.

    Raises
    ------
    CheckpointError
        If a line is not a rule; the message states its number.
    """
    try:
        lines = read_text(path, limit=MAX_KEY_MAP).removeprefix("\ufeff").split("\n")
    except DataError as error:
        raise CheckpointError(f"the key map can't be read: {error}") from None
    rules = []
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        # nothing after the sign deletes what matches
        pattern, equals, replacement = (part.strip() for part in f"{text} ".partition(" = "))
        if not equals:
            raise CheckpointError(f"{path}, line {number}: '{text}' is not a rule: it has no ' = '")
        rules.append((number, pattern, replacement))
    if not rules:
        raise CheckpointError(f"the key map {path} has no rules; write lines like: layer(\\d) = encoder.stages.\\1")
    return KeyMap(path, tuple(rules))


def convert_mapped(tensors: Mapping[str, torch.Tensor], key_map: KeyMap) -> Converted:
    """Rename all keys by a key map's rules, each applied once in order, and read the result as nnU-Net's keys.

    Raises
    ------
    CheckpointError
        If a rule is invalid or takes too long, two keys get the same name, or the result is not an nnU-Net network.
    """
    # a pattern may take forever to match a key
    answer = answer_of({"rename": list(tensors), "rules": key_map.rules}, seconds=RENAMING_SECONDS)
    if reason := answer.get("refused"):
        raise CheckpointError(f"{key_map.path}, {reason}")
    if "names" not in answer:
        raise CheckpointError(
            f"the key map {key_map.path} takes more than {RENAMING_SECONDS} s for {len(tensors)} keys; make its patterns simpler"
        )
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in zip(answer["names"], tensors.values(), strict=True):
        if name in renamed:
            raise CheckpointError(f"the key map gives two tensors the name {name}; make its patterns narrower")
        renamed[name] = tensor
    check_copies(renamed)
    own = nnunet_tensors(renamed)
    if not has_nnunet_keys(own):
        raise CheckpointError(
            f"after the key map the keys are not nnU-Net's (encoder.stages.0...), "
            f"but {', '.join(list(renamed)[:KEYS_SHOWN])}"
        )
    unused = [f"the key map's line {line} matches no key" for line in answer["unused"]]
    notes = ("keys by the user's map; the architecture was derived from the shapes", *unused, *other_networks(renamed))
    return Converted(own, architecture_from_shapes(own), input_channels_of(own), parts=parts_of(own), notes=notes)
