"""The part of an nnU-Net network that a tensor belongs to, and the family of a network."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PART_PATTERNS = (
    (
        "stem",
        re.compile(
            r"encoder\.(stem\.|stages\.0\.0\.convs\.0\.|stages\.0\.0\.(conv1|norm1|conv3)\.|stages\.0\.(ops|units)\.0\."
            r"|stages\.1\.(down\.)?(conv\.unit0\.|conv\.(weight|bias)|adn\.|residual\.))"
        ),
    ),
    ("encoder", re.compile(r"encoder\.")),
    ("head", re.compile(r"decoder\.seg_layers\.")),
    ("decoder", re.compile(r"decoder\.")),
)
_FAMILY_PATTERNS = (
    ("residual encoder", re.compile(r"encoder\.(stem|stages\.\d+\.blocks)\.")),
    ("plain encoder", re.compile(r"encoder\.stages\.\d+\.\d+\.convs\.")),
    ("STU-Net encoder", re.compile(r"encoder\.stages\.\d+\.\d+\.conv1\.")),
    ("Models Genesis encoder", re.compile(r"encoder\.stages\.\d+\.ops\.")),
    ("anatomix encoder", re.compile(r"encoder\.stages\.\d+\.units\.")),
    ("MONAI residual U-Net encoder", re.compile(r"encoder\.stages\.\d+\.((down|bottom)\.)?conv\.unit0\.")),
    ("MONAI plain U-Net encoder", re.compile(r"encoder\.stages\.\d+\.((down|bottom)\.)?conv\.weight")),
)
_ENCODER_STAGE = re.compile(r"encoder\.stages\.(\d+)\.")
_DECODER_STAGE = re.compile(r"decoder\.(stages|transpconvs|seg_layers)\.(\d+)\.")
#: convolutions that read the image: one, or in STU-Net and MONAI's U-Net also the shortcut of the first block
_INPUT_CONVOLUTION = re.compile(
    r"encoder\.(stem\.convs\.0\.conv|stages\.0\.0\.convs\.0\.conv|stages\.0\.0\.conv[13]|stages\.0\.ops\.0\.conv1"
    r"|stages\.0\.units\.0\.conv|stages\.1\.(down\.)?(conv\.unit0\.conv|conv|residual))\.weight"
)
_TRANSPOSED = re.compile(r"decoder\.transpconvs\.\d+\.(up\.)?weight")
#: MONAI's have kernel 3 and stride 2
_OVERLAPPING = re.compile(r"decoder\.transpconvs\.\d+\.up\.weight")

#: convolution after a skip connection -> shares of its input channels from decoder and encoder
_BEHIND_SKIP = (
    (re.compile(r"decoder\.stages\.\d+\.(convs\.0\.conv|0\.conv[13])\.weight"), (1, 1)),
    # its transposed convolutions keep the number of channels, twice that of the stage above
    (re.compile(r"decoder\.stages\.\d+\.(ops\.0\.conv1|units\.0\.conv)\.weight"), (2, 1)),
    (_OVERLAPPING, (1, 1)),
)


def part_of(key: str) -> str | None:
    """Return `stem`, `encoder`, `decoder` or `head`; `None` if the key doesn't belong to an nnU-Net network."""
    return next((part for part, pattern in _PART_PATTERNS if pattern.match(key)), None)


def family_of(keys: Iterable[str]) -> str | None:
    """Return the family, such as `residual encoder` or `plain encoder`; `None` if the keys belong to no family."""
    keys = list(keys)
    return next((f for f, pattern in _FAMILY_PATTERNS if any(pattern.match(k) for k in keys)), None)


def is_input_convolution(key: str) -> bool:
    """Whether the tensor is the weight of a convolution that reads the image."""
    return _INPUT_CONVOLUTION.fullmatch(key) is not None


def is_transposed(key: str) -> bool:
    """Whether the tensor is the weight of a transposed convolution."""
    return _TRANSPOSED.fullmatch(key) is not None


def taps_overlap(key: str) -> bool:
    """Whether the tensor is the weight of a transposed convolution whose kernel is larger than its stride."""
    return _OVERLAPPING.fullmatch(key) is not None


def input_shares(key: str) -> tuple[int, ...]:
    """Return the shares of a weight's input channels from each input: decoder and encoder after a skip connection."""
    return next((shares for pattern, shares in _BEHIND_SKIP if pattern.fullmatch(key)), (1,))


def number_of_stages(keys: Iterable[str]) -> int:
    """Return the number of encoder stages."""
    return 1 + max((int(m[1]) for k in keys if (m := _ENCODER_STAGE.match(k))), default=-1)


def decoder_stage(key: str) -> int | None:
    """Return the stage of a tensor of the decoder or of an output layer, counted from the bottleneck up; otherwise None."""
    match = _DECODER_STAGE.match(key)
    return None if match is None else int(match[2])


def shift_decoder_stage(key: str, by: int) -> str | None:
    """Return `key` with its decoder stage moved by `by`; `None` if there is no such stage.

    nnU-Net counts decoder stages from the bottleneck up. Networks with different numbers of stages agree at
    full resolution, so their decoders are aligned at that end.
    """
    match = _DECODER_STAGE.match(key)
    if match is None or by == 0:
        return key
    stage = int(match[2]) + by
    return None if stage < 0 else f"decoder.{match[1]}.{stage}.{key[match.end() :]}"
