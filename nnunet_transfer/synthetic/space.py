"""Align a brain with MNI space: affine registration of its tissues to the MNI152 template that nilearn ships."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transfer.errors import DataError

#: grid spacing in mm; an affine registration needs no finer grid
_GRID = 4.0
#: overlap (Dice) of the brains below which the registration counts as failed
MINIMUM_OVERLAP = 0.8
_HINT = "check its orientation, or give masks in the images' own space with --mask-space image"
#: RAS to LPS and back
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def align_to_mni(tissue: NDArray[np.floating[Any]], affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Register a brain with the MNI152 template; the result is reproducible on any number of cores.

    Parameters
    ----------
    tissue : T1-like means of the tissues, 0 outside of the brain, shape `(x, y, z)`
    affine : voxel -> mm, RAS, shape `(4, 4)`

    Returns
    -------
    matrix : mm of the brain's space -> mm of MNI space, RAS, shape `(4, 4)`
    overlap : Dice of the two brains after the registration

    Raises
    ------
    DataError
        If the brains don't overlap well.
    """
    template, template_affine = _template()
    moving, moving_affine = _coarse(np.asarray(tissue, np.float32), np.asarray(affine, float))
    fixed_image, moving_image = _to_sitk(template, template_affine), _to_sitk(moving, moving_affine)
    initial = sitk.CenteredTransformInitializer(
        fixed_image, moving_image, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # summation in another order would change the last digits
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.SetInitialTransform(initial, inPlace=False)
    try:
        to_subject = _matrix(method.Execute(fixed_image, moving_image))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"the brain could not be aligned with MNI space ({reason}); {_HINT}") from None
    found = _resample(moving, moving_affine, template.shape, to_subject @ template_affine)
    overlap = 2 * np.sum((found > 0.1) & (template > 0.1)) / (np.sum(found > 0.1) + np.sum(template > 0.1))
    if not overlap >= MINIMUM_OVERLAP:
        raise DataError(
            f"the brain could not be aligned with MNI space (overlap {overlap:.2f}, {MINIMUM_OVERLAP} needed); {_HINT}"
        )
    return np.asarray(np.linalg.inv(to_subject), float), float(overlap)


def resample_mask(
    mask: NDArray[np.bool_],
    mask_affine: NDArray[np.float64],
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    to_mask_space: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return a mask on another grid, by linear interpolation and the threshold 0.5.

    Parameters
    ----------
    to_mask_space : mm of the new grid's space -> mm of the mask's space, shape `(4, 4)`
    """
    return _resample(mask.astype(np.float32), mask_affine, shape, to_mask_space @ affine) > 0.5


def _resample(
    image: NDArray[np.float32],
    image_affine: NDArray[np.float64],
    shape: tuple[int, ...],
    voxel_to_mm: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return `image` on a grid whose voxels lie at `voxel_to_mm` in the image's space."""
    matrix = np.linalg.inv(image_affine) @ voxel_to_mm
    return ndimage.affine_transform(image, matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=1)


@lru_cache(maxsize=1)
def _template() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    maps = []
    for name in ("t1", "gm", "wm"):
        file = (
            resources.files("nilearn") / "datasets" / "data" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        )
        with resources.as_file(file) as path:
            if not path.is_file():
                raise DataError(f"nilearn's MNI152 map {path} is missing; reinstall nilearn")
            image = nib.Nifti1Image.from_filename(path)
        maps.append(np.asanyarray(image.dataobj).astype(np.float32))
    t1, gm, wm = maps
    brain = ndimage.binary_fill_holes(gm + wm > 0.1 * 255)
    return _coarse(t1 / np.median(t1[wm > 0.9 * 255]) * brain, np.asarray(image.affine, float))


def _coarse(image: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return an image smoothed and sampled at about `_GRID` mm, with its affine."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    steps = np.maximum(1, np.round(_GRID / spacing)).astype(int)
    smooth = ndimage.gaussian_filter(image, [0.4 * step if step > 1 else 0 for step in steps])
    coarse = np.ascontiguousarray(smooth[:: steps[0], :: steps[1], :: steps[2]])
    return coarse, affine @ np.diag([*steps, 1.0])


def _to_sitk(image: NDArray[np.float32], affine: NDArray[np.float64]) -> sitk.Image:
    """Return an image with axes `(x, y, z)` as SimpleITK's, in LPS."""
    lps = _FLIP @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    result = sitk.GetImageFromArray(np.ascontiguousarray(image.transpose(2, 1, 0)))
    result.SetSpacing(spacing.tolist())
    result.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    result.SetOrigin(lps[:3, 3].tolist())
    return result


def _matrix(transform: sitk.Transform) -> NDArray[np.float64]:
    """Return an affine transform of SimpleITK as a matrix from mm to mm in RAS."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.stack(columns, axis=1), origin
    return _FLIP @ matrix @ _FLIP
