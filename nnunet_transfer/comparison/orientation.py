"""Cut slices out of a volume in the patient's frame, so that every picture has the same orientation however it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from nnunet_transfer.evaluation.masks import Volume

FloatArray = NDArray[np.float64]

#: the longer side of a picture, in pixels
MOST_PIXELS = 256
#: a plane thinner than this is not drawn: the volume has one slice
LEAST_PIXELS = 3
#: share of the brightest value above which a voxel counts as content; the field of view is cropped to it
CONTENT = 0.05
#: share of a pixel by which the points of a mask are shifted
TIE = 1e-3
#: of larger images a part is looked at to find the range of grey values
MANY_VOXELS = 1_000_000
#: mm around the content
MARGIN = 5.0


@dataclass(frozen=True)
class View:
    """A plane's directions in the patient's frame (R, A, S).

    Attributes
    ----------
    name : as the report calls it
    across, down : axis and sign of the picture's columns (left to right) and rows (top to bottom)
    normal : axis that the plane cuts
    left, right, top, bottom : marks at the picture's edges
    """

    name: str
    across: tuple[int, int]
    down: tuple[int, int]
    normal: int
    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


#: radiological convention: the patient's right is on the left of the picture, as if seen from the feet
ANATOMICAL = (
    View("axial", (0, -1), (1, -1), 2, "R", "L", "A", "P"),
    View("coronal", (0, -1), (2, -1), 1, "R", "L", "S", "I"),
    View("sagittal", (1, -1), (2, -1), 0, "A", "P", "S", "I"),
)
#: pictures without geometry are drawn as any image viewer draws them
FLAT = (View("image", (0, 1), (1, 1), 2),)


@dataclass(frozen=True)
class Plane:
    """A slice's grid in the patient's frame.

    Attributes
    ----------
    view : its directions
    position : along the normal, mm
    corner : position of the first row's first pixel along (across, down), mm
    shape : (rows, columns)
    pixel : size, mm
    """

    view: View
    position: float
    corner: tuple[float, float]
    shape: tuple[int, int]
    pixel: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in mm."""
        return self.shape[1] * self.pixel, self.shape[0] * self.pixel

    def points(self) -> FloatArray:
        """Return the position (R, A, S) of every pixel in mm, shape (3, rows, columns)."""
        rows, columns = np.indices(self.shape)
        found = np.empty((3, *self.shape))
        found[self.view.normal] = self.position
        found[self.view.across[0]] = self.corner[0] + self.view.across[1] * self.pixel * columns
        found[self.view.down[0]] = self.corner[1] + self.view.down[1] * self.pixel * rows
        return found


def in_space(volume: Volume) -> Volume:
    """Return the volume with three axes and an affine; formats without geometry lie in a frame of their own."""
    array, spacing = volume.array, volume.spacing
    if array.ndim == 2:
        array, spacing = array[None], (1.0, *spacing)
    affine = volume.affine
    if affine is None:
        affine = np.diag([*spacing[::-1], 1.0])
    return Volume(array, spacing, affine)


def views(volume: Volume) -> tuple[View, ...]:
    """Return the planes in which a volume as it was read can be drawn."""
    return FLAT if volume.affine is None else ANATOMICAL


def positions(voxels: NDArray[np.intp], affine: FloatArray) -> FloatArray:
    """Return the position (R, A, S) in mm of voxels given as (z, y, x), shape (n, 3)."""
    return voxels[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]


