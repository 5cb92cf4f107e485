"""Names and values of FreeSurfer's labels (FreeSurferColorLUT.txt), for all data sets that use its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

_PAIRED = {
    "Cerebral-White-Matter": (2, 41),
    "Cerebral-Cortex": (3, 42),
    "Lateral-Ventricle": (4, 43),
    "Inf-Lat-Vent": (5, 44),
    "Cerebellum-White-Matter": (7, 46),
    "Cerebellum-Cortex": (8, 47),
    "Thalamus": (10, 49),
    "Caudate": (11, 50),
    "Putamen": (12, 51),
    "Pallidum": (13, 52),
    "Hippocampus": (17, 53),
    "Amygdala": (18, 54),
    "Accumbens-area": (26, 58),
    "VentralDC": (28, 60),
    "vessel": (30, 62),
    "choroid-plexus": (31, 63),
}
_SINGLE: dict[str, int | tuple[int, ...]] = {
    "3rd-Ventricle": 14,
    "4th-Ventricle": 15,
    "Brain-Stem": 16,
    "CSF": 24,
    "5th-Ventricle": 72,
    "WM-hypointensities": (77, 78, 79),
    "non-WM-hypointensities": (80, 81, 82),
    "Optic-Chiasm": 85,
    "CC_Posterior": 251,
    "CC_Mid_Posterior": 252,
    "CC_Central": 253,
    "CC_Mid_Anterior": 254,
    "CC_Anterior": 255,
}
CEREBRAL_CORTEX = (3, 42)
CEREBRAL_WHITE_MATTER = (2, 41)
#: "undetermined" of both hemispheres
UNDETERMINED = (29, 61)
#: Desikan-Killiany regions in the order of their values from 1001 (left) and 2001 (right); 4 is the corpus callosum,
#: which volumes carry as 251-255
DESIKAN_KILLIANY = {
    index: name
    for index, name in enumerate(
        [
            "bankssts",
            "caudalanteriorcingulate",
            "caudalmiddlefrontal",
            "corpuscallosum",
            "cuneus",
            "entorhinal",
            "fusiform",
            "inferiorparietal",
            "inferiortemporal",
            "isthmuscingulate",
            "lateraloccipital",
            "lateralorbitofrontal",
            "lingual",
            "medialorbitofrontal",
            "middletemporal",
            "parahippocampal",
            "paracentral",
            "parsopercularis",
            "parsorbitalis",
            "parstriangularis",
            "pericalcarine",
            "postcentral",
            "posteriorcingulate",
            "precentral",
            "precuneus",
            "rostralanteriorcingulate",
            "rostralmiddlefrontal",
            "superiorfrontal",
            "superiorparietal",
            "superiortemporal",
            "supramarginal",
            "frontalpole",
            "temporalpole",
            "transversetemporal",
            "insula",
        ],
        start=1,
    )
    if name != "corpuscallosum"
}
#: regions of the Desikan-Killiany set that are not in the DKT31 protocol (Klein & Tourville, Front Neurosci 2012;6:171)
NOT_IN_DKT31 = (1, 32, 33)


def subcortical(leave_out: Iterable[int] = ()) -> dict[str, int | tuple[int, ...]]:
    """Return name -> value(s) of aseg's structures, without those whose value is in `leave_out`."""
    sides = {f"{side}-{name}": pair[i] for name, pair in _PAIRED.items() for i, side in enumerate(("Left", "Right"))}
    drop = set(leave_out)
    return {name: value for name, value in (sides | _SINGLE).items() if value not in drop}


def cortical(regions: Iterable[int] = DESIKAN_KILLIANY, prefix: str = "ctx", left: int = 1000) -> dict[str, int]:
    """Return name -> value of regions in both hemispheres; values of the right hemisphere are 1000 higher."""
    return {
        f"{prefix}-{side}-{DESIKAN_KILLIANY[region]}": base + region
        for (side, base), region in itertools.product((("lh", left), ("rh", left + 1000)), regions)
    }
