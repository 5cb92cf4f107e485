"""T1-like brain slabs, deformed and re-coloured from the MNI152 average template.

The template (ICBM 152, non-linear symmetric 2009a) and its grey- and white-matter maps lie in the `nilearn`
package, so nothing is downloaded. Arrays have the axes x (to the right), y (to the front), z (up), in mm of MNI
space, as NIfTI stores them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transfer.errors import DataError

FloatArray = NDArray[np.float32]

#: voxels of a slab; from the thalamus to above the lateral ventricles
SHAPE = (56, 68, 12)
#: mm, along every axis
SPACING = 3.0
#: mm in MNI space, of the first voxel: the brain's box in the plane, with a margin
ORIGIN = (-82.5, -118.0, 2.0)
AFFINE = np.array(
    [[SPACING, 0, 0, ORIGIN[0]], [0, SPACING, 0, ORIGIN[1]], [0, 0, SPACING, ORIGIN[2]], [0, 0, 0, 1]], dtype=float
)
TISSUES = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}

#: voxels; smaller leftovers at the edge of the white matter aren't called lesions
MIN_MS_VOXELS = 3

#: mm in MNI space: between the bodies of the lateral ventricles, and the reach of their enlargement
_VENTRICLES = np.array([0.0, -10.0, 14.0])
_VENTRICLE_REACH = np.array([24.0, 38.0, 22.0])
#: mm of template kept below and above the slab, for the deformation
_MARGIN = 18
#: mm; against aliasing when 1 mm maps are sampled at 3 mm
_PRESMOOTHING = 1.0


@dataclass(frozen=True)
class Subject:
    """One synthetic slab, every array of shape `SHAPE`.

    Attributes
    ----------
    image : T1-like intensity, arbitrary units, 0 outside the brain
    tissue : label of `TISSUES`
    side : mm in template space, left (negative) or right of the midline
    lesion : 1 in a lesion
    """

    image: FloatArray
    tissue: NDArray[np.uint8]
    side: FloatArray
    lesion: NDArray[np.uint8]

    @property
    def parenchyma(self) -> NDArray[np.bool_]:
        """Grey and white matter."""
        return self.tissue >= TISSUES["GM"]


@dataclass(frozen=True)
class _Template:
    """Smoothed maps at 1 mm: T1 (white matter about 1), brain, grey and white matter; mm of the first voxel."""

    t1: FloatArray
    brain: FloatArray
    gm: FloatArray
    wm: FloatArray
    origin: NDArray[np.float64]


@lru_cache(maxsize=1)
def _template() -> _Template:
    folder = resources.files("nilearn") / "datasets" / "data"
    maps = {}
    for name in ("t1", "gm", "wm"):
        with resources.as_file(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") as path:
            if not path.is_file():
                raise DataError(f"nilearn's MNI152 map {path} is missing; reinstall nilearn")
            image = nib.Nifti1Image.from_filename(path)
        affine = np.asarray(image.affine)
        if not np.allclose(affine[:3, :3], np.eye(3)):
            raise DataError(f"nilearn's MNI152 map {path} isn't a 1 mm map; install nilearn 0.11 or later")
        first = max(0, round(ORIGIN[2] - affine[2, 3] - _MARGIN))
        stop = round(ORIGIN[2] + SPACING * SHAPE[2] - affine[2, 3] + _MARGIN)
        maps[name] = np.asanyarray(image.dataobj)[:, :, first:stop].astype(np.float32) / 255
        origin = affine[:3, 3] + [0, 0, first]
    white = np.median(maps["t1"][maps["wm"] > 0.9])
    brain = ndimage.binary_fill_holes(maps["gm"] + maps["wm"] > 0.1)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=3))
    t1, brain, gm, wm = (
        ndimage.gaussian_filter(a.astype(np.float32), _PRESMOOTHING)
        for a in (maps["t1"] / white, brain, maps["gm"], maps["wm"])
    )
    return _Template(t1, brain, gm, wm, origin)


def smooth_field(rng: np.random.Generator, control: tuple[int, int, int]) -> FloatArray:
    """Return cubic-interpolated normal noise of shape `SHAPE` over `control` points per axis, in sd units."""
    noise = rng.normal(size=control)
    return ndimage.zoom(noise, [n / c for n, c in zip(SHAPE, control, strict=True)], order=3, mode="nearest").astype(
        np.float32
    )


def _deformed_coordinates(rng: np.random.Generator, enlargement: float) -> NDArray[np.float64]:
    """Return where in template space (mm) each voxel lies, shape `(3, *SHAPE)`."""
    grid = np.indices(SHAPE).reshape(3, -1) * SPACING + np.array(ORIGIN)[:, None]
    centre = grid.mean(axis=1, keepdims=True)
    roll, pitch, yaw = np.deg2rad(rng.normal(0, 2.5, 3))
    rotation = np.array(
        [
            [1, -yaw, roll],
            [yaw, 1, -pitch],
            [-roll, pitch, 1],
        ]
    )  # to first order: a few degrees
    scale = np.diag(rng.uniform(0.98, 1.09, 3))  # above 1 the brain is smaller than the template
    moved = centre + rotation @ scale @ (grid - centre) + rng.normal(0, 1.5, (3, 1))
    for axis in range(3):
        moved[axis] += 2.5 * smooth_field(rng, (5, 6, 3)).ravel() + 0.9 * smooth_field(rng, (12, 14, 4)).ravel()
    offset = moved - _VENTRICLES[:, None]
    near = np.exp(-0.5 * ((offset / _VENTRICLE_REACH[:, None]) ** 2).sum(axis=0))
    return (_VENTRICLES[:, None] + offset * (1 - enlargement * near)).reshape(3, *SHAPE)


def make_subject(rng: np.random.Generator, *, enlargement: float = 0.0, fading: float = 0.0) -> Subject:
    """Return a healthy subject.

    Parameters
    ----------
    enlargement : how much the ventricles are magnified: 0 as in the template, 0.5 about twice as wide
    fading : share of the contrast between grey and white matter that is lost. It falls with age in T1-weighted images
        (Salat et al., Neuroimage 2009;48:21-28)
    """
    template = _template()
    coordinates = _deformed_coordinates(rng, enlargement)
    voxels = coordinates - template.origin[:, None, None, None]
    t1, brain, gm, wm = (
        ndimage.map_coordinates(m, voxels, order=1, mode="nearest")
        for m in (template.t1, template.brain, template.gm, template.wm)
    )
    inside = brain > 0.5
    csf = np.clip(1 - gm - wm, 0, 1)
    tissue = np.where(inside, 1 + np.argmax([csf, gm, wm], axis=0), 0).astype(np.uint8)
    # relative to white matter, as in 3D T1-weighted images at 1.5 and 3 T, widened to make scanners differ
    mean_csf, mean_gm = rng.uniform(0.22, 0.36), rng.uniform(0.66, 0.80)
    mean_gm += fading * (1 - mean_gm)
    image = 0.65 * (mean_csf * csf + mean_gm * gm + wm) + 0.35 * t1 ** rng.uniform(0.9, 1.5)
    image = image * np.exp(0.10 * smooth_field(rng, (3, 3, 2)))
    noise = rng.normal(0, rng.uniform(0.02, 0.045), (2, *SHAPE))
    image = np.hypot(image + noise[0], noise[1]) * rng.uniform(300, 900)  # magnitude images have Rician noise
    return Subject(
        image=np.where(inside, image, 0).astype(np.float32),
        tissue=tissue,
        side=coordinates[0].astype(np.float32),
        lesion=np.zeros(SHAPE, np.uint8),
    )


def add_stroke_lesion(subject: Subject, rng: np.random.Generator) -> Subject:
    """Return the subject with one large, one-sided, irregular, hypointense region, like an old infarct."""
    sign = rng.choice([-1, 1])
    one_side = subject.parenchyma & (sign * subject.side > 6)
    lateral = np.argwhere(one_side & (np.abs(subject.side) > 20) & (np.abs(subject.side) < 50))
    middle = lateral[(lateral[:, 2] >= 2) & (lateral[:, 2] < SHAPE[2] - 2)]
    centre = middle[rng.integers(len(middle))]
    radii = rng.uniform(12, 24) * rng.uniform(0.8, 1.25, 3)
    distance = _scaled_distance(centre, radii)
    region = one_side & (distance + 0.2 * smooth_field(rng, (10, 12, 4)) + 0.18 * smooth_field(rng, (24, 30, 6)) < 1)
    components, sizes = _components(region)
    region = components == 1 + np.argmax(sizes)
    return _darken(subject, region, rng, severity=rng.uniform(0.6, 0.95))


def add_ms_lesions(subject: Subject, rng: np.random.Generator) -> Subject:
    """Return the subject with several small hypointense spots in the white matter, most of them by the ventricles."""
    white = subject.tissue == TISSUES["WM"]
    depth = ndimage.distance_transform_edt(subject.tissue > 0, sampling=SPACING)
    ventricles = (subject.tissue == TISSUES["CSF"]) & (depth > 20) & (np.abs(subject.side) < 30)
    to_ventricles = ndimage.distance_transform_edt(~ventricles, sampling=SPACING)
    weight = np.where(white, np.exp(-to_ventricles / 8) + 0.03, 0).ravel()
    region = np.zeros(SHAPE, bool)
    for _ in range(int(rng.integers(10, 20))):
        centre = np.array(np.unravel_index(rng.choice(weight.size, p=weight / weight.sum()), SHAPE))
        radii = rng.uniform(5.0, 9.0) * rng.uniform(0.8, 1.25, 3)
        region |= white & (_scaled_distance(centre, radii) < 1)
    components, sizes = _components(region)
    region = np.isin(components, 1 + np.flatnonzero(sizes >= MIN_MS_VOXELS))
    return _darken(subject, region, rng, severity=rng.uniform(0.8, 0.95))


def _components(region: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the face-connected components, numbered from 1, and the voxels of each."""
    components, count = ndimage.label(region)
    return components, np.bincount(components.ravel(), minlength=count + 1)[1:]


def _scaled_distance(centre: NDArray[np.int64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of every voxel from `centre` (voxels) in units of `radii` (mm per axis)."""
    offset = (np.indices(SHAPE) - centre[:, None, None, None]) * SPACING
    return np.sqrt(((offset / radii[:, None, None, None]) ** 2).sum(axis=0))


def _darken(subject: Subject, region: NDArray[np.bool_], rng: np.random.Generator, *, severity: float) -> Subject:
    """Move the intensities in `region` unevenly towards those of CSF, with a soft edge in grey and white matter."""
    csf = subject.image[subject.tissue == TISSUES["CSF"]]
    core = np.maximum(ndimage.gaussian_filter(region.astype(np.float32), 0.45), 0.7 * region)
    uneven = np.clip(severity + 0.1 * smooth_field(rng, (14, 17, 6)), 0, 1)
    share = np.where(subject.parenchyma, core * uneven, 0)
    floor = np.median(csf) * rng.normal(1, 0.1, SHAPE)  # grain, which mixing with one value would wash out
    image = subject.image * (1 - share) + floor * share
    return replace(subject, image=image.astype(np.float32), lesion=region.astype(np.uint8))
