"""Small colour crops of photos that scikit-image and scikit-learn ship, labelled by brightness regions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from nnunet_transfer.errors import DataError

#: class -> where the photo lies: package, folders and file; all are free to use (see the packages' READMEs)
PHOTOS = {
    "astronaut": ("skimage", "data", "astronaut.png"),
    "cat": ("skimage", "data", "chelsea.png"),
    "coffee": ("skimage", "data", "coffee.png"),
    "motorcycle": ("skimage", "data", "motorcycle_left.png"),
    "temple": ("sklearn", "datasets", "images", "china.jpg"),
    "flower": ("sklearn", "datasets", "images", "flower.jpg"),
}
REGIONS = {"background": 0, "dim": 1, "medium": 2, "bright": 3}
#: pixels, width and height
CROP_SIZE = 96
#: crops per photo, from tiles that don't overlap
CROPS_PER_PHOTO = 8
#: a tile's side in units of the photo's height (but no smaller than a crop): four rows, with room to shift them
_TILE_SHARE = 0.22
_KMEANS_STEPS = 30


@dataclass(frozen=True)
class Crop:
    """A crop: RGB `image` of shape (96, 96, 3), `label` of shape (96, 96) with the values of `REGIONS`."""

    photo: str
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


def load_photo(name: str) -> NDArray[np.uint8]:
    """Return a photo as RGB, shape `(rows, columns, 3)`.

    Raises
    ------
    DataError
        If the package's file is missing.
    """
    package, *parts = PHOTOS[name]
    with resources.as_file(resources.files(package).joinpath(*parts)) as path:
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except FileNotFoundError:
            raise DataError(f"{path} is missing; reinstall {package} from a wheel") from None


def cut_crops(seed: int) -> list[Crop]:
    """Return `CROPS_PER_PHOTO` crops of each photo, photo by photo, with labels that mean the same in all photos.

    The labels are k-means clusters of smoothed colour over all crops, ordered from dark to bright.
    """
    rng = np.random.default_rng(seed)
    images = [(name, image) for name in PHOTOS for image in _cut(load_photo(name), rng)]
    smooth = np.stack([ndimage.gaussian_filter(image.astype(np.float32), (2, 2, 0)) for _, image in images])
    centres = _kmeans(smooth[:, ::4, ::4].reshape(-1, 3), len(REGIONS))
    labels = [_nearest(colour, centres) for colour in smooth]
    return [
        Crop(name, image, ndimage.median_filter(label, 5)) for (name, image), label in zip(images, labels, strict=True)
    ]


def _cut(photo: NDArray[np.uint8], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return the tiles with the most contrast, so no plain sky or blurred background, in reading order."""
    height, width = photo.shape[:2]
    side = max(CROP_SIZE, round(_TILE_SHARE * height))
    top, left = int(rng.integers(height % side + 1)), int(rng.integers(width % side + 1))
    tiles = [
        photo[row : row + side, column : column + side]
        for row in range(top, height - side + 1, side)
        for column in range(left, width - side + 1, side)
    ]
    contrast = np.array([tile.mean(axis=-1).std() for tile in tiles])
    chosen = np.sort(np.argsort(-contrast, kind="stable")[:CROPS_PER_PHOTO])
    size = (CROP_SIZE, CROP_SIZE)
    return [
        np.asarray(Image.fromarray(np.ascontiguousarray(tiles[i])).resize(size, Image.Resampling.BILINEAR))
        for i in chosen
    ]


def _nearest(colours: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the index of the centre nearest to each colour, shape without the last axis."""
    return np.stack([((colours - c) ** 2).sum(axis=-1) for c in centres]).argmin(axis=0).astype(np.uint8)


def _kmeans(colours: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `count` cluster centres, dark to bright; the start is spread over brightness, so nothing is random."""
    order = np.argsort(colours.mean(axis=1), kind="stable")
    centres = np.stack([part.mean(axis=0) for part in np.array_split(colours[order], count)])
    for _ in range(_KMEANS_STEPS):
        nearest = _nearest(colours, centres)
        centres = np.stack([colours[nearest == k].mean(axis=0) for k in range(count)])
    return centres[np.argsort(centres.mean(axis=1))]
