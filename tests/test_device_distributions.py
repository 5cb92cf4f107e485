"""Augmentation on the device has the same distribution as nnU-Net's, and the comparison would see another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from scipy.stats import ks_2samp

from nnunet_transfer.training.device_augmentation import DeviceAugmentation
from tests.augmentation_cases import Case, seed_draws

#: two-sample Kolmogorov-Smirnov tests per comparison: 9 in 2D, 10 in 3D; the seeds are fixed
ALPHA = 0.001
SAMPLES, BATCH = 480, 8


def _asymmetric(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch of which flips, rotations, scaling and intensity changes all show in simple numbers."""
    axes = torch.meshgrid([torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    ramp = sum((i + 1) * axis for i, axis in enumerate(axes))
    waves = torch.stack([torch.sin(4 * axis) for axis in axes]).prod(0)
    image = torch.stack([ramp + waves, torch.exp(-4 * sum((axis - 0.25) ** 2 for axis in axes))])
    labels = sum((axis - 0.2 * (i + 1)) ** 2 for i, axis in enumerate(axes)) < 0.3
    return image.float(), labels[None].to(torch.int16)


def _numbers(image: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    foreground = (target[0] > 0).float()
    share = float(foreground.mean())
    numbers = {
        "mean": float(image.mean()),
        "SD": float(image[0].std()),
        "SD of the second channel": float(image[1].std()),
        "range": float(image[0].max() - image[0].min()),
        "gradient energy": float(sum(image.diff(dim=d).square().mean() for d in range(1, image.ndim))),
        "share of foreground": share,
        "brightness of foreground": float((image[0] * foreground).mean()) / max(share, 1e-9),
    }
    for axis in range(1, image.ndim):
        first, second = image[0].chunk(2, dim=axis - 1)
        numbers[f"half against half along axis {axis}"] = float(first.mean() - second.mean())
    return numbers


def _workers(case: Case, transform: BasicTransform, seed: int) -> list[dict[str, float]]:
    image, labels = _asymmetric(case.initial)
    seed_draws(seed)
    made = [transform(image=image.clone(), segmentation=labels.clone()) for _ in range(SAMPLES)]
    return [_numbers(sample["image"], sample["segmentation"][0]) for sample in made]


def _device(case: Case, transform: BasicTransform, seed: int) -> list[dict[str, float]]:
    image, labels = (torch.stack([t] * BATCH) for t in _asymmetric(case.initial))
    on_device = DeviceAugmentation(transform)
    seed_draws(seed)
    batches = [on_device(image.clone(), labels.clone()) for _ in range(SAMPLES // BATCH)]
    return [_numbers(i, t) for images, targets in batches for i, t in zip(images, targets[0], strict=True)]


def _differing(first: list[dict[str, float]], second: list[dict[str, float]]) -> dict[str, float]:
    """The numbers whose distributions differ, with p values."""
    found = {k: ks_2samp([n[k] for n in first], [n[k] for n in second]).pvalue for k in first[0]}
    return {k: p for k, p in found.items() if p < ALPHA}


DISTRIBUTIONS = {"2d": Case((20, 16)), "3d": Case((10, 12, 8))}


@pytest.fixture(scope="module", params=DISTRIBUTIONS)
def workers(request: pytest.FixtureRequest) -> tuple[Case, list[dict[str, float]]]:
    case = DISTRIBUTIONS[request.param]
    return case, _workers(case, case.stock(), seed=1)


@pytest.fixture(scope="module")
def device(workers: tuple[Case, list[dict[str, float]]]) -> list[dict[str, float]]:
    case, _ = workers
    return _device(case, case.stock(), seed=2)


def test_batches_are_distributed_like_the_workers(
    workers: tuple[Case, list[dict[str, float]]], device: list[dict[str, float]]
) -> None:
    _, expected = workers
    assert _differing(expected, device) == {}


def _without(kind: type[BasicTransform]) -> Callable[[ComposeTransforms], None]:
    def drop(pipeline: ComposeTransforms) -> None:
        pipeline.transforms = [t for t in pipeline.transforms if not isinstance(t, kind)]

    return drop


def _no_rotation(pipeline: ComposeTransforms) -> None:
    pipeline.transforms[0].p_rotation = pipeline.transforms[0].p_scaling = 0


def _intensities_twice_as_often(pipeline: ComposeTransforms) -> None:
    for transform in pipeline.transforms:
        if isinstance(transform, RandomTransform):
            transform.apply_probability *= 2


@pytest.mark.parametrize(
    ("spoil", "seen_in"),
    [
        (_without(MirrorTransform), "half against half along axis 1"),
        (_no_rotation, "share of foreground"),
        (_intensities_twice_as_often, "mean"),
    ],
)
def test_the_comparison_sees_another_augmentation(
    spoil: Callable[[ComposeTransforms], None], seen_in: str, workers: tuple[Case, list[dict[str, float]]]
) -> None:
    case, expected = workers
    pipeline = case.stock()
    spoil(pipeline)
    assert seen_in in _differing(expected, _device(case, pipeline, seed=3))


def test_samples_of_a_batch_are_augmented_each_in_its_own_way(device: list[dict[str, float]]) -> None:
    """Were they augmented alike, their distribution would still be right."""
    different = [len({n["mean"] for n in device[i : i + BATCH]}) for i in range(0, SAMPLES, BATCH)]
    # the mean stays as it is where a sample is but cut out and mirrored, about one in five
    assert sum(different) / len(different) > BATCH / 2
