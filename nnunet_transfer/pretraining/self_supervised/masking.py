"""Block masks for masked autoencoding, in 2D and 3D.

A share of the image is hidden in blocks, and the network restores it from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnunet_transfer.errors import SettingsError

#: share of the blocks that is hidden: He et al., CVPR 2022 (doi:10.1109/CVPR52688.2022.01553), figure 5,
#: found 75 % best for natural images; Wald et al. (OpenMind, ICCV 2025, arXiv:2412.17041) use it for brain MRI
MASK_RATIO = 0.75
#: edge of a block in voxels of the patch: 16 x 16 pixels in He et al. 2022 (224 x 224 input), 16 voxels in
#: nnssl's masked autoencoder (160^3 input), the code of the OpenMind study
BLOCK_SIZE = 16
#: minimum number of blocks per axis; smaller patches get smaller blocks, because otherwise three quarters of a
#: 32 x 32 image would be three of its four blocks
MIN_BLOCKS_PER_AXIS = 4


def block_size(patch_size: Sequence[int], edge: int = BLOCK_SIZE) -> tuple[int, ...]:
    """Return the edges of a block, in voxels, for a patch of `patch_size` voxels.

    Every edge is `edge`, but at most a quarter of the patch along its axis and at least one voxel; thin axes of
    anisotropic patches therefore get thin blocks.
    """
    return tuple(max(1, min(edge, size // MIN_BLOCKS_PER_AXIS)) for size in patch_size)


def random_block_mask(
    batch_size: int,
    patch_size: Sequence[int],
    *,
    ratio: float = MASK_RATIO,
    block: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw a mask of hidden blocks for each sample.

    Every sample has the same number of hidden blocks: `ratio` of all blocks, rounded to the nearest integer, but at least one
    and not all. Blocks at the far border are smaller if the patch is not a multiple of the block.

    Parameters
    ----------
    batch_size : number of samples
    patch_size : spatial shape `(y, x)` or `(z, y, x)` in voxels
    ratio : share of hidden blocks, between 0 and 1
    block : edges of a block in voxels; default: `block_size(patch_size)`
    generator : random generator on the CPU; default: torch's global one

    Returns
    -------
    torch.Tensor
        Boolean, shape `(batch_size, 1, *patch_size)`, true where the image is hidden, on the CPU.

    Raises
    ------
    SettingsError
        If `ratio` isn't between 0 and 1, or the patch has fewer than two blocks.
    """
    if not 0 < ratio < 1:
        raise SettingsError(f"mask ratio {ratio} must lie between 0 and 1 (both excluded)")
    edges = tuple(block) if block is not None else block_size(patch_size)
    grid = [-(-size // edge) for size, edge in zip(patch_size, edges, strict=True)]
    blocks = 1
    for count in grid:
        blocks *= count
    if blocks < 2:
        raise SettingsError(
            f"a patch of {tuple(patch_size)} voxels holds no two blocks of {edges}; take smaller blocks"
        )
    hidden = min(max(round(ratio * blocks), 1), blocks - 1)
    order = torch.rand(batch_size, blocks, generator=generator).argsort(dim=1)
    mask = torch.zeros(batch_size, blocks, dtype=torch.bool).scatter_(1, order[:, :hidden], True)
    mask = mask.reshape(batch_size, 1, *grid)
    for axis, (size, edge) in enumerate(zip(patch_size, edges, strict=True), start=2):
        mask = mask.repeat_interleave(edge, dim=axis).narrow(axis, 0, size)
    return mask.contiguous()


def hide(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return `image` `(batch, channel, *spatial)` with 0 where `mask` `(batch, 1, *spatial)` is true.

    Images are z-scored in nnU-Net's default plans, so 0 is the mean intensity.
    """
    return image.masked_fill(mask, 0)
