"""The description of a data set: file layout, meaning of the labels, terms and citation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nnunet_transfer.conversion.patterns import Pattern

#: ways to combine the masks of several raters
CONSENSUS_RULES = ("union", "intersection", "majority")
RGB = ("R", "G", "B")


@runtime_checkable
class Pixels(Protocol):
    """A picture or mask that is not a separate file, such as an archive entry or polygons; must be picklable."""

    @property
    def path(self) -> Path:
        """The file that contains it, for the manifest."""
        ...

    def read(self) -> np.ndarray:
        """Return a picture as uint8 of shape `(rows, columns, 3)`, a mask as integers of shape `(rows, columns)`."""
        ...


def _are_values(values: object) -> bool:
    return isinstance(values, Iterable) and all(
        isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values
    )


@dataclass(frozen=True)
class LabelRule:
    """The meaning of the values in a mask. Values not listed here are an error.

    Attributes
    ----------
    classes
        Class name -> its value or values in the files. Classes are numbered 1, 2, ... in this order.
    background
        Further values that count as background; 0 always does.
    ignore
        Values that become nnU-Net's `ignore` label because the data set's own evaluation ignores them.
    binary
        Masks have a single non-zero value, of any magnitude and data type, which is the only class (see
        `labels.find_level`).
    foreground
        There are no masks: all non-zero voxels of the first channel are the only class. In a picture, every pixel is.
    largest_share
        Refuse masks of a single class that cover more than this share of the first image's content; 1 accepts all.
    """

    classes: Mapping[str, int | tuple[int, ...]]
    background: tuple[int, ...] = ()
    ignore: tuple[int, ...] = ()
    binary: bool = False
    foreground: bool = False
    largest_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the rule, so that mistakes show up when it is created.

        Raises
        ------
        ValueError
            If there is no class, one is called background or ignore, a value is no whole number or listed twice, or a binary
            rule has several classes.
        """
        if not self.classes:
            raise ValueError("there is no class; name what is to be segmented, with its value")
        if taken := {"background", "ignore"} & self.classes.keys():
            name = min(taken)
            raise ValueError(f"{name} is no class: 0 is always background; list other values as {name}=(...)")
        for name, raw in {**self.classes, "background": self.background, "ignore": self.ignore}.items():
            if not _are_values((raw,) if name in self.classes and isinstance(raw, int) else raw):
                raise ValueError(f"{name} has the values {raw!r}; give whole numbers, several as (1, 2)")
        listed = [value for raw in self.classes.values() for value in ((raw,) if isinstance(raw, int) else raw)]
        listed += [*self.background, *self.ignore]
        if twice := [value for value in listed if listed.count(value) > 1]:
            raise ValueError(f"value {twice[0]} has several meanings; list it once")
        if (self.binary or self.foreground) and len(self.classes) != 1:
            raise ValueError(
                f"{len(self.classes)} classes in a rule for masks with a single one: {', '.join(self.classes)}"
            )

    def values(self) -> dict[int, int]:
        """Return raw value -> label for all listed values."""
        mapped = dict.fromkeys((0, *self.background), 0)
        for label, raw in enumerate(self.classes.values(), start=1):
            mapped |= dict.fromkeys((raw,) if isinstance(raw, int) else raw, label)
        return mapped | dict.fromkeys(self.ignore, len(self.classes) + 1)

    def names(self) -> dict[str, int]:
        """Return class name -> label as in `dataset.json`, with background and, if used, `ignore`."""
        labels = {"background": 0} | {name: label for label, name in enumerate(self.classes, start=1)}
        return labels | ({"ignore": len(self.classes) + 1} if self.ignore else {})

    @property
    def one_structure(self) -> bool:
        """Whether masks show a single class, which can be measured and is no whole brain."""
        return len(self.classes) == 1 and not self.foreground

    @property
    def remaps(self) -> bool:
        """Whether any label value differs from the value in the files."""
        return not (self.binary or self.foreground) and any(raw != label for raw, label in self.values().items())


LESION = LabelRule({"lesion": 1}, binary=True)
#: for data sets without masks: nnU-Net needs a label, and its fingerprint needs foreground
FOREGROUND = LabelRule({"foreground": 1}, foreground=True)


@dataclass(frozen=True)
class Layout:
    """File layout of the cases below the data set's root folder, as patterns (see `patterns.Pattern`).

    Attributes
    ----------
    images
        Channel -> pattern. Each distinct combination of field values is one case.
    labels
        Label set -> pattern. All matching files of a case are merged, separately for each rater if the pattern has a
        field `{rater}`. A case may have no label file.
    prefix
        Prepended to each pattern.
    split
        `train`, or `test` for cases that go to `imagesTs` (and `labelsTs` if they have masks).
    """

    images: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    split: str = "train"

    def __post_init__(self) -> None:
        """Compile the patterns, so that mistakes show up when the description is created.

        Raises
        ------
        ValueError
            If a text is not a valid pattern, or images and labels have different fields and so can't be matched.
        """
        patterns = [*self.image_patterns().values(), *(Pattern(self.prefix + text) for text in self.labels.values())]
        if len({frozenset(pattern.fields) - {"rater"} for pattern in patterns}) != 1:
            raise ValueError(f"images and labels below '{self.prefix}' have different fields")

    def image_patterns(self) -> dict[str, Pattern]:
        """Return channel -> compiled pattern."""
        return {channel: Pattern(self.prefix + text) for channel, text in self.images.items()}

    def label_pattern(self, label_set: str) -> Pattern | None:
        """Return the compiled pattern of a label set, or None if this layout has no masks for it."""
        text = self.labels.get(label_set)
        return None if text is None else Pattern(self.prefix + text)


