"""Affine resampling of several samples at once, by the steps of batchgeneratorsv2's `SpatialTransform`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    _convert_my_grid_to_grid_sample_grid,
    _create_centered_identity_grid2,
)
from torch.nn.functional import grid_sample

#: a label's share of a voxel is rounded to thousandths in float16, as in the original; near ties thus become ties
WHOLE = 1000


class Resampling:
    """The sampling grids of some samples.

    Parameters
    ----------
    transform : what says how to sample
    affines : one matrix for each sample, float64 `(axis, axis)`
    images : `(batch, channel, *initial patch)`, of whatever samples: shape and device are what is needed
    """

    def __init__(self, transform: SpatialTransform, affines: Sequence[np.ndarray], images: torch.Tensor) -> None:
        self._transform = transform
        patch, shape, device = list(transform.patch_size), images.shape[2:], images.device
        with device:
            base = _create_centered_identity_grid2(patch).float()
        matrices = torch.from_numpy(np.stack([affine.T for affine in affines])).float()
        grids = torch.matmul(base.flatten(0, -2), matrices.to(device)).unflatten(1, patch)
        self._grids = _convert_my_grid_to_grid_sample_grid(grids, shape)  # (sample, *patch, axis), from -1 to 1
        # the patch's corners show on the CPU how far an affine grid reaches
        corners = (_create_centered_identity_grid2([2] * len(patch)) * (torch.tensor(patch) - 1)).flatten(0, -2)
        reach = _convert_my_grid_to_grid_sample_grid(torch.matmul(corners, matrices), shape)
        reaches = [transform._may_reach_outside(points, shape) for points in reach]
        self._any_reaches = any(reaches)
        self._reaches = torch.tensor(reaches).reshape(-1, *[1] * (len(patch) + 1)).to(device)
        self._outside = transform.padding_value_seg if transform.border_mode_seg == "constant" else 0

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Return these samples' images, `(sample, channel, *patch)`, zero beyond the border."""
        return self._sampled(images, self._transform.mode_image)

    def labels(self, segmentations: torch.Tensor) -> torch.Tensor:
        """Return these samples' labels, `(sample, channel, *patch)`.

        As in the original, the label with the highest linearly interpolated share wins, and the nearest neighbour's
        label settles ties.
        """
        present = present_labels(segmentations)
        if self._any_reaches:
            present = sorted({*present, self._outside})
        nearest = self._sampled(segmentations.float() - self._outside, "nearest") + self._outside
        nearest = nearest.to(segmentations.dtype)
        if len(present) == 1:
            return nearest
        if len(present) == 2:  # their shares add up
            second = self._share(segmentations, present[1])
            winner = torch.where(second > WHOLE / 2, present[1], present[0]).to(segmentations.dtype)
            return torch.where(second == WHOLE / 2, nearest, winner)
        best = self._share(segmentations, present[0])
        winner = torch.full_like(nearest, present[0])
        of_nearest = torch.where(nearest == present[0], best, -torch.inf)
        for label in present[1:]:
            share = self._share(segmentations, label)
            winner = torch.where(share > best, label, winner)
            of_nearest = torch.where(nearest == label, share, of_nearest)
            best = torch.maximum(best, share)
        return torch.where(of_nearest == best, nearest, winner)

    def _share(self, segmentations: torch.Tensor, label: float) -> torch.Tensor:
        """Return a label's interpolated share, float16; beyond the border every voxel has the padding's label."""
        indicator = (segmentations == label).float() * WHOLE
        if label != self._outside:
            return self._sampled(indicator, self._transform.mode_seg).half()
        # grid_sample pads with zeros, so the padding's label is sampled as its complement
        rest = self._reaches * float(WHOLE)
        return (self._sampled(indicator - rest, self._transform.mode_seg) + rest).half()

    def _sampled(self, values: torch.Tensor, mode: str) -> torch.Tensor:
        return grid_sample(values, self._grids, mode, "zeros", align_corners=self._transform.align_corners)


def present_labels(segmentations: torch.Tensor) -> list[int]:
    """Return the labels that occur, in order. Only here the CPU waits for the device."""
    return torch.unique(segmentations).tolist()
