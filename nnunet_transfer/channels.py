"""The image channels of a data set by nnU-Net's rule: their order in `dataset.json` counts, the keys are free. No torch.

nnU-Net asks for the number and the order of the entries only (nnunetv2 2.8.1, `determine_num_input_channels` and the
planners); entry k is read from the files `*_000k`. Data sets of early versions call the block `modality`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_transfer.errors import DataError

#: nnU-Net's names of normalisation schemes (`map_channel_name_to_normalization`) that don't describe the image; `CT` does
#: and is left out
NORMALISATIONS = frozenset(("nonorm", "zscore", "rescale_to_0_1", "rgb_to_0_1"))


def channel_names(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a data set's image channels in nnU-Net's order.

    Raises
    ------
    DataError
        If there are none, or `channel_names` and `modality` contradict each other.

    Examples
    --------
    >>> channel_names({"channel_names": {"b": "T1", "a": "FLAIR"}})
    ('T1', 'FLAIR')
    """
    blocks = [dataset_json[key] for key in ("channel_names", "modality") if dataset_json.get(key)]
    if not blocks or not all(isinstance(block, Mapping) for block in blocks):
        raise DataError('dataset.json names no channels; add for instance "channel_names": {"0": "T1"}')
    if len({len(block) for block in blocks}) > 1:
        raise DataError(
            "channel_names and modality in dataset.json have different numbers of channels; remove modality"
        )
    return tuple(map(str, blocks[0].values()))


def is_name(channel_name: str) -> bool:
    """Whether a channel's name describes the image, not only its normalisation.

    Examples
    --------
    >>> is_name("CT"), is_name("zscore"), is_name("noNorm")
    (True, False, False)
    """
    return channel_name.strip().casefold() not in NORMALISATIONS and bool(channel_name.strip())


def comparable(channel_name: str) -> str:
    """Return a channel's name for comparison: case, blanks, `-` and `_` don't count.

    Examples
    --------
    >>> comparable("T2-w ") == comparable("t2_W")
    True
    """
    return "".join(c for c in channel_name.casefold() if c.isalnum())