@dataclass(frozen=True)
class Case:
    """One case as found on disk; none of its files has been read.

    Attributes
    ----------
    name
        Unique name within the data set, in any script; nnU-Net gets a safe version of it (see `names.safe_names`).
    images
        Channel -> file; a picture has the single entry `RGB`.
    masks
        The files of each rater; empty if the case has no label.
    combine
        How to combine the masks of several raters, one of `CONSENSUS_RULES`.
    subject
        Subject, empty if unknown. All cases of one subject go to the same fold.
    session, site, rater
        Session, site and rater, empty if unknown.
    split
        `train` or `test`.
    class_name
        Class for classification; empty if the data set has no classes.
    notes
        Lines for the column `actions` of the manifest.
    source_name
        The original name, if it was changed to be safe.
    """

    name: str
    images: Mapping[str, Path | Pixels]
    masks: tuple[tuple[Path | Pixels, ...], ...] = ()
    combine: str = "union"
    subject: str = ""
    session: str = ""
    site: str = ""
    rater: str = ""
    split: str = "train"
    class_name: str = ""
    notes: tuple[str, ...] = ()
    source_name: str = ""

    def files(self) -> list[Path]:
        """Return the files the case is made from, images first."""
        inputs = [*self.images.values(), *(mask for masks in self.masks for mask in masks)]
        return [item if isinstance(item, Path) else item.path for item in inputs]


@dataclass(frozen=True)
class Request:
    """The user's request, as input of a data set's own functions.

    Attributes
    ----------
    root : the folder to convert
    channels : requested channels, in order
    label_set : key of `DatasetDescription.label_sets`
    rater : name of a rater, one of `CONSENSUS_RULES`, or empty
    options : options of this data set only, `--option key=value` on the command line
    """

    root: Path
    channels: tuple[str, ...]
    label_set: str
    rater: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetDescription:
    """A data set and how to convert it.

    Attributes
    ----------
    name
        Name on the command line.
    title
        Description in one line.
    folder_name
        Default `Name` in `DatasetXXX_Name`.
    licence, citation, request
        Terms of use, publication to cite, and where to get the data.
    label_sets
        Name -> rule; the first entry is the default.
    layouts
        Known file layouts. Layouts with the same split are alternatives: the first one whose cases have masks is used or,
        if there is none, the first one that has cases.
    case, subject
        Templates of the case and subject names, filled from the fields of the patterns.
    channels
        Default channels; all channels in the layouts can be requested.
    default_rater
        Default rater; None if the user must choose.
    find_cases
        Function that replaces `layouts` where file names alone don't identify the cases.
    refine
        Function that adds information from the data set's tables to the cases found by `layouts`.
    why_left_out
        Function that returns, for a request, a function from path to the reason why an image was not used. If the reason
        is empty, it is derived from the layouts.
    known_options
        Option -> one line of help.
    pictures
        Whether the images are 2D pictures, which are written as RGB PNG files.
    hint
        How to handle a known defect of the data set; added to messages about geometry.
    unconfirmed
        What in this description could not be checked against the publisher's files; shown by `convert --list`.
    """

    name: str
    title: str
    folder_name: str
    licence: str
    citation: str
    request: str
    label_sets: Mapping[str, LabelRule]
    layouts: tuple[Layout, ...] = ()
    case: str = "{subject}"
    subject: str = "{subject}"
    channels: tuple[str, ...] = ("T1",)
    default_rater: str | None = ""
    find_cases: Callable[[Request], Iterable[Case]] | None = None
    refine: Callable[[Request, list[Case]], list[Case]] | None = None
    why_left_out: Callable[[Request], Callable[[str], str]] | None = None
    known_options: Mapping[str, str] = field(default_factory=dict)
    pictures: bool = False
    hint: str = ""
    unconfirmed: str = ""

    def all_channels(self) -> tuple[str, ...]:
        """Return all channels that can be requested, the default ones first."""
        return tuple(dict.fromkeys([*self.channels, *(c for layout in self.layouts for c in layout.images)]))

    def channel_names(self, channels: tuple[str, ...]) -> dict[str, str]:
        """Return `channel_names` for `dataset.json`; nnU-Net chooses the normalisation by these names."""
        return {str(i): name for i, name in enumerate(RGB if self.pictures else channels)}

    @property
    def file_ending(self) -> str:
        """Ending of all files written."""
        return ".png" if self.pictures else ".nii.gz"

    def has_raters(self, label_set: str) -> bool:
        """Whether the masks of a label set are stored per rater."""
        patterns = [layout.label_pattern(label_set) for layout in self.layouts]
        return any("rater" in pattern.fields for pattern in patterns if pattern)
