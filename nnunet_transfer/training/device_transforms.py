"""batchgeneratorsv2's transforms on any device: its own code wherever that is written for tensors of any device.

Decisions and numbers are drawn on the CPU, by the transforms' own `get_parameters` on stand-ins without content: that
way they come from the same generators in the same order as in nnU-Net's workers, and no draw waits for the device.
What is then done to the voxels is done where these are. The subclasses below exist because the originals make tensors
on the CPU or need NumPy; each says which. Checked against batchgeneratorsv2 0.3.6.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform, blur_dimension
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    _convert_my_grid_to_grid_sample_grid,
    _create_centered_identity_grid2,
)
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from torch.nn.functional import grid_sample

Sample = dict[str, Any]


class UnsupportedTransformError(Exception):
    """A transform that can't run on a device; says which."""


class DeviceSpatialTransform(SpatialTransform):
    """Rotate, scale and crop on the device.

    The original makes the sampling grid on the CPU and resamples labels through NumPy and tensors on the CPU.
    """

    def _get_base_grid_clone(self) -> torch.Tensor:
        # for the draws the patch's corners are enough; `apply` makes the grid
        return _create_centered_identity_grid2([2] * len(self.patch_size)) * (torch.tensor(self.patch_size) - 1)

    def apply(self, data_dict: Sample, **params: Any) -> Sample:
        """Transform one sample; the parameters' grid has the corners only."""
        corners, image = params["grid"], data_dict["image"]
        if corners is not None:
            self._reaches_outside = self._may_reach_outside(corners, image.shape[1:])
            params["grid"] = self._grid(image, params["affine"], params["center_location_in_pixels"])
        return super().apply(data_dict, **params)

    def _grid(self, image: torch.Tensor, affine: np.ndarray, centre: list[float]) -> torch.Tensor:
        """Return the grid `(*patch, axis)` on the image's device, by the original's steps."""
        shape = image.shape[1:]
        with image.device:
            grid = _create_centered_identity_grid2(self.patch_size).float()
        grid = torch.matmul(grid, torch.from_numpy(affine.T).float().to(image.device))
        grid += torch.tensor([c - s / 2 for c, s in zip(centre, shape, strict=True)]).to(image.device)
        return _convert_my_grid_to_grid_sample_grid(grid, shape)

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        if params["grid"] is None:
            return super()._apply_to_segmentation(segmentation, **params)
        return torch.stack([self._resampled(channel, params["grid"]) for channel in segmentation])

    def _resampled(self, segmentation: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """Return one channel, `(*initial patch)`, resampled to the patch.

        As in the original, the label with the highest linearly interpolated share, in float16 thousandths, wins, and
        the nearest neighbour's label settles ties.
        """
        pads = self._get_grid_sample_padding_mode(self.border_mode_seg) == "zeros"
        outside = (self.padding_value_seg if self.border_mode_seg == "constant" else 0) if pads else 0
        labels = present_labels(segmentation)
        if pads and self._reaches_outside:
            labels = sorted({*labels, outside})
        if len(labels) == 1:
            return segmentation.new_full(tuple(self.patch_size), labels[0])
        nearest = (self._sampled(segmentation.float() - outside, grid, "nearest") + outside).to(segmentation.dtype)
        if len(labels) == 2:  # shares add up to 1000
            second = self._share(segmentation, labels[1], outside, grid)
            winner = torch.where(second > 500, labels[1], labels[0]).to(segmentation.dtype)
            return torch.where(second == 500, nearest, winner)
        best = self._share(segmentation, labels[0], outside, grid)
        winner = torch.full_like(nearest, labels[0])
        of_nearest = torch.where(nearest == labels[0], best, -torch.inf)
        for label in labels[1:]:
            share = self._share(segmentation, label, outside, grid)
            winner = torch.where(share > best, label, winner)
            of_nearest = torch.where(nearest == label, share, of_nearest)
            best = torch.maximum(best, share)
        return torch.where(of_nearest == best, nearest, winner)

    def _share(self, segmentation: torch.Tensor, label: float, outside: float, grid: torch.Tensor) -> torch.Tensor:
        """Return a label's interpolated share in thousandths, float16; beyond the border there is `outside`."""
        # grid_sample pads with zeros: the padding's label is sampled as its complement
        rest = 1000 if self._reaches_outside and label == outside else 0
        indicator = (segmentation == label).float() * 1000 - rest
        return (self._sampled(indicator, grid, self.mode_seg) + rest).half()

    def _sampled(self, channel: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
        padding = self._get_grid_sample_padding_mode(self.border_mode_seg)
        return grid_sample(channel[None, None], grid[None], mode, padding, align_corners=self.align_corners)[0, 0]


def present_labels(segmentation: torch.Tensor) -> list[int]:
    """Return the labels that occur, in order; the one step that waits for the device."""
    return torch.unique(segmentation).tolist()


class DeviceGaussianNoiseTransform(GaussianNoiseTransform):
    """Add noise on the device. The original expects the drawn channels' numbers there."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return super()._apply_to_image(img, **params | {"apply_idx": params["apply_idx"].to(img.device)})


class DeviceGaussianBlurTransform(GaussianBlurTransform):
    """Blur on the device.

    The original makes its kernels on the CPU and times convolution against Fourier transform, which says nothing on a
    device that computes asynchronously. Kernels of these widths are convolved.
    """

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        with img.device:
            return super()._apply_to_image(img, **params)

    def _benchmark_wrapper(self, img: torch.Tensor, sigma: float, dim_to_blur: int) -> torch.Tensor:
        return blur_dimension(img, sigma, dim_to_blur, force_use_fft=False)


class DeviceMaskImageTransform(MaskImageTransform):
    """Mask on the device. The original looks up where the mask is true, which waits for the device."""

    def apply(self, data_dict: Sample, **params: Any) -> Sample:
        """Mask one sample."""
        outside = data_dict["segmentation"][self.channel_idx_in_seg] < 0
        for channel in self.apply_to_channels:
            data_dict["image"][channel].masked_fill_(outside, self.set_outside_to)
        return data_dict


class DeviceRegionsTransform(ConvertSegmentationToRegionsTransform):
    """Convert labels to regions on the device. The original keeps the regions' labels on the CPU."""

    regions: list[torch.Tensor]

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        self.regions = [labels.to(segmentation.device) for labels in self.regions]
        return super()._apply_to_segmentation(segmentation, **params)


#: nnU-Net's transforms -> what runs on a device
ON_DEVICE: dict[type[BasicTransform], type[BasicTransform]] = {
    SpatialTransform: DeviceSpatialTransform,
    GaussianNoiseTransform: DeviceGaussianNoiseTransform,
    GaussianBlurTransform: DeviceGaussianBlurTransform,
    MaskImageTransform: DeviceMaskImageTransform,
    ConvertSegmentationToRegionsTransform: DeviceRegionsTransform,
    **{
        as_it_is: as_it_is
        for as_it_is in (
            MultiplicativeBrightnessTransform,
            ContrastTransform,
            GammaTransform,
            SimulateLowResolutionTransform,
            MirrorTransform,
            RemoveLabelTransform,
            DownsampleSegForDSTransform,
            Convert2DTo3DTransform,
            Convert3DTo2DTransform,
        )
    },
}


class DrawnOnCPU(BasicTransform):
    """Run a transform where the sample is, with parameters drawn on the CPU."""

    def __init__(self, transform: BasicTransform) -> None:
        super().__init__()
        self.transform = transform

    def __call__(self, **data_dict: Any) -> Sample:
        """Transform one sample."""
        parameters = self.transform.get_parameters(**{key: _stand_in(value) for key, value in data_dict.items()})
        return self.transform.apply(data_dict, **parameters)


def _stand_in(value: Any) -> Any:
    """Return, for a tensor, one on the CPU of the same shape and dtype that takes no memory."""
    return torch.empty((), dtype=value.dtype).expand(value.shape) if isinstance(value, torch.Tensor) else value


def steps_on_device(transform: BasicTransform) -> list[BasicTransform]:
    """Return what a transform of nnU-Net's does, step by step, for samples on any device.

    Raises
    ------
    UnsupportedTransformError
        If it, or a part of it, is not among `ON_DEVICE`, or has a setting that nnU-Net doesn't use.
    """
    return list(_steps([transform]))


def _steps(transforms: Iterable[BasicTransform]) -> Iterator[BasicTransform]:
    for transform in transforms:
        if type(transform) is ComposeTransforms:
            yield from _steps(transform.transforms)
        elif type(transform) is RandomTransform:
            chosen = copy.copy(transform)
            chosen.transform = ComposeTransforms(steps_on_device(transform.transform))
            yield chosen
        else:
            yield DrawnOnCPU(_on_device(transform))


def _on_device(transform: BasicTransform) -> BasicTransform:
    kind = ON_DEVICE.get(type(transform))
    if kind is None:
        raise UnsupportedTransformError(type(transform).__name__)
    if isinstance(transform, SpatialTransform):
        unsupported = {
            "elastic deformation": transform.p_elastic_deform > 0,
            f"mode_seg {transform.mode_seg}": transform.mode_seg != "bilinear",
            f"seg_tiebreak {transform.seg_tiebreak}": transform.seg_tiebreak != "nearest",
        }
        for setting, is_so in unsupported.items():
            if is_so:
                raise UnsupportedTransformError(f"SpatialTransform with {setting}")
    result = copy.copy(transform)
    result.__class__ = kind  # the subclasses have the same settings and no state of their own
    return result
