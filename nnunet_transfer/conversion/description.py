"""What a data set's author writes down: where the files lie, what the labels mean, whom to cite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nnunet_transfer.conversion.patterns import Pattern

#: ways to make one mask of several raters' masks
CONSENSUS_RULES = ("union", "intersection", "majority")
RGB = ("R", "G", "B")


@runtime_checkable
class Pixels(Protocol):
    """A picture or mask that is not a file of its own, such as an entry of an archive or polygons; must be picklable."""

    @property
    def path(self) -> Path:
        """The file it comes from, for the manifest."""
        ...

    def read(self) -> np.ndarray:
        """Return a picture as uint8 of shape `(rows, columns, 3)`, a mask as integers of shape `(rows, columns)`."""
        ...


@dataclass(frozen=True)
class LabelRule:
    """What the values of a mask mean. Values that are named nowhere are an error.

    Attributes
    ----------
    classes : class name -> its value or values in the files; classes are numbered 1, 2, ... in this order
    background : further values that count as background; 0 always does
    ignore : values that become nnU-Net's `ignore` label, because the data set's own evaluation leaves them out
    binary : the masks have one level beside 0, which is the one class, whatever its size or type (see `labels.find_level`)
    largest_share : binary masks that cover more of the first image's content than this are refused; 1 takes them all
    foreground : there are no masks; whatever isn't zero in the first channel is the one class, a picture as a whole
    """

    classes: Mapping[str, int | tuple[int, ...]]
    background: tuple[int, ...] = ()
    ignore: tuple[int, ...] = ()
    binary: bool = False
    foreground: bool = False
    largest_share: float = 0.5

    def values(self) -> dict[int, int]:
        """Return raw value -> label, of all values that are named."""
        mapped = dict.fromkeys((0, *self.background), 0)
        for label, raw in enumerate(self.classes.values(), start=1):
            mapped |= dict.fromkeys((raw,) if isinstance(raw, int) else raw, label)
        return mapped | dict.fromkeys(self.ignore, len(self.classes) + 1)

    def names(self) -> dict[str, int]:
        """Return class name -> label as in `dataset.json`, with background and, if there is one, `ignore`."""
        labels = {"background": 0} | {name: label for label, name in enumerate(self.classes, start=1)}
        return labels | ({"ignore": len(self.classes) + 1} if self.ignore else {})

    @property
    def remaps(self) -> bool:
        """Whether labels get other values than they have in the files."""
        return not (self.binary or self.foreground) and any(raw != label for raw, label in self.values().items())


LESION = LabelRule({"lesion": 1}, binary=True)
#: for data sets without masks: nnU-Net needs a label, and its fingerprint needs foreground
FOREGROUND = LabelRule({"foreground": 1}, foreground=True)


@dataclass(frozen=True)
class Layout:
    """Where the files of the cases lie below the data set's root, as patterns (see `patterns.Pattern`).

    Attributes
    ----------
    images : channel -> pattern; a case is a distinct set of the fields' values
    labels : label set -> pattern; all files that match for a case are united. With a field `{rater}`, per rater.
        May be absent
    prefix : written before each of the patterns
    split : "train", or "test" for cases that go to imagesTs (and labelsTs if they have masks)
    """

    images: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    split: str = "train"

    def __post_init__(self) -> None:
        """Compile the patterns, so that a mistake shows when the description is read.

        Raises
        ------
        ValueError
            If a text is not a pattern, or images and labels have different fields and so can't find each other.
        """
        patterns = [*self.image_patterns().values(), *(Pattern(self.prefix + text) for text in self.labels.values())]
        if len({frozenset(pattern.fields) - {"rater"} for pattern in patterns}) != 1:
            raise ValueError(f"images and labels below '{self.prefix}' have different fields")

    def image_patterns(self) -> dict[str, Pattern]:
        """Return channel -> compiled pattern."""
        return {channel: Pattern(self.prefix + text) for channel, text in self.images.items()}

    def label_pattern(self, label_set: str) -> Pattern | None:
        """Return the compiled pattern of a label set, None if this layout has no masks for it."""
        text = self.labels.get(label_set)
        return None if text is None else Pattern(self.prefix + text)


@dataclass(frozen=True)
class Case:
    """One case as found on disk; nothing of it has been read.

    Attributes
    ----------
    name : unique within the data set, in any script: it is made safe for nnU-Net later (see `names.safe_names`)
    source_name : the name before it was made safe, where that changed it
    images : channel -> file; of pictures a single entry "RGB"
    masks : files of each rater that takes part; empty if the case has no label
    combine : how several raters' masks become one, one of `CONSENSUS_RULES`
    subject, session, site, rater : empty where unknown. Cases of one subject never straddle folds
    split : "train" or "test"
    class_name : for classification; empty if the data set has no classes
    notes : lines for the manifest's column `actions`
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
    """What the user asked for, as a data set's own functions need it.

    Attributes
    ----------
    root : the folder to convert
    channels : in order
    label_set : key of `DatasetDescription.label_sets`
    rater : rater's name, one of `CONSENSUS_RULES`, or empty
    options : those of this data set alone, `--option key=value` on the command line
    """

    root: Path
    channels: tuple[str, ...]
    label_set: str
    rater: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetDescription:
    """A public data set.

    Attributes
    ----------
    name : as typed on the command line
    title : one line
    folder_name : default `Name` of `DatasetXXX_Name`
    licence, citation, request : the terms, what to cite, where to get the data
    label_sets : name -> rule; the first one is the default
    layouts : ways in which the files are known to lie. Those with the same split are alternatives, the first that finds
        anything is taken
    case, subject : templates of a case's and a subject's name from the patterns' fields
    channels : taken by default; all that layouts name can be asked for
    default_rater : None if the user must choose
    find_cases : replaces `layouts` where files alone don't tell the cases
    refine : adds to the cases found by `layouts` what stands in the data set's tables
    known_options : option -> one line of help
    why_left_out : gives, for a request, the function path -> reason why an image was not taken; an empty reason leaves it to
        what the layouts tell
    pictures : 2D pictures, written as RGB PNG
    hint : what to do about a known fault, added to messages about geometry
    unconfirmed : what of this description could not be checked with the publisher's files; shown in the list
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
        """Return the channels that can be asked for, the default ones first."""
        return tuple(dict.fromkeys([*self.channels, *(c for layout in self.layouts for c in layout.images)]))

    def channel_names(self, channels: tuple[str, ...]) -> dict[str, str]:
        """Return `channel_names` as in `dataset.json`; nnU-Net chooses the normalisation by them."""
        return {str(i): name for i, name in enumerate(RGB if self.pictures else channels)}

    @property
    def file_ending(self) -> str:
        """Ending of all files written."""
        return ".png" if self.pictures else ".nii.gz"

    def has_raters(self, label_set: str) -> bool:
        """Whether masks of several raters can be told apart."""
        patterns = [layout.label_pattern(label_set) for layout in self.layouts]
        return any("rater" in pattern.fields for pattern in patterns if pattern)
