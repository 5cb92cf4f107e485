"""nnU-Net's augmentation for whole batches on any device, by batchgeneratorsv2's own transforms.

Decisions and numbers are drawn on the CPU, sample by sample, by the transforms' own `get_parameters` on stand-ins
without content: they come from the same generators in the same order as in nnU-Net's workers, and no draw waits for
the device. What is then done to the voxels is done where these are, for all samples of a batch at once where many
small operations would cost more time than the work. Changes of intensity are batchgeneratorsv2's own code, except
where it makes tensors on the CPU; each class below says so. Checked against batchgeneratorsv2 0.3.6.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform, blur_dimension
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform

from nnunet_transfer.training.device_resampling import Resampling

#: one sample's parameters of one transform; None where it isn't applied
Drawn = dict[str, Any] | None


class UnsupportedTransformError(Exception):
    """A transform can't run on a device; the message names it."""


@dataclass
class Batch:
    """Images `(batch, channel, *spatial)` and segmentations, one tensor or one per size of the targets."""

    images: torch.Tensor
    segmentations: Any


class Step:
    """One transform for all samples of a batch.

    Parameters
    ----------
    transform : of batchgeneratorsv2
    chance : nnU-Net's wrapper that decides whether it is applied to a sample, if any
    """

    def __init__(self, transform: Any, chance: RandomTransform | None = None) -> None:
        self.transform = transform
        self._chance = chance

    def draw(self, stand_in: dict[str, torch.Tensor]) -> Drawn:
        """Draw one sample's parameters; `stand_in` has the sample's shapes and types, but no content."""
        if self._chance is not None and not self._chance.get_parameters()["apply_transform"]:
            return None
        return self.transform.get_parameters(**stand_in)

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Transform a batch in place, given each sample's parameters."""
        raise NotImplementedError


class EachImage(Step):
    """A change of intensities, sample by sample, because it applies to few samples of a batch."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Transform the chosen images."""
        for image, parameters in zip(batch.images, drawn, strict=True):
            if parameters is not None:
                changed = self.transform.apply({"image": image}, **parameters)["image"]
                if changed is not image:
                    image.copy_(changed)


class DeviceGaussianNoise(GaussianNoiseTransform):
    """Noise on the image's device, with the channels that the original draws."""

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return super()._apply_to_image(img, **params | {"apply_idx": params["apply_idx"].to(img.device)})


class DeviceGaussianBlur(GaussianBlurTransform):
    """Blur on the image's device.

    The original makes its kernels on the CPU and times convolution against Fourier transform, which says nothing on a
    device that computes asynchronously. Kernels of these widths are convolved.
    """

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        with img.device:
            return super()._apply_to_image(img, **params)

    def _benchmark_wrapper(self, img: torch.Tensor, sigma: float, dim_to_blur: int) -> torch.Tensor:
        return blur_dimension(img, sigma, dim_to_blur, force_use_fft=False)


class Spatial(Step):
    """Rotation, scaling and crop: the chosen samples are resampled together, the others are only cropped.

    The original makes the sampling grid on the CPU and resamples labels through NumPy and tensors on the CPU.
    """

    def __init__(self, transform: SpatialTransform, chance: RandomTransform | None = None) -> None:
        unsupported = {
            "elastic deformation": transform.p_elastic_deform > 0,
            "random_crop": transform.random_crop,
            f"mode_seg {transform.mode_seg}": transform.mode_seg != "bilinear",
            f"seg_tiebreak {transform.seg_tiebreak}": transform.seg_tiebreak != "nearest",
            f"padding_mode_image {transform.padding_mode_image}": transform.padding_mode_image != "zeros",
            f"border_mode_seg {transform.border_mode_seg}": transform.border_mode_seg not in ("zeros", "constant"),
        }
        for setting, is_so in unsupported.items():
            if is_so:
                raise UnsupportedTransformError(f"SpatialTransform with {setting}")
        super().__init__(transform, chance)
        # only the random draws are needed; a grid of the patch's centre keeps them cheap
        self._drawing = copy.copy(transform)
        self._drawing.patch_size = [1] * len(transform.patch_size)
        self._drawing._grid_cache = {}

    def draw(self, stand_in: dict[str, torch.Tensor]) -> Drawn:
        """Draw one sample's affine matrix; None if the sample is only cropped."""
        return {"affine": self._drawing.get_parameters(**stand_in)["affine"]}

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Cut or resample all samples to the patch."""
        images, segmentations = batch.images, batch.segmentations
        whole = {"grid": None, "center_location_in_pixels": [n / 2 for n in images.shape[2:]]}
        for name, tensor, cut in (
            ("images", images, self.transform._apply_to_image),
            ("segmentations", segmentations, self.transform._apply_to_segmentation),
        ):
            patches = cut(tensor.flatten(0, 1), **whole).unflatten(0, tensor.shape[:2])
            setattr(batch, name, patches.contiguous())
        affines = {i: d["affine"] for i, d in enumerate(drawn) if d is not None and d["affine"] is not None}
        if affines:
            resampling = Resampling(self.transform, list(affines.values()), images)
            chosen = torch.tensor(list(affines)).to(images.device)
            batch.images.index_copy_(0, chosen, resampling.images(images[chosen]))
            batch.segmentations.index_copy_(0, chosen, resampling.labels(segmentations[chosen]))


class Mirror(Step):
    """Mirroring, axis by axis."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Mirror the chosen samples."""
        for axis in self.transform.allowed_axes:
            chosen = torch.tensor([d is not None and axis in d["axes"] for d in drawn])
            chosen = chosen.reshape(-1, *[1] * (batch.images.ndim - 1)).to(batch.images.device)
            batch.images = torch.where(chosen, batch.images.flip(axis + 2), batch.images)
            batch.segmentations = torch.where(chosen, batch.segmentations.flip(axis + 2), batch.segmentations)


