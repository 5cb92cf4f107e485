"""Settings of `synthesize`, and the cases that follow from them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from nnunet_transfer import __version__
from nnunet_transfer.conversion.plan import check_id_is_free, dataset_folder_name
from nnunet_transfer.conversion.raw_dataset import IGNORE
from nnunet_transfer.conversion.splits import deal
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.paths import nnunet_raw
from nnunet_transfer.subjects import donor_key
from nnunet_transfer.synthetic.donors import Donor, find_donors, names_to_leave_out
from nnunet_transfer.synthetic.generator import PROFILES, load_cornucopia
from nnunet_transfer.synthetic.label_maps import LabelMap, LabelMaps, find_label_maps
from nnunet_transfer.synthetic.lesions import MASS_REACH

logger = logging.getLogger(__name__)

IMAGES = ("synthetic", "real")
HEADS = ("both", "brain", "whole")
MASK_SPACES = ("mni", "image")
#: the output label of pasted lesions
LESION = "lesion"
DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Settings:
    """Settings of a synthetic data set.

    Attributes
    ----------
    labels
        Folder of label maps, or an nnU-Net data set by folder, name or id.
    dataset_id, name
        Id and name of the new data set.
    count
        Number of cases.
    images
        `synthetic`, or `real` to paste lesions into the data set's own images.
    profile
        Intensity profile, a key of `PROFILES`.
    lesions
        Folders of lesion masks, each as `FOLDER` or `KIND=FOLDER`.
    leave_out
        Lesion donors to leave out: names, tables as `FILE` or `FILE:COLUMN`, or folders of data sets with donors.
    mask_space
        Space of the masks: `mni`, or `image` for the space of the images.
    mass_effect
        Maximum outward shift of a lesion's border, in mm.
    head
        What synthetic images show: `whole` includes the tissue around the brain, `brain` doesn't, `both` draws one of them
        for each case.
    spacing
        Spacing of synthetic images in mm, x y z; empty for that of the label maps.
    upright
        Align synthetic images with the axes of MNI space, so that their slices are axial.
    channel
        The T1 channel of real images.
    structures
        Output label -> values to merge; empty for the default labels.
    tissues
        Label -> tissue, for labels whose name doesn't determine it.
    folds
        Number of folds.
    seed
        Random seed.
    """

    labels: str
    dataset_id: int
    name: str = "Synthetic"
    count: int = 200
    images: str = "synthetic"
    profile: str = "t1"
    lesions: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    mask_space: str = "mni"
    mass_effect: float = 0.0
    head: str = "both"
    spacing: tuple[float, ...] = ()
    upright: bool = False
    channel: str = ""
    structures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tissues: Mapping[str, str] = field(default_factory=dict)
    folds: int = DEFAULT_FOLDS
    seed: int = 0

    def check(self) -> None:
        """Check the settings.

        Raises
        ------
        SettingsError
            If a value is invalid; the message names the option and its valid values.
        """
        for option, value, valid in (
            ("--images", self.images, IMAGES),
            ("--profile", self.profile, tuple(PROFILES)),
            ("--head", self.head, HEADS),
            ("--mask-space", self.mask_space, MASK_SPACES),
        ):
            if value not in valid:
                raise SettingsError(f"{option} {value} is unknown; there are: {', '.join(valid)}")
        if not 1 <= self.dataset_id <= 999:
            raise SettingsError(f"-d {self.dataset_id}: nnU-Net's ids are 1 to 999")
        if self.count < 1 or self.folds < 2 or self.seed < 0:
            raise SettingsError("--n must be 1 or more, --folds 2 or more and --seed not negative")
        if not 0 <= self.mass_effect < MASS_REACH:
            raise SettingsError(f"--mass-effect {self.mass_effect:g} must be from 0 to below {MASS_REACH:g} mm")
        if self.spacing and (len(self.spacing) != 3 or not all(s > 0 for s in self.spacing)):
            raise SettingsError("--spacing takes three lengths in mm, each above 0")
        if self.images == "real" and not self.lesions:
            raise SettingsError("--images real copies images to paste lesions into; give masks with --lesions")
        if self.images == "real" and (self.spacing or self.upright):
            raise SettingsError("--spacing and --upright are for synthetic images; real ones keep their grid")
        if taken := sorted({"background", IGNORE} & self.structures.keys()):
            raise SettingsError(f"--structures: {taken[0]} is no structure, but what the others leave; leave it out")
        if self.upright and self.mask_space == "image" and self.lesions:
            raise SettingsError("--upright turns images, but masks in their own space stay; give masks in MNI space")


@dataclass(frozen=True)
class CasePlan:
    """One case: its name, label map, possible donors and random seed."""

    name: str
    map: LabelMap
    donors: tuple[Donor, ...]
    entropy: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        """Return the case's random generator, which doesn't depend on other cases."""
        return np.random.default_rng(self.entropy)


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes
    ----------
    folder : folder of the new data set
    labels : output label -> value, background first
    left_out : donors in the folders that are left out
    validation : subject -> fold that validates it; empty with a single subject
    """

    settings: Settings
    folder: Path
    maps: LabelMaps
    donors: tuple[Donor, ...]
    left_out: tuple[str, ...]
    labels: Mapping[str, int]
    cases: tuple[CasePlan, ...]
    validation: Mapping[str, int]

    def state(self) -> str:
        """Return a checksum of everything that a case depends on, to decide which cases can be kept.

        The number of cases is included through the folds.
        """
        files = [p for m in self.maps.maps for p in (m.path, m.image) if p] + [d.path for d in self.donors]
        content = {k: v for k, v in asdict(self.settings).items() if k != "count"}
        stats = [(str(p), s.st_size, s.st_mtime_ns) for p in files for s in (p.stat(),)]
        # a list, because the labels are numbered in their order; the data set's own can change in its dataset.json
        meaning = [[*self.labels.items()], asdict(self.maps.numbering)]
        text = json.dumps([__version__, content, stats, self.left_out, self.validation, meaning], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plan_synthesis(settings: Settings) -> Plan:
    """Find label maps and donors and plan the cases, without reading voxels or writing files.

    All cases of a subject are in one fold, and so are those of a donor: each donor belongs to a fold and is only used by its
    cases.

    Raises
    ------
    TransferError
        If something is missing or contradictory.
    """
    settings.check()
    if settings.images == "synthetic":
        load_cornucopia()
    folder = nnunet_raw() / dataset_folder_name(settings.dataset_id, settings.name)
    check_id_is_free(folder.name)
    maps = find_label_maps(
        settings.labels,
        with_images=settings.images == "real",
        channel=settings.channel,
        structures=settings.structures or None,
        tissues=settings.tissues,
    )
    donors, left_out = _donors(settings)
    used = maps.maps[: settings.count]
    validation = _deal_subjects(used, settings.folds)
    pools = _deal_donors(donors, max(validation.values(), default=0) + 1, settings.seed)
    names = [*maps.numbering.structures]
    if donors and LESION not in names:
        names.append(LESION)
    cases = []
    for i in range(settings.count):
        label_map, variant = maps.maps[i % len(maps.maps)], i // len(maps.maps)
        pool = pools[validation.get(label_map.subject, 0)]
        entropy = (settings.seed, variant, *label_map.name.encode())
        cases.append(CasePlan(f"{label_map.name}_v{variant:03d}", label_map, pool, entropy))
    if settings.images == "real" and maps.numbering.ignored is not None:
        names.append(IGNORE)  # the highest value, as nnU-Net demands
    labels = {"background": 0} | {name: i for i, name in enumerate(names, start=1)}
    return Plan(settings, folder, maps, donors, left_out, labels, tuple(cases), validation)


def _donors(settings: Settings) -> tuple[tuple[Donor, ...], tuple[str, ...]]:
    """Return the donors to draw from, and the names of those left out."""
    donors = find_donors(settings.lesions)
    unwanted: set[str] = set()
    for text in settings.leave_out:
        names = names_to_leave_out([text])
        if not any(donor_key(donor.name) in names for donor in donors):
            logger.warning(
                "--leave-out-donors %s: none of the masks is of such a donor, so none is left out by it", text
            )
        unwanted |= names
    kept = tuple(d for d in donors if donor_key(d.name) not in unwanted)
    if donors and not kept:
        raise DataError(f"all {len(donors)} donors are left out; give other masks, or leave out fewer")
    return kept, tuple(d.name for d in donors if donor_key(d.name) in unwanted)


def _deal_subjects(maps: Sequence[LabelMap], folds: int) -> dict[str, int]:
    subjects = sorted({m.subject for m in maps})
    if len(subjects) < 2:
        return {}
    return deal({s: s for s in subjects}, {}, min(folds, len(subjects)))


def _deal_donors(donors: Sequence[Donor], folds: int, seed: int) -> list[tuple[Donor, ...]]:
    """Return the donors of each fold, with every kind spread evenly; all donors in each fold if there are fewer than folds."""
    order = np.random.default_rng([seed, 1]).permutation(len(donors)).tolist()
    mixed = sorted((donors[i] for i in order), key=lambda donor: donor.kind)
    pools = [tuple(mixed[fold::folds]) for fold in range(folds)]
    if not all(pools):
        return [tuple(mixed)] * folds
    counts = Counter(donor.kind for donor in donors)
    if few := [f"{kind} {count}" for kind, count in counts.items() if count < folds]:
        logger.warning(
            "fewer donors of a kind than folds (%s): some of the %d folds lack it, so it is drawn less often than others",
            ", ".join(few),
            folds,
        )
    return pools
