"""Tissues of structures: the tissue that a label's name implies, its intensities in T1 images, and FreeSurfer's numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from nnunet_transfer.errors import DataError

Structures = Mapping[str, tuple[int, ...]]


class Kind(IntEnum):
    """Where lesions can be: nowhere, or by the kind of tissue."""

    OUTSIDE = 0
    CSF = 1
    GREY = 2
    WHITE = 3


@dataclass(frozen=True)
class Tissue:
    """A tissue in T1-weighted images.

    Attributes
    ----------
    kind : of tissue, for the place of lesions
    mean : intensity in units of the cerebral white matter's
    spread : standard deviation of that mean between images, in the same units
    """

    kind: Kind
    mean: float
    spread: float


#: Means are the structures' medians over the 15 T1 images of OASIS that formed the training part of MICCAI 2012's
#: multi-atlas challenge, rounded; CSF is lower than there, because thin ventricles are mixed with tissue. The
#: spreads are two to four times those among these images (0.01 to 0.06), to cover other scanners and sequences.
TISSUES: Mapping[str, Tissue] = {
    "white matter": Tissue(Kind.WHITE, 1.0, 0.03),
    "white-matter lesion": Tissue(Kind.WHITE, 0.8, 0.1),
    "cortex": Tissue(Kind.GREY, 0.62, 0.05),
    "fluid": Tissue(Kind.CSF, 0.27, 0.07),
    "choroid plexus": Tissue(Kind.CSF, 0.45, 0.1),
    "vessel": Tissue(Kind.CSF, 0.55, 0.2),
    "thalamus": Tissue(Kind.GREY, 0.84, 0.05),
    "caudate": Tissue(Kind.GREY, 0.7, 0.05),
    "putamen": Tissue(Kind.GREY, 0.81, 0.05),
    "pallidum": Tissue(Kind.GREY, 0.96, 0.05),
    "hippocampus": Tissue(Kind.GREY, 0.64, 0.05),
    "amygdala": Tissue(Kind.GREY, 0.64, 0.05),
    "accumbens": Tissue(Kind.GREY, 0.66, 0.05),
    "ventral diencephalon": Tissue(Kind.WHITE, 0.93, 0.05),
    "brainstem": Tissue(Kind.WHITE, 0.88, 0.05),
    "cerebellar cortex": Tissue(Kind.GREY, 0.66, 0.06),
    "cerebellar white matter": Tissue(Kind.WHITE, 0.96, 0.05),
    # skin, fat, muscle, bone and air: anything from dark to bright
    "extra-cerebral": Tissue(Kind.OUTSIDE, 0.5, 0.3),
}

#: read in this order; the first that is found in a label's name decides
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), tissue)
    for pattern, tissue in (
        (r"vessel", "vessel"),
        (r"choroid", "choroid plexus"),
        (r"lesion|hypointens|hyperintens|wmh", "white-matter lesion"),
        (r"ventral ?d|diencephal|optic|hypothalam", "ventral diencephalon"),
        (r"ventric|lat vent|\bcsf\b|cerebrospinal|fluid|cistern", "fluid"),
        (r"cerebell\w* (white|wm)|white matter of the cerebell", "cerebellar white matter"),
        (r"cerebell|verm(is|al)", "cerebellar cortex"),
        (r"white|\bwm\b|corpus callosum|^cc\b|^wm ", "white matter"),
        (r"thalam", "thalamus"),
        (r"caudate", "caudate"),
        (r"putamen|lentiform|basal ganglia|striat", "putamen"),
        (r"pallid", "pallidum"),
        (r"(?<!para)hippocamp", "hippocampus"),
        (r"amygdal", "amygdala"),
        (r"accumbens|basal forebrain", "accumbens"),
        (r"brain ?stem|\bpons\b|medulla|midbrain", "brainstem"),
        (
            r"cort(ex|ical)|gr[ae]y|\bgm\b|gyr(us|i)|sulc|ctx|opercul|insula|cuneus|lobul|\bpole\b|entorhinal|parahippocamp",
            "cortex",
        ),
        (r"skull|skin|scalp|extra ?cerebral|\bbone\b|\bfat\b|muscle", "extra-cerebral"),
    )
)


def tissue_by_name(label: str) -> str | None:
    """Return the name of a label's tissue, a key of `TISSUES`; None if the label's name implies none."""
    plain = re.sub(r"[^a-z0-9]+", " ", label.lower()).strip()
    return next((tissue for pattern, tissue in _WORDS if pattern.search(plain)), None)


def tissues_by_name(labels: Iterable[str], stated: Mapping[str, str]) -> dict[str, str]:
    """Return label -> tissue, as stated or else from the labels' names.

    Raises
    ------
    DataError
        If a tissue is unknown, or a label's name says nothing about it.
    """
    labels = list(labels)
    found = {label: stated.get(label) or tissue_by_name(label) for label in labels}
    if unknown := sorted({t for t in stated.values() if t not in TISSUES}):
        raise DataError(f"tissue '{unknown[0]}' is unknown; there are: {', '.join(TISSUES)}")
    if unclear := [label for label, tissue in found.items() if tissue is None]:
        raise DataError(
            f"the names of the labels {', '.join(unclear)} don't tell their tissue; give --tissues FILE with "
            f'{{"{unclear[0]}": "cortex"}} or another of: {", ".join(TISSUES)}'
        )
    return {label: tissue for label, tissue in found.items() if tissue is not None}


@dataclass(frozen=True)
class Numbering:
    """How values of a label map are read.

    Attributes
    ----------
    clusters : value -> name of the cluster of voxels that get their intensities from one distribution
    tissues : cluster -> tissue
    structures : name of an output label -> the values that it merges; all others are background
    ignored : value of voxels that are ignored, whose tissue is unknown; None if there is none
    """

    clusters: Mapping[int, str]
    tissues: Mapping[str, str]
    structures: Structures
    ignored: int | None = None

    def check(self, values: Iterable[int], where: object) -> None:
        """Refuse values that have no meaning here.

        Raises
        ------
        DataError
            With the values and where they were found.
        """
        if unknown := sorted(v for v in values if v not in (0, self.ignored) and v not in self.clusters):
            raise DataError(
                f"{where} has the values {', '.join(map(str, unknown))}, which its labels don't name; "
                f"complete dataset.json, or give --structures"
            )


#: structure -> FreeSurfer's values of both hemispheres, by cluster: values of one cluster share their intensities
_FREESURFER: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "cerebral white matter": {
        "white matter": (2, 41, 5001, 5002, 251, 252, 253, 254, 255, *range(3000, 5000)),
        # 25 and 57 are SynthSeg's lesions of the left and right white matter
        "white-matter lesion": (25, 57, 77, 78, 79, 80, 81, 82),
        "vessel": (30, 62),
    },
    "cerebral cortex": {"cortex": (3, 42, *range(1000, 3000))},
    # 136, 137, 163 and 164 are parts that SynthSeg splits from the lateral ventricles
    "lateral ventricle": {"fluid": (4, 43, 5, 44), "choroid plexus": (31, 63, 136, 137, 163, 164)},
    "third and fourth ventricle": {"fluid": (14, 15, 72)},
    "thalamus": {"thalamus": (9, 10, 48, 49)},
    "caudate": {"caudate": (11, 50)},
    "putamen": {"putamen": (12, 51)},
    "pallidum": {"pallidum": (13, 52)},
    "hippocampus": {"hippocampus": (17, 53)},
    "amygdala": {"amygdala": (18, 54)},
    "accumbens": {"accumbens": (26, 58)},
    "ventral diencephalon": {"ventral diencephalon": (28, 60, 85)},
    "brainstem": {"brainstem": (16,)},
    "cerebellar cortex": {"cerebellar cortex": (8, 47)},
    "cerebellar white matter": {"cerebellar white matter": (7, 46)},
    "cerebrospinal fluid": {"fluid": (24,)},
}
#: SynthSeg's labels outside of the brain; each has its own intensities, and none is an output label
_EXTRA_CEREBRAL = range(500, 600)


def freesurfer_numbering(structures: Structures | None = None) -> Numbering:
    """Return FreeSurfer's numbering with SynthSeg's additions, both hemispheres merged.

    Parameters
    ----------
    structures : output labels, if not the 16 merged structures
    """
    clusters: dict[int, str] = {}
    tissues: dict[str, str] = {}
    for parts in _FREESURFER.values():
        for tissue, values in parts.items():
            tissues[tissue] = tissue
            clusters |= dict.fromkeys(values, tissue)
    for value in _EXTRA_CEREBRAL:
        clusters[value] = f"extra-cerebral {value}"
        tissues[f"extra-cerebral {value}"] = "extra-cerebral"
    merged = {name: tuple(v for values in parts.values() for v in values) for name, parts in _FREESURFER.items()}
    return Numbering(clusters, tissues, structures or merged)


def named_numbering(labels: Structures, stated: Mapping[str, str], structures: Structures | None = None) -> Numbering:
    """Return the numbering of labels that have names, such as those of an nnU-Net data set.

    Parameters
    ----------
    labels : name -> values, without background
    stated : name -> tissue, where the name doesn't tell
    structures : output labels, if not these
    """
    tissues = tissues_by_name(labels, stated)
    clusters = {value: name for name, values in labels.items() for value in values}
    return Numbering(clusters, tissues, structures or dict(labels))
