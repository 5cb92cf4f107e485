"""Compare, repair, reorient and resample the grids of images and masks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transfer.errors import DataError

#: what to do if image and mask are on different grids
POLICIES = ("error", "copy-from-image", "resample-label", "resample-label-coverage", "resample-image")
#: two grids are equal if the centre of each voxel moves by at most this distance in mm; rounding in NIfTI's 32-bit
#: headers gives about 1e-5 mm
TOLERANCE_MM = 0.01
#: relative difference of spacings by rounding in headers; nnU-Net stops if files of a case differ by more than 1e-5
SAME_SPACING = 2e-6
#: displacement in mm by rounding in headers, also where a file has no transform but quaternions
_HEADER_ROUNDING_MM = 1e-3
#: largest entry of R'R - 1 that is repaired automatically (0.01 is a shear of about half a degree)
ORTHONORMAL_TOLERANCE = 0.01
#: below this, nothing is repaired; ITK accepts such directions
_ROUNDING = 1e-5

Affine = NDArray[np.float64]


def displacement(shape: Sequence[int], a: Affine, b: Affine) -> float:
    """Return the largest distance in mm between the centres of a voxel under two affines, over a grid of `shape`."""
    corners = np.array([*itertools.product(*((0, n - 1) for n in shape[:3]))], dtype=np.float64)
    difference = a - b
    return float(np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max())


def spacing(affine: Affine) -> NDArray[np.float64]:
    """Return the voxel size in mm, shape (3,)."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def orientation(affine: Affine) -> str:
    """Return the directions of the axes, such as RAS."""
    return "".join(nib.aff2axcodes(affine))


def orthonormalised(affine: Affine, name: str) -> tuple[Affine, str]:
    """Return the affine with the nearest orthonormal directions, and a description of the repair (empty if none).

    The centre of the grid's first voxel stays in place. The nearest orthonormal matrix is that of the polar
    decomposition (Higham, SIAM J Sci Stat Comput 1986;7:1160).

    Raises
    ------
    DataError
        If the directions are further from orthonormal than `ORTHONORMAL_TOLERANCE`, or singular.
    """
    edges = spacing(affine)
    if not np.all(np.isfinite(affine)) or edges.min() < 1e-6:
        raise DataError(f"{name} has an unusable orientation: its affine is singular")
    directions = affine[:3, :3] / edges
    error = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if error <= _ROUNDING:
        return affine, ""
    if error > ORTHONORMAL_TOLERANCE:
        raise DataError(
            f"{name} has axes that aren't at right angles (off by {error:.3g}, {ORTHONORMAL_TOLERANCE} is repaired); "
            f"resample it to an upright grid"
        )
    u, _, v = np.linalg.svd(directions)
    repaired = affine.copy()
    repaired[:3, :3] = (u @ v) * edges
    return repaired, f"axes made orthonormal (were off by {error:.2g})"


def reorient(data: NDArray[Any], affine: Affine, target: str) -> tuple[NDArray[Any], Affine]:
    """Permute and flip axes to the orientation `target`, such as RAS; voxels keep their values and positions."""
    change = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(tuple(target)))
    turned = orientations.apply_orientation(data, change)
    return turned, affine @ orientations.inv_ornt_aff(change, data.shape)


def resample(data: NDArray[Any], affine: Affine, shape: Sequence[int], target: Affine) -> NDArray[np.float32]:
    """Resample an image to another grid of `shape`: linear interpolation, 0 outside. For labels, see `label_resampling`."""
    return sampled(np.asarray(data, dtype=np.float32), np.linalg.inv(affine) @ target, shape, order=1)


def covered(own_shape: Sequence[int], affine: Affine, shape: Sequence[int], target: Affine) -> NDArray[np.bool_]:
    """Whether the centre of each voxel of a grid of `shape` lies in an image of `own_shape`."""
    return sampled(np.ones(tuple(own_shape), np.uint8), np.linalg.inv(affine) @ target, shape) > 0


def sampled(data: NDArray[Any], matrix: Affine, shape: Sequence[int], order: int = 0) -> NDArray[Any]:
    """Return the values of `data` at the voxels of a grid of `shape`, 0 outside.

    Parameters
    ----------
    matrix : voxel indices of the grid -> those of `data`, shape (4, 4)
    order : 0 takes the nearest voxel, 1 interpolates linearly
    """
    return ndimage.affine_transform(
        data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=tuple(shape),
        order=order,
        mode="grid-constant",  # "constant" treats a border voxel that rounding puts at -1e-17 as outside
    )


def describe_mismatch(shape: Sequence[int], affine: Affine, other_shape: Sequence[int], other: Affine) -> str:
    """Describe how two grids differ; empty if they don't."""
    if tuple(shape) != tuple(other_shape):
        return f"{'x'.join(map(str, other_shape))} voxels instead of {'x'.join(map(str, shape))}"
    distance = displacement(shape, affine, other)
    return f"voxels displaced by {distance:.3g} mm" if distance > TOLERANCE_MM else ""


def same_header(shape: Sequence[int], affine: Affine, other: Affine) -> bool:
    """Whether two affines of a grid differ at most by rounding in headers."""
    return displacement(shape, affine, other) <= _HEADER_ROUNDING_MM and np.allclose(
        spacing(affine), spacing(other), rtol=SAME_SPACING, atol=0
    )


def stored_otherwise(shape: Sequence[int], affine: Affine, other_shape: Sequence[int], other: Affine) -> bool:
    """Whether two grids cover the same positions, stored with flipped or permuted axes.

    A displacement of half a voxel is allowed, because only the directions of the axes matter.
    """
    if orientation(affine) == orientation(other):
        return False
    change = orientations.ornt_transform(orientations.io_orientation(other), orientations.io_orientation(affine))
    turned = other @ orientations.inv_ornt_aff(change, tuple(other_shape))
    turned_shape = tuple(other_shape[int(i)] for i in np.argsort(change[:, 0]))
    return turned_shape == tuple(shape) and displacement(shape, affine, turned) <= spacing(affine).min() / 2
