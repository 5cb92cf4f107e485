"""The registry name of a pretrainer's source.

The name is `<domain>_<task>`, as the arms expect: `natural_classification`, `t1_self_supervised` and so on.
The domain follows from the data set's channels: red, green and blue (or grey) are natural images, T1 is brain MRI, and
any other channels give their own names. `"source_domain"` in dataset.json overrides the domain, and the environment variable
`nnUNet_source_name` sets the whole name for one run, for example to compare several sources of one task.
Methods other than the default add their name, so that their sources can coexist: `t1_self_supervised_simclr`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_transfer.channels import channel_names, is_name
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.sources.schema import NAME, NAME_RULE

VARIABLE = "nnUNet_source_name"
DOMAIN_KEY = "source_domain"
NATURAL, T1 = "natural", "t1"

_NATURAL_CHANNELS = {
    "r",
    "g",
    "b",
    "a",
    "red",
    "green",
    "blue",
    "alpha",
    "rgb",
    "gray",
    "grey",
    "grayscale",
    "greyscale",
}
_RGB = ({"r", "g", "b"}, {"red", "green", "blue"})
_T1 = re.compile(r"(^|.*[^a-z0-9])(t1|t1w|mprage|mp2rage)([^a-z0-9].*|$)")
_CONTRAST = re.compile(r"(^|[^a-z])(ce|c|gd|gado|post|contrast)([^a-z]|$)")


def domain_of(names: Sequence[str]) -> str:
    """Return `natural`, `t1`, or the channels' names in lower case joined by underscores; empty if none has a name."""
    if not any(map(is_name, names)):
        return ""
    names = [name.lower() for name in names]
    if all(_T1.fullmatch(name) and not _CONTRAST.search(name) for name in names):
        return T1
    if all(name in _NATURAL_CHANNELS for name in names):
        return NATURAL
    return re.sub(r"[^a-z0-9]+", "_", "_".join(names)).strip("_")


def is_rgb(dataset_json: Mapping[str, Any]) -> bool:
    """Return whether the channels are red, green and blue: by their names, or three of the domain `natural`.

    Examples
    --------
    >>> is_rgb({"channel_names": {"0": "R", "1": "G", "2": "B"}})
    True
    >>> is_rgb({"channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"}})
    False
    """
    names = [name.lower() for name in channel_names(dataset_json)]
    return len(names) == 3 and (set(names) in _RGB or dataset_json.get(DOMAIN_KEY) == NATURAL)


def source_name(task: str, dataset_json: Mapping[str, Any], method: str = "") -> tuple[str, str]:
    """Return the registry name and the domain of the source from a training on this data set.

    Parameters
    ----------
    task : source task
    dataset_json : content of the data set's dataset.json
    method : the task's method, empty for its default

    Raises
    ------
    SettingsError
        If `nnUNet_source_name` or `source_domain` isn't a valid folder name, or the domain is unknown.
    """
    names = channel_names(dataset_json)
    domain = str(dataset_json.get(DOMAIN_KEY) or domain_of(names))
    if not domain and not os.environ.get(VARIABLE):
        raise SettingsError(
            f"the channels are named {', '.join(names)}, which says how to normalise them, not what they are; set "
            f"{DOMAIN_KEY} in dataset.json to a domain such as {NATURAL} or {T1}"
        )
    domain = domain or "unknown"
    name = os.environ.get(VARIABLE) or "_".join([domain, task, *([method] if method else [])])
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"'{name}' can't name a source: {NAME_RULE}; set {VARIABLE} to a name, or {DOMAIN_KEY} in dataset.json to a "
            f"domain such as {NATURAL} or {T1}"
        )
    return name, domain
