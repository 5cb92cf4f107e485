"""Paste lesions from donors' masks into other people's images, with modelled T1 intensities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transfer.synthetic.tissues import Kind

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Kinds = NDArray[np.uint8]

#: margin in mm around a lesion that is processed
_MARGIN = 12.0
#: distance in mm over which a mass effect falls to 1/e
MASS_REACH = 10.0
#: minimum number of voxels of a lesion
MINIMUM_VOXELS = 3
#: share of the donor's mask that must lie in tissue
MINIMUM_SHARE = 0.3
#: mm by which MS lesions may reach beyond the white matter
_JUXTACORTICAL = 1.5


@dataclass(frozen=True)
class Placed:
    """An image with a lesion.

    Attributes
    ----------
    image : intensities, float32
    mask : voxels of the lesion
    parameters : the random parameters
    """

    image: Image
    mask: Mask
    parameters: dict[str, Any]


@dataclass(frozen=True)
class LesionModel:
    """Appearance of one kind of lesion on T1.

    Attributes
    ----------
    description : one line for the manifest
    where : kinds of tissue and spacing (mm) -> voxels that a lesion may occupy
    severity : range of the relative change from the tissue's intensity (0) to that of fluid (1)
    per_focus : whether each connected focus has a separate severity
    variation : standard deviation of the severity within a lesion
    """

    description: str
    where: Callable[[Kinds, NDArray[np.float64]], Mask]
    severity: tuple[float, float]
    per_focus: bool
    variation: float


def _parenchyma(kinds: Kinds, spacing: NDArray[np.float64]) -> Mask:
    return kinds >= Kind.GREY


def _white_matter(kinds: Kinds, spacing: NDArray[np.float64]) -> Mask:
    distance = ndimage.distance_transform_edt(kinds != Kind.WHITE, sampling=spacing)
    return (distance <= max(_JUXTACORTICAL, float(spacing.min()))) & (kinds >= Kind.GREY)


MODELS: Mapping[str, LesionModel] = {
    "stroke": LesionModel(
        "subacute to chronic: from grey to as dark as fluid, uneven", _parenchyma, (0.45, 1.0), False, 0.15
    ),
    "ms": LesionModel("foci of white matter, each of its own darkness", _white_matter, (0.2, 0.75), True, 0.08),
    "any": LesionModel("hypointense, anywhere in grey and white matter", _parenchyma, (0.1, 1.0), True, 0.15),
}


def fit_mask(mask: Mask, kinds: Kinds, spacing: NDArray[np.float64], model: LesionModel) -> Mask | None:
    """Return the part of a donor's mask that is tissue of the right kind; None if too little of it is.

    Parameters
    ----------
    kinds : values of `Kind` per voxel
    spacing : mm per axis
    """
    if not mask.any():
        return None
    fitted = mask & model.where(kinds, spacing)
    enough = fitted.sum() >= max(MINIMUM_VOXELS, MINIMUM_SHARE * mask.sum())
    return fitted if enough else None


def paste_lesion(
    image: Image,
    kinds: Kinds,
    mask: Mask,
    spacing: NDArray[np.float64],
    model: LesionModel,
    rng: np.random.Generator,
    *,
    level: float | None = None,
) -> Placed:
    """Change the intensities within a mask towards those of fluid.

    A voxel becomes `T + w (s (f - T) + texture)`: T is its original intensity, f that of fluid (the lower half of the CSF's
    median and quarter), s the severity, a smooth random field about a drawn mean, and w the mask blurred by 0.4 to 1.2 mm.
    Underlying anatomy, bias field and noise stay visible where s is below 1. Fluid and non-tissue voxels are unchanged.

    Parameters
    ----------
    level : intensity to use instead of that of fluid, for contrasts other than T1
    """
    sl = _box(mask, spacing)
    part, inside, own = image[sl].astype(np.float32), mask[sl], kinds[sl] >= Kind.GREY
    white = _median(image, kinds == Kind.WHITE, float(np.percentile(image[kinds > 0], 90)))
    fluid = _fluid(image, kinds) if level is None else level
    blur, reach = rng.uniform(0.4, 1.2), rng.uniform(3.0, 10.0)
    texture = rng.uniform(0.01, 0.04)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), blur / spacing) * own
    severity, drawn = _severity(inside, spacing, model, rng)
    severity = severity + model.variation * _smooth_noise(inside.shape, reach / spacing, rng)
    severity = np.clip(severity, 0.5 * model.severity[0], 1.05)
    noise = texture * white * _smooth_noise(inside.shape, 1.0 / spacing, rng)
    result = image.astype(np.float32, copy=True)
    result[sl] = part + weight * (severity * (fluid - part) + noise)
    parameters = {
        "severity": drawn,
        "edge_blur_mm": round(blur, 3),
        "variation_reach_mm": round(reach, 3),
        "texture": round(texture, 4),
        "fluid_intensity": round(float(fluid), 4),
    }
    return Placed(result, mask.copy(), parameters)


def push_aside(
    image: Image, labels: NDArray[np.integer[Any]], mask: Mask, spacing: NDArray[np.float64], push: float
) -> tuple[Image, NDArray[np.integer[Any]], Mask]:
    """Let a lesion swell: its border moves outwards by `push` mm, the tissue around it by less with distance.

    A voxel at the signed distance d (mm) from the old border comes from d - push exp(-|d - push| / 10 mm) along the same
    line. This never folds while push < 10 mm.

    Returns
    -------
    image, labels, mask : all moved in the same way, with linear interpolation, or nearest neighbour for labels and mask
    """
    if not 0 <= push < MASS_REACH:
        raise ValueError(f"push is {push} mm; it must be 0 or more, and below {MASS_REACH:g} for the field not to fold")
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    distance = (outside - ndimage.distance_transform_edt(mask, sampling=spacing)).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, 1.5 / spacing)
    gradient = np.gradient(distance, *spacing.tolist())
    length = np.maximum(np.sqrt(sum(g**2 for g in gradient)), 1e-3)
    shift = push * np.exp(-np.abs(distance - push) / MASS_REACH)
    grid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in image.shape), indexing="ij")
    source = [g - shift * d / length / s for g, d, s in zip(grid, gradient, spacing, strict=True)]
    moved = ndimage.map_coordinates(image, source, order=1, mode="nearest")
    nearest = ndimage.map_coordinates(labels, source, order=0, mode="nearest")
    return moved, nearest, ndimage.map_coordinates(mask.astype(np.uint8), source, order=0, mode="nearest") > 0


def _box(mask: Mask, spacing: NDArray[np.float64]) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    margin = np.ceil(_MARGIN / spacing).astype(int)
    return tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(found, margin, strict=True))


def _median(image: Image, where: Mask, otherwise: float) -> float:
    return float(np.median(image[where])) if where.any() else float(otherwise)


def _fluid(image: Image, kinds: Kinds) -> float:
    """Return the intensity of fluid; without a fluid label, a quarter of the median of the brain."""
    values = image[kinds == Kind.CSF]
    if values.size < MINIMUM_VOXELS:
        return 0.25 * float(np.median(image[kinds > 0]))
    return float(np.mean(np.percentile(values, (25, 50))))


def _severity(
    inside: Mask, spacing: NDArray[np.float64], model: LesionModel, rng: np.random.Generator
) -> tuple[Image | float, list[float]]:
    """Return the mean severity of each voxel's focus, and the values drawn."""
    if not model.per_focus:
        value = float(rng.uniform(*model.severity))
        return value, [round(value, 3)]
    foci, count = ndimage.label(inside)
    values = rng.uniform(*model.severity, count).astype(np.float32)
    # carried into the blurred border
    nearest = ndimage.distance_transform_edt(foci == 0, sampling=spacing, return_distances=False, return_indices=True)
    return values[foci[tuple(nearest)] - 1], [round(float(v), 3) for v in values]


def _smooth_noise(shape: tuple[int, ...], sigma: NDArray[np.float64], rng: np.random.Generator) -> Image:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
    return noise / max(float(noise.std()), 1e-6)
