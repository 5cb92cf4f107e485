"""Augmentation on the device makes of each sample what nnU-Net's workers make of it, and stays on the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.median_filter import MedianFilterTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.training import device_augmentation, device_resampling, device_transforms
from nnunet_transfer.training.device_augmentation import AugmentedBatches, DeviceAugmentation, augments_on_device
from tests.augmentation_cases import ANGLES, CASES, Case, seed_draws
from tests.pretend_device import DEVICE, Elsewhere, Watched, values_of


@pytest.fixture
def noise_without_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the noise's SD: voxels' noise is drawn where the voxels are, all else before anything is done."""

    def add_sd(self: Any, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return img.add_(params["sigmas"])

    monkeypatch.setattr(GaussianNoiseTransform, "_apply_to_image", add_sd)


@pytest.mark.usefixtures("noise_without_draws")
@pytest.mark.parametrize("name", CASES)
def test_samples_become_what_nnunets_workers_make_of_them(name: str) -> None:
    case = CASES[name]
    stock = case.stock()
    on_device = DeviceAugmentation(stock)
    for seed in range(0, 60, 5):
        samples = [case.sample(seed + i) for i in range(5)]
        images, labels = (torch.stack(list(tensors)) for tensors in zip(*samples, strict=True))
        seed_draws(seed)
        expected = [stock(image=i.clone(), segmentation=s.clone()) for i, s in samples]
        seed_draws(seed)
        images, targets = on_device(images, labels)
        for i, sample in enumerate(expected):
            # the workers blur by Fourier transform where that was faster
            torch.testing.assert_close(images[i], sample["image"], rtol=0, atol=1e-5)
            for target, size in zip(targets, sample["segmentation"], strict=True):
                assert target.dtype == size.dtype
                assert torch.equal(target[i], size)


def test_noise_is_that_of_the_workers() -> None:
    noise = GaussianNoiseTransform((0, 0.1), 1, True)
    on_device = DeviceAugmentation(ComposeTransforms([noise]))
    images = torch.zeros(1, 2, 16, 16)
    seed_draws(1)
    expected = noise(image=images[0].clone())["image"]
    seed_draws(1)
    made, _ = on_device(images.clone(), torch.zeros(1, 1, 16, 16, dtype=torch.int16))
    assert torch.equal(made[0], expected)
    assert expected.std() > 0


def test_the_patches_border_is_padded_as_in_the_workers() -> None:
    """Patches that are hardly enlarged are sampled beyond their border all the time."""
    spatial = SpatialTransform(
        (16, 16), 0, False, p_rotation=0.7, rotation=ANGLES[2], p_scaling=0.7, scaling=(0.7, 1.4), **_NNUNETS_BORDER
    )
    on_device = DeviceAugmentation(ComposeTransforms([spatial]))
    rng = np.random.default_rng(0)
    beyond = 0
    for seed in range(40):
        images = torch.from_numpy(rng.normal(size=(3, 1, 18, 17)).astype(np.float32))
        labels = torch.from_numpy(rng.integers(0, 2 + seed % 3, size=(3, 1, 18, 17)).astype(np.int16))
        seed_draws(seed)
        expected = [spatial(image=i.clone(), segmentation=s.clone()) for i, s in zip(images, labels, strict=True)]
        seed_draws(seed)
        made, target = on_device(images, labels)
        assert torch.equal(made, torch.stack([sample["image"] for sample in expected]))
        assert torch.equal(target, torch.stack([sample["segmentation"] for sample in expected]))
        beyond += int((target == -1).any())
    assert beyond > 20


_NNUNETS_BORDER: dict[str, Any] = {
    "p_synchronize_scaling_across_axes": 1,
    "border_mode_seg": "constant",
    "padding_value_seg": -1,
}


# where it runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_no_patch_is_on_the_cpu_between_arrival_and_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    stock = case.stock()
    for transform in stock.transforms:  # all of them, in few samples
        if isinstance(transform, RandomTransform):
            transform.apply_probability = 0.7
        elif isinstance(transform, SpatialTransform):
            transform.p_rotation = transform.p_scaling = 0.5
    here, there = DeviceAugmentation(stock), DeviceAugmentation(stock)
    waits = []

    def wait_for_labels(segmentation: torch.Tensor) -> list[int]:
        waits.append(segmentation)
        return np.unique(values_of(segmentation)).tolist()

    monkeypatch.setattr(device_resampling, "present_labels", wait_for_labels)
    for seed in range(12):
        image, labels = (torch.stack([t, t.flip(1)]) for t in case.sample(seed))
        seed_draws(seed)
        expected, sizes = here(image.clone(), labels.clone())
        seed_draws(seed)
        # a tensor on the CPU may be as large as a kernel or a grid's corners, not as the smallest of these patches
        with Watched(most=64) as watch:
            images, targets = there(Elsewhere(image), Elsewhere(labels))
        assert images.device == DEVICE
        torch.testing.assert_close(images.content, expected, rtol=0, atol=1e-5)
        for target, size in zip(targets, sizes, strict=True):
            assert torch.equal(target.content, size)
        assert not watch.waits, "only the labels that are present may be waited for"
    assert waits


def test_batches_are_moved_once_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["3d"]
    monkeypatch.setattr(device_resampling, "present_labels", lambda t: np.unique(values_of(t)).tolist())
    seed_draws(0)
    cut = list(itertools.islice(_loader(case), 4))
    batches = AugmentedBatches(iter(cut), DeviceAugmentation(case.stock()), DEVICE)
    with Watched(most=64):
        for batch in batches:
            assert batch["data"].device == DEVICE
            assert {target.device for target in batch["target"]} == {DEVICE}


@pytest.mark.parametrize(
    "unfit", [lambda t: t + torch.zeros(t.shape), lambda t: t.cpu(), lambda t: torch.ones(t.shape) * 2]
)
def test_the_watch_sees_a_patch_on_the_cpu(unfit: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(AssertionError, match=r"CPU|mixes"), Watched(most=64):
        unfit(Elsewhere(torch.zeros(20, 20)))


@pytest.mark.parametrize("name", ["2d", "3d", "regions"])
def test_nnunets_transforms_as_they_are_would_need_the_cpu(name: str) -> None:
    """The reason for the subclasses: with all transforms left as they are the same watch complains."""
    case = CASES[name]
    image, labels = case.sample(0)
    spoilt = 0
    for seed in range(12):
        seed_draws(seed)
        try:
            with Watched(most=64):
                case.stock()(image=Elsewhere(image.clone()), segmentation=Elsewhere(labels.clone()))
        except (AssertionError, RuntimeError, TypeError, NotImplementedError):
            spoilt += 1
    assert spoilt > 0


# working ahead ------------------------------------------------------------------------------------------------------


def _loader(case: Case) -> Iterator[dict[str, Any]]:
    while True:
        samples = [case.sample(int(np.random.randint(1000))) for _ in range(2)]
        data, target = (torch.stack(list(tensors)) for tensors in zip(*samples, strict=True))
        yield {"data": data, "target": target, "keys": ["a", "b"]}


def _batches(ahead: bool, number: int) -> list[dict[str, Any]]:
    case = CASES["2d"]
    batches = AugmentedBatches(_loader(case), DeviceAugmentation(case.stock()), torch.device("cpu"), ahead=ahead)
    seed_draws(5)
    result = [next(batches) for _ in range(number)]
    seed_draws(6)
    batches.forget()
    result += [next(batches) for _ in range(number)]
    batches.close()
    return result


@pytest.mark.usefixtures("noise_without_draws")
def test_batches_prepared_ahead_are_the_same_and_follow_the_seed_of_their_epoch() -> None:
    for one, other in zip(_batches(True, 6), _batches(False, 6), strict=True):
        assert one["keys"] == other["keys"]
        assert torch.equal(one["data"], other["data"])
        assert all(torch.equal(a, b) for a, b in zip(one["target"], other["target"], strict=True))


def test_on_cuda_a_batch_is_waited_for_before_the_next_ones_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of calls only: a batch is ready for the network's stream, and its memory is kept for it."""
    case = CASES["2d"]
    events: list[str] = []
    cut = AugmentedBatches._cut
    stream = SimpleNamespace(wait_stream=lambda other: events.append(f"wait for {other}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: events.append("keep"))
    monkeypatch.setattr(AugmentedBatches, "_cut", lambda self: events.append("cut") or cut(self))
    batches = AugmentedBatches(_loader(case), DeviceAugmentation(case.stock()), torch.device("cpu"), ahead=True)
    batches._stream = "its stream"
    for _ in range(2):
        next(batches)
    batches.close()
    ready = ["wait for its stream", *["keep"] * 4]  # the image and three sizes of the target
    assert events == ["cut", *ready, "cut", *ready, "cut"]


def test_an_error_in_preparing_ahead_reaches_the_training() -> None:
    case = CASES["2d"]
    wrong = ({"data": torch.zeros(2, 2, *case.initial), "target": torch.zeros(3, 1, *case.initial)} for _ in range(3))
    batches = AugmentedBatches(wrong, DeviceAugmentation(case.stock()), torch.device("cpu"), ahead=True)
    with pytest.raises((RuntimeError, IndexError)):
        next(batches)
    batches.close()


# what is not supported ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "named"),
    [
        (MedianFilterTransform((3, 5)), "MedianFilterTransform"),
        (RandomTransform(MedianFilterTransform((3, 5)), 0.1), "MedianFilterTransform"),
        (SpatialTransform((8, 8), 0, False, p_elastic_deform=0.1), "elastic"),
        (SpatialTransform((8, 8), 0, True), "random_crop"),
        (SpatialTransform((8, 8), 0, False, mode_seg="nearest"), "nearest"),
        (SpatialTransform((8, 8), 0, False, padding_mode_image="border"), "border"),
        (SpatialTransform((8, 8), 0, False, border_mode_seg="reflection"), "reflection"),
        (RandomTransform(MirrorTransform((0,)), 0.5), "MirrorTransform"),
        (SpatialTransform((8, 8), 0, False, seg_tiebreak="lowest"), "lowest"),
        (type("Mine", (MirrorTransform,), {})((0,)), "Mine"),
    ],
)
def test_what_can_not_run_on_a_device_is_named(transform: BasicTransform, named: str) -> None:
    with pytest.raises(device_transforms.UnsupportedTransformError, match=named):
        DeviceAugmentation(ComposeTransforms([transform]))


def test_nnunets_own_transforms_stay_as_they_are() -> None:
    stock = CASES["2d"].stock()
    before = repr(stock)
    DeviceAugmentation(stock)
    assert repr(stock) == before
    assert type(stock.transforms[0]) is SpatialTransform


# the setting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "device", "expected"),
    [
        (None, "cuda", False),
        ("", "cuda", False),
        ("0", "cuda", False),
        ("False", "cuda", False),
        ("1", "cuda", True),
        ("true", "cuda:1", True),
        ("1", "mps", True),
        ("force", "cuda", True),
        ("force", "cpu", True),
    ],
)
def test_the_setting(value: str | None, device: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv(device_augmentation.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(device_augmentation.VARIABLE, value)
    said: list[str] = []
    assert augments_on_device(torch.device(device), said.append) is expected
    assert said == []


def test_on_a_cpu_the_setting_is_ignored_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device_augmentation.VARIABLE, "1")
    said: list[str] = []
    assert augments_on_device(torch.device("cpu"), said.append) is False
    (line,) = said
    assert device_augmentation.VARIABLE in line
    assert "\n" not in line


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device_augmentation.VARIABLE, "gpu")
    with pytest.raises(SettingsError, match="set it to 1, 0"):
        augments_on_device(torch.device("cuda"))
