"""Output layers fitted in closed form: LDA and the loss against independent implementations, and what must not change."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn
from torch.profiler import ProfilerActivity, profile

from nnunet_transfer.finetuning import heads
from nnunet_transfer.finetuning.features import Labelling, Level, rooms
from nnunet_transfer.finetuning.fitted_start import number_of_batches
from nnunet_transfer.finetuning.heads import ABSENT, LossTerms, Rows, Voxels, discriminant, fit_head, loss_of
from nnunet_transfer.sources.outputs import match_classes, match_outputs, output_groups

CHANNELS = 6


def blobs(classes: int, count: int = 1500, *, seed: int = 0, spread: float = 1.0) -> Voxels:
    """Voxels of Gaussian classes with unequal frequencies, mixed by a random matrix, with unequal weights."""
    generator = torch.Generator().manual_seed(seed)
    frequencies = 1 / torch.arange(1, classes + 1).float() ** 2
    labels = torch.multinomial(frequencies, count, replacement=True, generator=generator)
    means = spread * torch.randn(classes, CHANNELS, generator=generator)
    features = (means[labels] + torch.randn(count, CHANNELS, generator=generator)) @ torch.randn(
        CHANNELS, CHANNELS, generator=generator
    ) + 3
    weights = torch.rand(count, generator=generator) + 0.5
    groups = torch.arange(count) % 4
    return Voxels.of(features, torch.nn.functional.one_hot(labels, classes), weights, groups)


def regions(count: int = 1500) -> Voxels:
    """Two overlapping regions, the second within the first."""
    voxels = blobs(3, count)
    inner = voxels.targets[:, 2]
    return replace(voxels, targets=torch.stack((voxels.targets[:, 1] + inner, inner), 1))


def loss_at(head, voxels: Voxels, terms: LossTerms) -> float:
    return float(loss_of(voxels.features @ head.weight.T + head.bias, voxels, terms))


def test_the_start_is_scikit_learns_discriminant_analysis() -> None:
    voxels = blobs(4)
    whole = voxels.weights.mul(4).round().long() + 1  # scikit-learn takes no weights: repeat instead
    weight, bias = discriminant(voxels.features.double(), voxels.targets, whole.float(), ridge=0.0)
    features = voxels.features.double().numpy()
    labels = voxels.targets.argmax(1).numpy()
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(
        np.repeat(features, whole, axis=0), np.repeat(labels, whole)
    )
    logits = features @ weight.numpy().T + bias.numpy()
    expected = reference.decision_function(features)
    # classes' logits are defined up to a common shift per voxel
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_the_fit_is_as_good_as_a_long_optimisation_from_random_heads(kind: str) -> None:
    voxels, terms = (blobs(4, spread=0.7), LossTerms()) if kind == "classes" else (regions(), LossTerms(regions=True))
    classes = voxels.targets.shape[1]
    scale = voxels.features.std(0)
    weight = nn.Parameter(torch.randn(classes, CHANNELS, generator=torch.Generator().manual_seed(1)) / scale / 10)
    bias = nn.Parameter(torch.zeros(classes))
    optimizer = torch.optim.Adam([weight, bias], 0.05)
    for step in range(1000):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 1000)
        optimizer.zero_grad()
        loss = loss_of(voxels.features @ weight.T + bias, voxels, terms)
        loss.backward()
        optimizer.step()
    best = float(loss.detach())
    head = fit_head(voxels, terms, iterations=200)
    assert loss_at(head, voxels, terms) == pytest.approx(head.loss, abs=1e-4)
    assert head.loss <= best + 2e-3


@settings(max_examples=8)
@given(classes=st.integers(2, 5), seed=st.integers(0, 99))
def test_the_refined_head_is_no_worse_and_does_not_depend_on_scale_or_order(classes: int, seed: int) -> None:
    voxels = blobs(classes, 600, seed=seed)
    head = fit_head(voxels, iterations=15)
    assert head.loss <= fit_head(voxels, iterations=0).loss + 1e-4
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()
    # within the ridge a head follows an affine map of the features
    scaled = replace(voxels, features=voxels.features * 20 - 7)
    other = fit_head(scaled, iterations=15)
    first = (voxels.features @ head.weight.T + head.bias).softmax(1)
    second = (scaled.features @ other.weight.T + other.bias).softmax(1)
    assert float((first - second).abs().mean()) < 0.02
    again = fit_head(voxels, iterations=15)
    assert torch.equal(again.weight, head.weight)


@pytest.mark.parametrize("terms", [LossTerms(), LossTerms(regions=True)], ids=["classes", "regions"])
def test_a_class_without_voxels_is_not_predicted_and_can_be_learned(terms: LossTerms) -> None:
    whole = blobs(4, seed=3)
    seen = replace(whole, targets=whole.targets.clone())
    seen.targets[:, 3] = 0
    if not terms.regions:
        seen.targets[whole.targets[:, 3] > 0, 0] = 1
    head = fit_head(seen, terms)
    assert head.absent == (3,)
    logits = whole.features @ head.weight.T + head.bias
    if terms.regions:
        assert torch.allclose(logits[:, 3].exp(), torch.tensor(ABSENT))
    else:
        assert (logits.argmax(1) != 3).all()
    weight, bias = nn.Parameter(head.weight.clone()), nn.Parameter(head.bias.clone())
    optimizer = torch.optim.AdamW([weight, bias], 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss_of(whole.features @ weight.T + bias, whole, terms).backward()
        optimizer.step()
    logits = (whole.features @ weight.T + bias).detach()
    found = logits[:, 3] > 0 if terms.regions else logits.argmax(1) == 3
    truth = whole.targets[:, 3] > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.3


def test_a_patch_of_one_class_alone_is_fitted_too() -> None:
    voxels = blobs(3)
    for present in (0, 2):
        only = replace(voxels, targets=torch.zeros_like(voxels.targets))
        only.targets[:, present] = 1
        head = fit_head(only)
        assert torch.isfinite(head.weight).all()
        assert ((only.features @ head.weight.T + head.bias).argmax(1) == present).all()


def test_voxels_outside_all_regions_are_fitted_too() -> None:
    voxels = regions()
    nothing = replace(voxels, targets=torch.zeros_like(voxels.targets))
    terms = LossTerms(regions=True, background=True)
    head = fit_head(nothing, terms)
    assert head.absent == (0, 1)
    logits = nothing.features @ head.weight.T + head.bias
    assert torch.allclose(logits.exp(), torch.tensor(ABSENT))
    assert head.loss == pytest.approx(loss_at(head, nothing, terms))
    known = Rows((1,), torch.ones(1, CHANNELS), torch.zeros(1))
    assert torch.equal(
        fit_head(nothing, terms, known=known).weight, torch.stack((torch.zeros(CHANNELS), known.weight[0]))
    )


@pytest.mark.parametrize("terms", [LossTerms(), LossTerms(regions=True)], ids=["classes", "regions"])
@pytest.mark.parametrize("offset", [0.0, 0.3, 1234.567])
def test_features_without_variance_are_fitted_too(offset: float, terms: LossTerms) -> None:
    voxels = blobs(3)
    constant = replace(voxels, features=torch.full_like(voxels.features, offset))
    by_class = replace(voxels, features=10 * voxels.targets @ torch.eye(3, CHANNELS) + offset)
    few = Voxels.of(by_class.features[:20], voxels.targets[:20])
    for own in (constant, by_class, few):
        head = fit_head(own, terms)
        assert torch.isfinite(head.weight).all()
        assert torch.isfinite(head.bias).all()
        assert head.loss == pytest.approx(loss_at(head, own, terms))
        assert head.loss <= heads.constant_loss(own, terms) + 1e-3
        if own is not constant and offset < 1:  # beside a large mean, rounding errors hide so little variance
            assert ((own.features @ head.weight.T + head.bias).argmax(1) == own.targets.argmax(1)).all()


@pytest.mark.parametrize("terms", [LossTerms(), LossTerms(regions=True)], ids=["classes", "regions"])
def test_known_rows_stay_and_the_others_fit_beside_them(terms: LossTerms) -> None:
    voxels = blobs(5, seed=2)
    best = fit_head(voxels, terms)
    known = Rows((0, 2, 4), best.weight[[0, 2, 4]], best.bias[[0, 2, 4]])
    head = fit_head(voxels, terms, known=known)
    assert torch.equal(head.weight[[0, 2, 4]], known.weight)
    assert torch.equal(head.bias[[0, 2, 4]], known.bias)
    # the best rows of the others are there to be found
    assert head.loss <= best.loss + 0.01
    everything = Rows(tuple(range(5)), best.weight, best.bias)
    assert torch.equal(fit_head(voxels, terms, known=everything).weight, best.weight)


def test_a_known_class_without_voxels_keeps_its_row() -> None:
    voxels = blobs(4, seed=3)
    known = Rows((0, 3), torch.randn(2, CHANNELS), torch.tensor([1.0, -2.0]))
    voxels.targets[voxels.targets[:, 3] > 0] = torch.tensor([1.0, 0, 0, 0])
    head = fit_head(voxels, known=known)
    assert torch.equal(head.weight[3], known.weight[1])
    assert head.absent == (3,)


def test_a_background_is_taken_over_only_if_it_holds_no_more_than_the_sources() -> None:
    source = [["background", "tumour"], ["background", "grey", "white", "Lesion"]]
    for target, expected in (
        (["background", "lesion"], {1: 5}),
        (["background", "lesion", "white", "grey"], {0: 2, 1: 5, 2: 4, 3: 3}),
        (["background", "white", "grey", "lesion", "new"], {0: 2, 1: 4, 2: 3, 3: 5}),
    ):
        match = match_classes(source, target)
        assert match is not None
        assert dict(match.indices) == expected
    regions_alone = match_classes([["whole", "core"]], ["core"])
    assert regions_alone is not None
    assert dict(regions_alone.indices) == {0: 1}
    assert match_classes(source, ["background", "stroke"]) is None


def test_lesions_of_a_source_of_tissues_and_lesions_are_found_without_its_background() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.multinomial(torch.tensor([0.5, 0.2, 0.2, 0.1]), 4000, replacement=True, generator=generator)
    means = 1.2 * torch.randn(4, CHANNELS, generator=generator)
    features = torch.relu(means[labels] + torch.randn(4000, CHANNELS, generator=generator))
    groups = torch.arange(4000) % 4
    source = fit_head(Voxels.of(features, nn.functional.one_hot(labels, 4), groups=groups))
    names, here = ["background", "grey", "white", "lesion"], ["background", "lesion"]
    match = match_classes([names], here)
    assert match is not None
    rows = list(match.indices.values())
    known = Rows(tuple(match.indices), source.weight[rows], source.bias[rows])
    voxels = Voxels.of(features, nn.functional.one_hot((labels == 3).long(), 2), groups=groups)
    head = fit_head(voxels, known=known)
    assert torch.equal(head.weight[1], source.weight[3])
    assert head.loss <= fit_head(voxels).loss + 0.01


@pytest.mark.parametrize("classes", [2, 17, 120])
@pytest.mark.parametrize("patches", [64, 400])
def test_a_fit_at_full_scale_stays_below_half_a_gigabyte(classes: int, patches: int) -> None:
    channels = [320, 320, 256, 128, 64, 32]
    kept = rooms(channels, classes, patches)
    features = sum(4 * n * c for n, c in zip(kept, channels, strict=True))
    # one level at a time: logits, probabilities, targets and their gradients, whitened features, sums over groups
    work = max(4 * n * (10 * classes + 3 * c + patches) for n, c in zip(kept, channels, strict=True))
    assert features + work <= 512 * 2**20
    assert min(kept) > 15_000


@pytest.mark.parametrize("classes", [2, 17, 120])
@pytest.mark.parametrize("batch_size", [2, 12, 107])
@pytest.mark.parametrize("channels", [[512, 512, 256, 128, 64, 32], [1024, 512, 256, 64]], ids=["plain", "resnet50"])
def test_a_voxel_of_each_class_of_each_patch_fits_into_memory(
    channels: list[int], batch_size: int, classes: int
) -> None:
    patches = batch_size * number_of_batches(batch_size, channels, classes)
    assert patches >= batch_size
    # a patch keeps its share of the room, but one voxel of each of its classes at least
    kept = [patches * max(n // patches, classes) for n in rooms(channels, classes, patches)]
    features = sum(4 * n * c for n, c in zip(kept, channels, strict=True))
    work = max(4 * n * (10 * classes + 3 * c + patches) for n, c in zip(kept, channels, strict=True))
    assert features + work <= 512 * 2**20


def test_few_classes_or_small_batches_have_as_many_batches_as_ever() -> None:
    assert [number_of_batches(size, [512, 256, 128, 64, 32], 4) for size in (1, 2, 8, 49)] == [50, 32, 16, 16]


def _most_bytes(work: Callable[[], object]) -> int:
    """Return how much memory tensors on the CPU take at most while `work` runs, temporary ones within operations included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events()
    taken = sorted(((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"), key=lambda event: event[0])
    return max(itertools.accumulate(size for _, size in taken))


def test_bytes_are_counted() -> None:
    assert 3 * 2**20 <= _most_bytes(lambda: [torch.zeros(2**18) + 1 for _ in range(2)] and None) < 3.1 * 2**20


@pytest.mark.parametrize(
    ("channels", "classes", "patches"),
    [
        ([320, 320, 256, 128, 64, 32], 17, 64),
        pytest.param([1024, 512, 256, 64], 2, 64, marks=pytest.mark.slow),
        ([64, 32], 2, 1700),
    ],
    ids=["plain", "resnet50", "many patches"],
)
def test_the_fit_of_the_widest_layer_takes_less_than_half_a_gigabyte(
    channels: list[int], classes: int, patches: int
) -> None:
    labelling = Labelling(classes)
    generator = torch.Generator().manual_seed(0)

    def level_of(width: int, room: int) -> Level:
        own = room // patches
        features = [torch.rand(own, width, generator=generator) for _ in range(patches)]
        targets = [(torch.arange(own) % classes).to(torch.int16) for _ in range(patches)]
        weights = [torch.ones(own) for _ in range(patches)]
        return Level(features, targets, weights, list(range(patches)), list(range(patches)))

    def work() -> None:
        levels = [level_of(*sizes) for sizes in zip(channels, rooms(channels, classes, patches), strict=True)]
        fit_head(levels[0].voxels(labelling), iterations=1)

    most = _most_bytes(work)
    assert 100 * 2**20 < most <= 512 * 2**20, f"{most / 2**20:.0f} MiB"


@pytest.mark.parametrize("terms", [LossTerms(), LossTerms(regions=True)], ids=["classes", "regions"])
def test_wide_features_are_fitted_in_parts_as_they_would_be_as_a_whole(
    terms: LossTerms, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxels = regions() if terms.regions else blobs(4)
    whole = fit_head(voxels, terms, iterations=0)
    monkeypatch.setattr(heads, "WHOLE", 0)
    for part in (1, 70 * CHANNELS, 1500 * CHANNELS):
        monkeypatch.setattr(heads, "PART", part)
        head = fit_head(voxels, terms, iterations=0)
        torch.testing.assert_close(head.weight, whole.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(head.bias, whole.bias, rtol=1e-4, atol=1e-5)


def test_outputs_are_matched_by_name_within_one_group_of_one_kind() -> None:
    target = ["background", "Left-Thalamus", "CSF", "lesion"]
    match = match_outputs([["background", "csf"], ["background", "left thalamus", "x", "CSF"]], target)
    assert match is not None
    assert dict(match.indices) == {0: 2, 1: 3, 2: 5}
    assert match.names == ("Left-Thalamus", "CSF")
    assert match_outputs([["background", "tumour"]], target) is None
    assert match_outputs([["CSF", "lesion"]], target) is None
    signs = match_outputs([["background", "ER+", "ER-"]], ["background", "er-", "er+"])
    assert signs is not None
    assert dict(signs.indices) == {0: 0, 1: 2, 2: 1}
    json = {"labels": {"background": 0, "b": 2, "a": 1, "ignore": 3}}
    assert output_groups(json) == [["background", "a", "b"]]
    assert output_groups({"labels": {"background": 0, "whole": [1, 2], "core": 2}}) == [["whole", "core"]]
    pooled = {"labels": {}, "label_sets": {"one": {"a": 1}, "two": {"b": 2, "c": 3}}}
    assert output_groups(pooled) == [["background", "a"], ["background", "b", "c"]]
