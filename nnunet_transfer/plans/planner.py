"""nnU-Net's experiment planner with a fixed architecture. Checked against nnunetv2 2.8.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunet_transfer._nnunet import files_listed_in_threads
from nnunet_transfer.channels import channel_names
from nnunet_transfer.errors import PlansError
from nnunet_transfer.plans.architectures import Architecture, check_patch_size, divisor
from nnunet_transfer.plans.profiles import Memory


class FixedArchitecturePlanner(ResEncUNetPlanner):
    """Plan a data set for a given architecture.

    Spacing, normalisation, resampling and transposition are nnU-Net's. Its search for the largest patch that fits the
    memory budget runs with the given network instead of its own; the patch is then made divisible by the strides.

    Parameters
    ----------
    architectures : number of axes -> architecture
    memory : nnU-Net's scale for patch and batch size
    patch_sizes : number of axes -> patch size in voxels, replaces nnU-Net's choice
    preprocessor : class name of nnU-Net's preprocessor
    batch_size : replaces nnU-Net's choice
    spacing : spacing of the source in mm, slowest axis first
    gpu_memory : GB that patch and batch size are fitted to; default: that of `memory`
    target_spacing : mm per axis of the data set; replaces the choices of nnU-Net and the source
    """

    def __init__(
        self,
        dataset: str,
        plans_name: str,
        architectures: Mapping[int, Architecture],
        memory: Memory,
        *,
        patch_sizes: Mapping[int, Sequence[int]],
        preprocessor: str,
        batch_size: int | None = None,
        spacing: Sequence[float] | None = None,
        gpu_memory: float | None = None,
        target_spacing: Sequence[float] | None = None,
    ) -> None:
        with files_listed_in_threads():
            super().__init__(
                dataset,
                preprocessor_name=preprocessor,
                plans_name=plans_name,
                overwrite_target_spacing=[float(v) for v in target_spacing] if target_spacing else None,
            )
        self.UNet_reference_val_3d = memory.reference_3d
        self.UNet_reference_val_2d = memory.reference_2d
        self.UNet_reference_val_corresp_GB = memory.gigabytes
        self.UNet_vram_target_GB = gpu_memory or memory.gigabytes
        self.max_dataset_covered = memory.share_of_dataset
        self.architectures = architectures
        self.patch_sizes = patch_sizes
        self.batch_size = batch_size
        self.source_spacing = spacing
        self._networks: dict[int, torch.nn.Module] = {}

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """Return nnU-Net's choice, or the source's spacing with its slowest axis aligned to that of the data set."""
        own = super().determine_fullres_target_spacing()
        if self.source_spacing is None or self.overwrite_target_spacing is not None:
            return own
        slowest = int(np.argmax(own))
        order = [slowest, *(axis for axis in range(3) if axis != slowest)]
        spacing = np.empty(3)
        spacing[order] = self.source_spacing
        return spacing

    def static_estimate_VRAM_usage(  # noqa: N802 - nnU-Net's name; it is called on `self`
        self, patch_size: Sequence[int], input_channels: int, output_channels: int, *_: Any
    ) -> int:
        """Return the size of all feature maps of the fixed network instead of the network that nnU-Net would build."""
        dimensions = len(patch_size)
        if dimensions not in self._networks:
            architecture = self.architectures[dimensions]
            try:
                # only the structure is needed, without memory for the weights
                with torch.device("meta"):
                    self._networks[dimensions] = get_network_from_plans(
                        architecture["network_class_name"],
                        architecture["arch_kwargs"],
                        architecture["_kw_requires_import"],
                        input_channels,
                        output_channels,
                        allow_init=False,
                    )
            except Exception as error:
                # settings of a source's card; networks report inconsistent settings with many error types
                raise PlansError(
                    f"the {dimensions}D architecture can't be built ({type(error).__name__}: {error}); add the source again"
                ) from error
        network: Any = self._networks[dimensions]
        try:
            return network.compute_conv_feature_map_size(patch_size)
        except AssertionError:
            # A patch smaller than the product of the strides leaves nothing for the deepest stages, where residual blocks assert
            # that a stride changes the size. Per voxel of the padded patch, the size still falls with the patch, which nnU-Net
            # shrinks until it fits.
            steps = divisor(self.architectures[dimensions])
            padded = [max(size, step) for size, step in zip(patch_size, steps, strict=True)]
            share = np.prod(patch_size, dtype=np.float64) / np.prod(padded, dtype=np.float64)
            return share * network.compute_conv_feature_map_size(padded)

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[float],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        """Return nnU-Net's configuration with the fixed architecture and a valid patch size."""
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        dimensions = len(spacing)
        architecture = self.architectures[dimensions]
        if dimensions in self.patch_sizes:
            patch = list(self.patch_sizes[dimensions])
            check_patch_size(patch, architecture)
        else:
            patch = self._divisible_patch(plan["patch_size"], median_shape[:dimensions])
        plan["architecture"] = architecture
        plan["patch_size"] = patch
        plan["batch_size"] = self.batch_size or self._fitting_batch_size(patch, approximate_n_voxels_dataset)
        return plan

    def _budget(self, dimensions: int) -> float:
        reference = self.UNet_reference_val_2d if dimensions == 2 else self.UNet_reference_val_3d
        return reference * self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB

    def _size(self, patch: Sequence[int]) -> int:
        return self.static_estimate_VRAM_usage(patch, self._input_channels, len(self.dataset_json["labels"]))

    @property
    def _input_channels(self) -> int:
        return len(channel_names(self.dataset_json))

    def _divisible_patch(self, patch: Sequence[int], median_shape: Sequence[float]) -> list[int]:
        """Pad the patch to a multiple of the strides, then shrink it, as nnU-Net does, until it fits the budget."""
        steps = divisor(self.architectures[len(patch)])
        result = [int(-(-size // step) * step) for size, step in zip(patch, steps, strict=True)]
        while self._size(result) > self._budget(len(result)):
            axes = [axis for axis, step in enumerate(steps) if result[axis] > step]
            if not axes:
                break
            largest = max(axes, key=lambda axis: result[axis] / median_shape[axis])
            result[largest] -= steps[largest]
        if tuple(result) == steps:
            # a single voxel in the deepest stage can't be normalised
            longest = max(range(len(steps)), key=lambda axis: median_shape[axis] / steps[axis])
            result[longest] *= 2
        return result

    def _fitting_batch_size(self, patch: Sequence[int], voxels: float) -> int:
        """Return nnU-Net's batch size: what the budget allows, at most a share of the data set, at least 2."""
        dimensions = len(patch)
        reference = self.UNet_reference_val_corresp_bs_2d if dimensions == 2 else self.UNet_reference_val_corresp_bs_3d
        fitting = round(self._budget(dimensions) / self._size(patch) * reference)
        of_dataset = round(voxels * self.max_dataset_covered / float(np.prod(patch, dtype=np.float64)))
        return max(min(fitting, of_dataset), self.UNet_min_batch_size)

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Make the plans serialisable; the caller writes them atomically."""
        recursive_fix_for_json_export(plans)