def planes(volume: Volume, foreground: NDArray[np.bool_], content: NDArray[np.bool_] | None = None) -> list[Plane]:
    """Choose one slice per view: where the foreground's area is largest, or the middle of the volume.

    Parameters
    ----------
    volume : the mask or image, as it was read
    foreground : what the slices should show, in the volume's shape
    content : what the field of view must hold; default: the whole volume
    """
    spaced = in_space(volume)
    affine, shape = np.asarray(spaced.affine, float), np.array(spaced.array.shape)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1).T
    outline = positions(corners, affine)
    # voxel size along the patient's axes: the largest share of any voxel axis
    size = np.abs(affine[:3, :3]).max(axis=1)
    low, high = outline.min(axis=0), outline.max(axis=0)
    marked = np.argwhere(foreground.reshape(spaced.array.shape))
    middle = positions((shape // 2)[None], affine)[0]
    where = positions(marked, affine) if len(marked) else None
    if content is not None and content.any():
        inside = positions(_box_corners(content.reshape(spaced.array.shape)), affine)
        if where is not None:
            inside = np.concatenate([inside, where])
        low = np.maximum(low, _on_grid(inside.min(axis=0) - MARGIN, low, size))
        high = np.minimum(high, inside.max(axis=0) + MARGIN)
    found = []
    for view in views(volume):
        across, down = view.across[0], view.down[0]
        extent = high[[across, down]] - low[[across, down]]
        smallest = float(min(size[across], size[down]))
        pixel = max(smallest, float(extent.max()) / (MOST_PIXELS - 1))
        columns, rows = (round(e / pixel) + 1 for e in extent)
        if min(columns, rows) < LEAST_PIXELS:
            continue
        corner = tuple(float(low[axis] if sign > 0 else high[axis]) for axis, sign in (view.across, view.down))
        position = middle[view.normal] if where is None else _fullest(where[:, view.normal], float(size[view.normal]))
        found.append(Plane(view, float(position), (corner[0], corner[1]), (rows, columns), pixel))
    return found


def _box_corners(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the corners (z, y, x) of the box around all true voxels, shape (8, 3)."""
    ends = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis)))
        ends.append((used[0], used[-1]))
    return np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T


def _on_grid(value: FloatArray, origin: FloatArray, step: FloatArray) -> FloatArray:
    return origin + np.floor((value - origin) / step) * step


def _fullest(values: FloatArray, step: float) -> float:
    """Return the position of the slice with most voxels; of several, the middle one."""
    bins = np.round((values - values.min()) / step).astype(int)
    counts = np.bincount(bins)
    best = np.flatnonzero(counts == counts.max())
    return float(np.median(values[bins == best[len(best) // 2]]))


def sample(volume: Volume, plane: Plane, *, smooth: bool) -> NDArray[np.float32]:
    """Return a volume's values on a plane, shape (rows, columns): linear interpolation if `smooth`, else nearest."""
    spaced = in_space(volume)
    inverse: FloatArray = np.linalg.inv(np.asarray(spaced.affine, float))
    points = plane.points().reshape(3, -1)
    if not smooth:
        # a pixel between two voxels takes the same one however the volume is stored
        points = points + TIE * plane.pixel
    zyx = (inverse[:3, :3] @ points + inverse[:3, 3:])[::-1]
    array = spaced.array
    if smooth:
        values = map_coordinates(np.asarray(array, np.float32), zyx, order=1, mode="grid-constant")
        return values.reshape(plane.shape)
    index = np.floor(zyx + 0.5).astype(int)
    limits = np.array(array.shape)[:, None]
    inside = ((index >= 0) & (index < limits)).all(axis=0)
    z, y, x = np.clip(index, 0, limits - 1)
    return np.where(inside, array[z, y, x], 0).reshape(plane.shape).astype(np.float32)


def bright(volume: Volume) -> tuple[NDArray[np.bool_], tuple[float, float]]:
    """Return where an image has content, and the grey values to draw as black and as white."""
    array = np.nan_to_num(np.asarray(volume.array, np.float32), posinf=0, neginf=0)
    # every third voxel of a volume tells the range as well
    some = array[(slice(None, None, 3),) * array.ndim] if array.size > MANY_VOXELS else array
    low, high = (float(v) for v in np.percentile(some, [0.5, 99.7]))
    if high <= low:
        low, high = float(array.min()), float(max(array.max(), array.min() + 1))
    return array > low + CONTENT * (high - low), (low, high)


def describe(plane: Plane) -> str:
    """Say where a slice lies, in the words of the patient's frame."""
    if plane.view.name == "image":
        return ""
    name, (negative, positive) = (("x", "LR"), ("y", "PA"), ("z", "IS"))[plane.view.normal]
    distance = round(plane.position)
    side: Mapping[int, str] = {-1: f" {negative}", 0: "", 1: f" {positive}"}
    return f"{name} = {distance:+d} mm{side[int(np.sign(distance))]}" if distance else f"{name} = 0 mm"
