"""The card of a source: its network, and the provenance of its weights. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_transfer import __version__
from nnunet_transfer.errors import DataError, SourceError, one_line
from nnunet_transfer.files import finite, read_json, write_json
from nnunet_transfer.sources.outputs import stated_groups
from nnunet_transfer.sources.schema import NAME, NAME_RULE, card_problems, label_channels_of

CARD_FILE = "source.json"
#: maximum size of a card in bytes; most of it is the list of training cases
MAX_CARD = 16 << 20
_REQUIRED = ("name", "task", "domain", "architecture", "input_channels")
_SEQUENCES = ("channel_names", "normalization_schemes", "spacing", "patch_size", "trained_on", "trained_on_cases")


@dataclass(frozen=True)
class SourceCard:
    """The description of a source: everything except its weights.

    Attributes
    ----------
    name
        Name in the registry.
    task
        One of `TASKS`.
    domain
        Kind of images, such as `natural` or `t1`.
    architecture
        `network_class_name`, `arch_kwargs` and `arch_kwargs_req_import`, as in nnU-Net's plans.
    input_channels
        Number of input channels of the first convolution.
    channel_names
        Names of the image channels.
    parts
        `encoder` or `encoder+decoder`.
    normalization_schemes
        nnU-Net's normalisation of each channel.
    spacing
        Spacing in mm, in the order of the tensor axes; images without physical pixel size have spacing 1.
    patch_size
        Patch size in voxels, in the order of the tensor axes.
    trained_on
        Names of the training data sets.
    trained_on_cases
        Identifiers of the training cases, if known.
    licence, citation
        Licence and citation of the weights.
    format
        Original format of the weights.
    sha256
        Checksum of `weights.safetensors`; set when the source is saved.
    created_with
        Name and version of the program that wrote the card.
    extra
        Further information. For the second stage of a cascade, `label_channels` is the number of input channels that
        follow the image channels and contain the first stage's labels.
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
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise SourceError(f"source {one_line(self.name, 100)}: {NAME_RULE}")
        for name in _SEQUENCES:
            value = getattr(self, name)
            if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
                raise SourceError(f"source {self.name}: {name} must be a list, not {str(value)[:100]!r}")
            object.__setattr__(self, name, tuple(value))
        for problem in card_problems(self):
            raise SourceError(f"source {self.name}: {problem}")

    @property
    def label_channels(self) -> int:
        """Number of input channels that contain labels instead of images."""
        return label_channels_of(self.extra, self.input_channels)

    @property
    def outputs(self) -> tuple[tuple[str, ...], ...]:
        """Groups of output names of the segmentation heads, see `sources.outputs`; empty if unknown."""
        return stated_groups(self.extra)

    @property
    def dimensions(self) -> int:
        """Number of spatial axes, 2 or 3, from the class name of the convolution."""
        return 2 if str(self.architecture["arch_kwargs"].get("conv_op", "")).endswith("2d") else 3

    def write(self, folder: Path) -> None:
        """Write `source.json` into `folder`."""
        write_json(folder / CARD_FILE, finite(asdict(self)))


def read_card(folder: Path) -> SourceCard:
    """Read the card of the source in `folder`.

    Raises
    ------
    SourceError
        If the card is missing, not JSON or incomplete, or has fields that this version doesn't know.
    """
    path = folder / CARD_FILE
    try:
        content = read_json(path, limit=MAX_CARD)
    except DataError as error:
        raise SourceError(str(error)) from None
    if not isinstance(content, dict) or (missing := [k for k in _REQUIRED if k not in content]):
        what = f"lacks {', '.join(missing)}" if isinstance(content, dict) else "holds no card"
        raise SourceError(f"{path} {what}; add the source again")
    if unknown := sorted(set(content) - {f.name for f in fields(SourceCard)}):
        shown = ", ".join(unknown)[:200]
        raise SourceError(f"{path} has unknown fields {shown}; was it written by a newer version?")
    try:
        return SourceCard(**content)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from None
