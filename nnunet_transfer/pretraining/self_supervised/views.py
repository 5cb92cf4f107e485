"""Two views of a patch, for contrastive pre-training, in 2D and 3D, on the image's device.

The operations are those of SimCLR, Chen et al., ICML 2020 (arXiv:2002.05709): crop and resize, mirror, change the
colours. The settings are those for small images (CIFAR-10) (github.com/google-research/simclr, README):
colour strength 0.5 and no blur.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from nnunet_transfer.pretraining.self_supervised.draws import between

#: share of the patch's area or volume in a crop: MoCo, He et al., CVPR 2020 (arXiv:1911.05722), in its code. SimCLR goes
#: down to 0.08, which in a brain scan is often background only
CROP_SHARE = (0.2, 1.0)
#: maximum ratio between the stretching of a crop's axes: SimCLR, 3/4 to 4/3
CROP_STRETCH = 4 / 3
#: probability of mirroring along each axis
MIRROR = 0.5
#: probability of changed colours; contrast factor and shift, the latter in standard deviations: SimCLR's 0.8 times the
#: strength 0.5, there for images from 0 to 1
COLOURS, CONTRAST, BRIGHTNESS = 0.8, 0.4, 0.4
#: nnU-Net's range: brightness and contrast alone would be undone by the first instance normalisation
GAMMA = (0.7, 1.5)
#: probability of grey instead of red, green and blue
GREY = 0.2
RGB = 3


def two_views(images: torch.Tensor, generator: torch.Generator | None = None, *, rgb: bool = False) -> torch.Tensor:
    """Return two independent views of each patch: `(2 * batch, channel, *spatial)`, first all first ones.

    Row i and row i + batch come from the same patch.

    Parameters
    ----------
    rgb : whether the channels are red, green and blue, some of which are made grey
    """
    return torch.cat([random_view(images, generator, rgb=rgb) for _ in range(2)])


def random_view(images: torch.Tensor, generator: torch.Generator | None = None, *, rgb: bool = False) -> torch.Tensor:
    """Crop, mirror and recolour patches `(batch, channel, *spatial)`, each independently; the shape is unchanged."""
    view = recoloured(cropped(images, generator), generator)
    return greyed(view, generator) if rgb else view


def cropped(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Resize a random crop of each patch to the full size with linear interpolation, and mirror it at random."""
    batch, axes = len(images), images.ndim - 2
    share = between(*CROP_SHARE, (batch, 1), generator)
    stretch = between(-0.5, 0.5, (batch, axes), generator) * math.log(CROP_STRETCH)
    # the mean is taken out so that stretching keeps the share, unless an edge is as long as the patch
    edges = (share ** (1 / axes) * (stretch - stretch.mean(dim=1, keepdim=True)).exp()).clamp(max=1)
    centres = between(-1, 1, (batch, axes), generator) * (1 - edges)
    signs = 1 - 2 * (torch.rand(batch, axes, generator=generator) < MIRROR).float()
    # affine_grid counts the axes from the last one and the coordinates from -1 to 1
    theta = torch.cat([torch.diag_embed((edges * signs).flip(1)), centres.flip(1)[..., None]], dim=2)
    grid = functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def recoloured(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Change gamma, contrast and brightness of most patches, each channel independently.

    Different changes of red, green and blue replace SimCLR's changes of hue and saturation.
    """
    spatial = tuple(range(2, images.ndim))
    shape = (*images.shape[:2], *[1] * len(spatial))
    logarithm = between(math.log(GAMMA[0]), math.log(GAMMA[1]), shape, generator)
    contrast = between(1 - CONTRAST, 1 + CONTRAST, shape, generator)
    brightness = between(-BRIGHTNESS, BRIGHTNESS, shape, generator)
    chosen = torch.rand(len(images), *shape[1:], generator=generator)[:, :1] < COLOURS
    gamma, contrast, brightness, chosen = (
        t.to(images.device, non_blocking=True) for t in (logarithm.exp(), contrast, brightness, chosen)
    )
    low, high = images.amin(spatial, keepdim=True), images.amax(spatial, keepdim=True)
    extent = (high - low).clamp(min=torch.finfo(images.dtype).tiny)
    curved = low + extent * ((images - low) / extent) ** gamma
    mean, deviation = curved.mean(spatial, keepdim=True), curved.std(spatial, keepdim=True, correction=0)
    return torch.where(chosen, mean + contrast * (curved - mean) + brightness * deviation, images)


def greyed(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Replace the red, green and blue of some patches by their mean."""
    if images.shape[1] != RGB:
        return images
    chosen = torch.rand(len(images), generator=generator) < GREY
    chosen = chosen.reshape(-1, *[1] * (images.ndim - 1)).to(images.device, non_blocking=True)
    return torch.where(chosen, images.mean(dim=1, keepdim=True), images)