class SlicesToChannels(Step):
    """For rotation within slices: slices become channels."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Fold the first spatial axis into the channels."""
        batch.images, batch.segmentations = batch.images.flatten(1, 2), batch.segmentations.flatten(1, 2)


class ChannelsToSlices(Step):
    """Channels become slices again."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Unfold the channels."""
        for name, channels in (("images", "nchannels_img"), ("segmentations", "nchannels_seg")):
            parameters = drawn[0] or {}
            setattr(batch, name, getattr(batch, name).unflatten(1, (parameters[channels], -1)))


class MaskImage(Step):
    """Background set to one value, without the original's look-up of mask voxels, for which the CPU would wait."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Mask the channels that have a mask."""
        outside = batch.segmentations[:, self.transform.channel_idx_in_seg] < 0
        for channel in self.transform.apply_to_channels:
            batch.images[:, channel].masked_fill_(outside, self.transform.set_outside_to)


class RemoveLabel(Step):
    """One label replaced by another, in the whole batch at once."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Replace it."""
        self.transform(segmentation=batch.segmentations.view(1, -1))


class Regions(Step):
    """Labels converted to regions, with the regions' labels on the device."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Convert them."""
        convert = copy.copy(self.transform)
        convert.regions = [labels.to(batch.images.device) for labels in convert.regions]
        # the original takes the channel first and leaves the other axes alone
        regions = convert(segmentation=batch.segmentations.transpose(0, 1))["segmentation"]
        batch.segmentations = regions.transpose(0, 1).contiguous()


class Downsample(Step):
    """Targets for deep supervision, each size for the whole batch at once."""

    def apply(self, batch: Batch, drawn: Sequence[Drawn]) -> None:
        """Make all sizes."""
        folded = batch.segmentations.flatten(0, 1)
        sizes = self.transform(segmentation=folded)["segmentation"]
        batch.segmentations = [size.unflatten(0, batch.segmentations.shape[:2]) for size in sizes]


#: nnU-Net's transforms -> what runs on a device
STEPS: dict[type[BasicTransform], type[Step]] = {
    SpatialTransform: Spatial,
    MirrorTransform: Mirror,
    GaussianNoiseTransform: EachImage,
    GaussianBlurTransform: EachImage,
    MultiplicativeBrightnessTransform: EachImage,
    ContrastTransform: EachImage,
    GammaTransform: EachImage,
    SimulateLowResolutionTransform: EachImage,
    Convert3DTo2DTransform: SlicesToChannels,
    Convert2DTo3DTransform: ChannelsToSlices,
    MaskImageTransform: MaskImage,
    RemoveLabelTransform: RemoveLabel,
    ConvertSegmentationToRegionsTransform: Regions,
    DownsampleSegForDSTransform: Downsample,
}
#: what replaces the originals of changes of intensity
_REPLACED: dict[type[BasicTransform], type[BasicTransform]] = {
    GaussianNoiseTransform: DeviceGaussianNoise,
    GaussianBlurTransform: DeviceGaussianBlur,
}


def steps_on_device(transform: BasicTransform) -> list[Step]:
    """Return the steps of one of nnU-Net's transforms, for batches on any device.

    Raises
    ------
    UnsupportedTransformError
        If it, or a part of it, is not among `STEPS`, or has a setting that nnU-Net doesn't use.
    """
    return list(_steps([transform]))


def _steps(transforms: Iterable[BasicTransform]) -> Iterator[Step]:
    for transform in transforms:
        if type(transform) is ComposeTransforms:
            yield from _steps(transform.transforms)
        elif type(transform) is RandomTransform:
            yield _step(transform.transform, transform)
        else:
            yield _step(transform, None)


def _step(transform: BasicTransform, chance: RandomTransform | None) -> Step:
    kind = STEPS.get(type(transform))
    if kind is None or (chance is not None and kind is not EachImage):
        raise UnsupportedTransformError(type(transform).__name__)
    if type(transform) in _REPLACED:
        replaced = _REPLACED[type(transform)]
        transform = copy.copy(transform)
        transform.__class__ = replaced  # it has the same settings and no state of its own
    return kind(transform, chance)


def stand_ins(steps: Sequence[Step], image: torch.Size, segmentation: torch.Size) -> list[dict[str, Any]]:
    """Return a stand-in for each step's sample: tensors on the CPU that take no memory.

    Parameters
    ----------
    image, segmentation : shapes of one sample, `(channel, *spatial)`
    """
    shapes = {"image": tuple(image), "segmentation": tuple(segmentation)}
    dtypes = {"image": torch.float32, "segmentation": torch.int16}
    result: list[dict[str, Any]] = []
    slices: dict[str, int] = {}
    for step in steps:
        made = {key: torch.empty((), dtype=dtypes[key]).expand(shape) for key, shape in shapes.items()}
        result.append({**made, **(slices if isinstance(step, ChannelsToSlices) else {})})
        if isinstance(step, SlicesToChannels):
            slices = {"nchannels_img": shapes["image"][0], "nchannels_seg": shapes["segmentation"][0]}
            shapes = {key: (math.prod(shape[:2]), *shape[2:]) for key, shape in shapes.items()}
        elif isinstance(step, ChannelsToSlices):
            channels = dict(zip(shapes, slices.values(), strict=True))
            shapes = {key: (channels[key], shape[0] // channels[key], *shape[1:]) for key, shape in shapes.items()}
        elif isinstance(step, Spatial):
            shapes = {key: (shape[0], *step.transform.patch_size) for key, shape in shapes.items()}
    return result
