"""The card of a source: what the network is, and where its weights come from. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_transfer import __version__
from nnunet_transfer.errors import DataError, SourceError
from nnunet_transfer.files import read_json, write_json

CARD_FILE = "source.json"
#: no `__`, which separates the parts of nnU-Net's result folders
NAME = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
TASKS = ("classification", "segmentation", "self_supervised")
PARTS = ("encoder", "encoder+decoder")
#: the keys of an architecture, as in nnU-Net's plans; the last one is `_kw_requires_import` there
ARCHITECTURE_KEYS = ("network_class_name", "arch_kwargs", "arch_kwargs_req_import")
_REQUIRED = ("name", "task", "domain", "architecture", "input_channels")
_SEQUENCES = ("channel_names", "normalization_schemes", "spacing", "patch_size", "trained_on", "trained_on_cases")


@dataclass(frozen=True)
class SourceCard:
    """What is known about a source, apart from its weights.

    Attributes
    ----------
    name : registry name
    task : one of `TASKS`
    domain : the images, e.g. `natural` or `t1`
    architecture : `network_class_name`, `arch_kwargs`, `arch_kwargs_req_import`, as in nnU-Net's plans
    input_channels, channel_names : what the first convolution reads
    parts : `encoder` or `encoder+decoder`
    normalization_schemes : one per channel, nnU-Net's names
    spacing : mm, in the order of the tensor axes; pixels without a physical size have spacing 1
    patch_size : voxels, in the order of the tensor axes
    trained_on : names of the data sets
    trained_on_cases : identifiers of the training cases, where known
    licence, citation : of the weights
    format : the format that the weights came in
    sha256 : of `weights.safetensors`; filled in when the source is saved
    created_with : name and version of the program that wrote the card
    extra : anything else worth keeping
    """

    name: str
    task: str
    domain: str
    architecture: Mapping[str, Any]
    input_channels: int
    channel_names: tuple[str, ...] = ()
    parts: str = "encoder+decoder"
    normalization_schemes: tuple[str, ...] = ()
    spacing: tuple[float, ...] = ()
    patch_size: tuple[int, ...] = ()
    trained_on: tuple[str, ...] = ()
    trained_on_cases: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    format: str = "nnunet_transfer"
    sha256: str = ""
    created_with: str = f"nnunet_transfer {__version__}"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _SEQUENCES:
            value = getattr(self, name)
            if isinstance(value, str):
                raise SourceError(f"source {self.name}: {name} must be a list, not the text '{value}'")
            object.__setattr__(self, name, tuple(value))
        for problem in self._problems():
            raise SourceError(f"source {self.name}: {problem}")

    def _problems(self) -> list[str]:
        return [
            text
            for wrong, text in (
                (
                    not isinstance(self.name, str) or not NAME.fullmatch(self.name),
                    "the name may have letters, digits and, not first, . _ - but no __",
                ),
                (self.task not in TASKS, f"task '{self.task}' is unknown; there are: {', '.join(TASKS)}"),
                (self.parts not in PARTS, f"parts '{self.parts}' is unknown; there are: {', '.join(PARTS)}"),
                (not self.domain, "the domain is empty; say which images it was trained on, e.g. t1"),
                (
                    not isinstance(self.architecture, Mapping)
                    or any(k not in self.architecture for k in ARCHITECTURE_KEYS),
                    f"the architecture needs {', '.join(ARCHITECTURE_KEYS)}",
                ),
                (
                    not isinstance(self.input_channels, int) or self.input_channels < 1,
                    f"input_channels is {self.input_channels!r}; it must be a whole number, 1 or more",
                ),
                (
                    bool(self.channel_names) and len(self.channel_names) != self.input_channels,
                    f"{len(self.channel_names)} channel names for {self.input_channels} input channels",
                ),
            )
            if wrong
        ]

    @property
    def dimensions(self) -> int:
        """Number of spatial axes, 2 or 3, by the convolution's class name."""
        return 2 if str(self.architecture["arch_kwargs"].get("conv_op", "")).endswith("2d") else 3

    def write(self, folder: Path) -> None:
        """Write `source.json` into `folder`."""
        write_json(folder / CARD_FILE, asdict(self))


def read_card(folder: Path) -> SourceCard:
    """Read the card of the source in `folder`.

    Raises
    ------
    SourceError
        If the card is missing, no JSON, incomplete, or has fields this version doesn't know.
    """
    path = folder / CARD_FILE
    try:
        content = read_json(path)
    except DataError as error:
        raise SourceError(str(error)) from None
    if not isinstance(content, dict) or (missing := [k for k in _REQUIRED if k not in content]):
        what = f"lacks {', '.join(missing)}" if isinstance(content, dict) else "holds no card"
        raise SourceError(f"{path} {what}; add the source again")
    if unknown := sorted(set(content) - {f.name for f in fields(SourceCard)}):
        raise SourceError(f"{path} has unknown fields {', '.join(unknown)}; was it written by a newer version?")
    try:
        return SourceCard(**content)
    except TypeError as error:
        raise SourceError(f"{path} has a field of a wrong type ({error}); add the source again") from None
