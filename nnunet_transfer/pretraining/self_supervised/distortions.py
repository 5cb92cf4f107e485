"""The distortions of Models Genesis, in 2D and 3D, on the image's device.

Zhou et al., Med Image Anal 2021;67:101840 (doi:10.1016/j.media.2020.101840): a patch is shuffled locally, its
intensities are changed by a monotone curve, and boxes inside or all outside of them are replaced by noise; the network
restores the patch. Probabilities and sizes are those of the authors' code (github.com/MrGiovanni/ModelsGenesis,
pytorch/config.py and utils.py). Where that scales CT to 0-1, a patch's own range of intensities takes the place of
0-1, and its flips are left to nnU-Net's mirroring.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnunet_transfer.pretraining.self_supervised.draws import chance, integer, uniform

#: probabilities per patch; of the painted patches, `OUTPAINTING` are painted outside of the boxes, the others inside
SHUFFLING, NONLINEAR, PAINTING, OUTPAINTING = 0.5, 0.9, 0.9, 0.8
#: half of the curves are decreasing
DECREASING = 0.5
#: a window that is shuffled is at most a tenth of the patch long, along each axis
WINDOWS_PER_AXIS = 10
#: most boxes that are painted, and that are spared; after each box there is another with this probability
INSIDE_BOXES, OUTSIDE_BOXES, ANOTHER_BOX = 5, 5, 0.95
#: voxels between boxes and the patch's border, fewer where the patch is thin
BORDER = 3
#: points at which a curve is computed; between them it is linear
CURVE_POINTS = 1000

Point = tuple[float, float]


def bezier_map(values: torch.Tensor, first: Point, second: Point) -> torch.Tensor:
    """Map intensities by the cubic Bezier curve from (0, 0) to (1, 1) with two inner control points.

    Parameters
    ----------
    values : any shape, from 0 to 1
    first, second : inner control points within the unit square; x then never decreases along the curve, nor does y
    """
    t = torch.linspace(0, 1, CURVE_POINTS, dtype=torch.float64)
    weights = torch.stack([3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3])
    # the running maximum takes away what rounding may add to a level part
    x, y = (
        (torch.tensor([*axis, 1.0], dtype=torch.float64) @ weights).cummax(0).values.to(values)
        for axis in zip(first, second, strict=True)
    )
    left = (torch.searchsorted(x, values.contiguous(), right=True) - 1).clamp(0, CURVE_POINTS - 2)
    width = x[left + 1] - x[left]
    # where the curve is as steep as rounding lets it be, its upper end: 1 must be mapped to 1
    share = torch.where(width > 0, (values - x[left]) / width, 1).clamp(0, 1)
    return y[left] + share * (y[left + 1] - y[left])


def change_intensities(image: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Map the intensities of one patch `(channel, *spatial)` by a random curve onto their own range."""
    low, high = image.min(), image.max()
    extent = (high - low).clamp(min=torch.finfo(image.dtype).tiny)
    points = torch.rand(4, generator=generator).tolist()
    mapped = bezier_map((image - low) / extent, (points[0], points[1]), (points[2], points[3]))
    if chance(DECREASING, generator):
        mapped = 1 - mapped
    return low + extent * mapped


def random_windows(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Divide a patch into windows: int64 of shape `shape` with each voxel's window.

    Every axis is cut into pieces of 1 to a tenth of its length; a window is a product of pieces. The authors shuffle
    10,000 windows wherever they fall, so that nearly every voxel is shuffled, some twice; here all are, once.
    """
    windows = torch.zeros(*shape, dtype=torch.int64, device=device)
    for axis, size in enumerate(shape):
        longest = max(1, size // WINDOWS_PER_AXIS)
        ends = torch.randint(1, longest + 1, (size,), generator=generator).cumsum(0)
        piece = torch.searchsorted(ends, torch.arange(size), right=True)
        windows = windows * size + piece.to(device).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return windows


def shuffle_within(
    image: torch.Tensor, windows: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Shuffle the voxels of one patch `(channel, *spatial)` within its windows, all channels alike."""
    flat, labels = image.flatten(1), windows.flatten()
    # sorting by window and then at random gives, window by window, the voxels in another order than sorting by window
    noise = (uniform(labels.shape, image.device, generator) * 2**24).to(torch.int64)
    shuffled = torch.empty_like(flat)
    shuffled[:, labels.argsort(stable=True)] = flat[:, (labels * 2**24 + noise).argsort()]
    return shuffled.reshape(image.shape)


def random_boxes(
    shape: Sequence[int],
    edges: Sequence[tuple[int, int]],
    most: int,
    device: torch.device,
    generator: torch.Generator | None = None,
    *,
    at_least_one: bool = False,
) -> torch.Tensor:
    """Return a mask of random boxes, boolean of shape `shape`, true inside.

    Parameters
    ----------
    edges : shortest and longest edge of a box, in voxels, along each axis
    most : most boxes
    """
    mask = torch.zeros(*shape, dtype=torch.bool, device=device)
    for number in range(most):
        if not (at_least_one and number == 0) and not chance(ANOTHER_BOX, generator):
            break
        box = []
        for size, (shortest, longest) in zip(shape, edges, strict=True):
            edge = integer(shortest, longest, generator)
            border = min(BORDER, (size - edge) // 2)
            start = integer(border, size - edge - border, generator)
            box.append(slice(start, start + edge))
        mask[tuple(box)] = True
    return mask


def inside_mask(shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return where in-painting paints: up to five boxes, a sixth to a third of the patch long along each axis."""
    edges = [(max(1, size // 6), max(1, size // 3)) for size in shape]
    return random_boxes(shape, edges, INSIDE_BOXES, device, generator)


def outside_mask(shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return where out-painting paints: outside of one to five boxes, three to four sevenths of the patch long."""
    edges = [(max(1, size - 4 * size // 7), max(1, size - 3 * size // 7)) for size in shape]
    return ~random_boxes(shape, edges, OUTSIDE_BOXES, device, generator, at_least_one=True)


def paint(image: torch.Tensor, mask: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Replace one patch `(channel, *spatial)`, where the mask is true, by noise that is uniform over its range."""
    low, high = image.min(), image.max()
    noise = low + (high - low) * uniform(image.shape, image.device, generator)
    return torch.where(mask, noise, image)


def distort(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Distort patches `(batch, channel, *spatial)`, each in its own way; one in two hundred stays as it is."""
    return torch.stack([_distort_one(image, generator) for image in images])


def _distort_one(image: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    shape, device = image.shape[1:], image.device
    if chance(SHUFFLING, generator):
        image = shuffle_within(image, random_windows(shape, device, generator), generator)
    if chance(NONLINEAR, generator):
        image = change_intensities(image, generator)
    if chance(PAINTING, generator):
        mask = outside_mask if chance(OUTPAINTING, generator) else inside_mask
        image = paint(image, mask(shape, device, generator), generator)
    return image
