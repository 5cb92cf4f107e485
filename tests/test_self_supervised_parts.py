"""Self-supervision's building blocks: distortions, views, the contrastive loss and its scores."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transfer.pretraining.networks import contrastive_network
from nnunet_transfer.pretraining.self_supervised import distortions, views
from nnunet_transfer.pretraining.self_supervised.contrastive import SimCLRTask
from nnunet_transfer.pretraining.self_supervised.contrastive_scores import (
    alignments,
    case_scores,
    contrastive_scores,
    partners,
    retrieved,
    uniformity,
)
from nnunet_transfer.pretraining.self_supervised.losses import NTXentLoss
from tests.unets import residual

CPU = torch.device("cpu")
SHAPES = st.lists(st.integers(3, 40), min_size=2, max_size=3)
SEEDS = st.integers(0, 10_000)
UNIT = st.floats(0, 1)
POINTS = st.tuples(UNIT, UNIT)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# distortions


@given(first=POINTS, second=POINTS, values=st.lists(UNIT, min_size=2, max_size=20))
def test_curves_never_decrease_and_map_the_unit_interval_onto_itself(
    first: tuple[float, float], second: tuple[float, float], values: list[float]
) -> None:
    inputs = torch.tensor([0.0, *sorted(values), 1.0])
    mapped = distortions.bezier_map(inputs, first, second)
    assert mapped[0] == pytest.approx(0, abs=1e-6)
    assert mapped[-1] == pytest.approx(1)
    assert (mapped.diff() >= -1e-6).all()


@given(first=POINTS, second=POINTS, t=st.floats(0.01, 0.99))
def test_curves_are_bezier_curves(first: tuple[float, float], second: tuple[float, float], t: float) -> None:
    """De Casteljau's construction as an oracle."""
    points = np.array([(0, 0), first, second, (1, 1)], dtype=float)
    while len(points) > 1:
        points = (1 - t) * points[:-1] + t * points[1:]
    x, y = points[0]
    # a curve may be all but vertical somewhere: its value must lie between those a little to the left and right
    low, high = distortions.bezier_map(torch.tensor([x - 2e-3, x + 2e-3]).clamp(0, 1).double(), first, second)
    assert low - 2e-3 <= y <= high + 2e-3


def test_the_diagonal_maps_every_intensity_to_itself() -> None:
    values = torch.rand(3, 5, generator=_generator())
    assert torch.allclose(distortions.bezier_map(values, (1 / 3, 1 / 3), (2 / 3, 2 / 3)), values, atol=1e-5)


@given(seed=SEEDS)
def test_changed_intensities_keep_range_and_order_or_turn_the_order_round(seed: int) -> None:
    image = torch.randn(2, 9, 11, generator=_generator(1)) * 3 + 5
    changed = distortions.change_intensities(image, _generator(seed))
    assert torch.allclose(torch.stack(changed.aminmax()), torch.stack(image.aminmax()), atol=1e-4)
    sorted_ = changed.flatten()[image.flatten().argsort()]
    assert (sorted_.diff() >= -1e-4).all() or (sorted_.diff() <= 1e-4).all()


def test_half_of_the_curves_decrease() -> None:
    generator = _generator()
    ramp = torch.linspace(-1, 1, 16).reshape(1, 4, 4)
    falling = sum(
        bool(changed[0, 0, 0] > changed[0, 3, 3])
        for changed in (distortions.change_intensities(ramp, generator) for _ in range(400))
    )
    assert abs(falling - 200) < 50  # five standard deviations


@given(shape=SHAPES, seed=SEEDS)
def test_windows_are_boxes_of_at_most_a_tenth_of_the_patch(shape: list[int], seed: int) -> None:
    windows = distortions.random_windows(shape, CPU, _generator(seed))
    assert windows.shape == tuple(shape)
    for label in windows.unique()[:20]:
        places = (windows == label).nonzero()
        edges = places.amax(0) - places.amin(0) + 1
        assert math.prod(edges.tolist()) == len(places)
        assert all(edge <= max(1, size // 10) for edge, size in zip(edges.tolist(), shape, strict=True))


@given(shape=SHAPES, channels=st.integers(1, 3), seed=SEEDS)
def test_shuffling_keeps_each_windows_values_and_the_channels_together(
    shape: list[int], channels: int, seed: int
) -> None:
    generator = _generator(seed)
    numbers = torch.arange(float(math.prod(shape))).reshape(1, *shape)
    image = torch.cat([numbers + 1e6 * channel for channel in range(channels)])
    windows = distortions.random_windows(shape, CPU, generator)
    shuffled = distortions.shuffle_within(image, windows, generator)
    # every value is still in its window, and a permutation has them all
    origin = shuffled[0].long()
    assert torch.equal(windows.flatten()[origin.flatten()].reshape(windows.shape), windows)
    assert torch.equal(origin.flatten().sort().values, numbers[0].long().flatten())
    for channel in range(channels):
        assert torch.equal(shuffled[channel], shuffled[0] + 1e6 * channel)


def test_shuffling_reaches_every_order_equally_often() -> None:
    image = torch.arange(3.0).reshape(1, 3)
    one_window = torch.zeros(3, dtype=torch.int64)
    generator = _generator()
    orders = [tuple(distortions.shuffle_within(image, one_window, generator)[0].tolist()) for _ in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(count - 200) for count in counts) < 65  # five standard deviations


@given(shape=SHAPES, seed=SEEDS)
def test_inpainting_changes_boxes_only_and_outpainting_the_outside_only(shape: list[int], seed: int) -> None:
    image = torch.randn(2, *shape, generator=_generator(seed))
    low, high = image.aminmax()
    for draw in (distortions.inside_mask, distortions.outside_mask):
        mask = draw(shape, CPU, _generator(seed))
        painted = distortions.paint(image, mask, _generator(seed))
        assert torch.equal(painted[:, ~mask], image[:, ~mask])
        assert (painted != image)[:, mask].float().mean() > 0.9 or not mask.any()
        assert low <= painted.min() <= painted.max() <= high


@given(shape=st.lists(st.integers(12, 70), min_size=2, max_size=3), seed=SEEDS)
def test_boxes_have_the_sizes_of_the_authors_code(shape: list[int], seed: int) -> None:
    """As there: inside, n // 6 to n // 3; outside, n less 3 n // 7 to 4 n // 7; 3 voxels from the border."""
    generator = _generator(seed)
    inside = distortions.random_boxes(shape, [(n // 6, n // 3) for n in shape], 1, CPU, generator, at_least_one=True)
    spared = ~distortions.outside_mask(shape, CPU, generator)
    for axis, size in enumerate(shape):
        others = [i for i in range(len(shape)) if i != axis]
        touched = inside.amax(others) if others else inside
        assert size // 6 <= touched.sum() <= size // 3
        touched = spared.amax(others)
        assert size - 4 * size // 7 - 1 <= touched.sum() <= size - 6 or size < 15
        if size >= 15:
            assert not touched[:3].any()
            assert not touched[-3:].any()


def test_distortions_have_the_papers_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, int] = dict.fromkeys(["random_windows", "change_intensities", "inside_mask", "outside_mask"], 0)

    def counted(name: str):
        original = getattr(distortions, name)

        def count(*args):
            calls[name] += 1
            return original(*args)

        return count

    for name in calls:
        monkeypatch.setattr(distortions, name, counted(name))
    distortions.distort(torch.randn(2000, 1, 8, 8, generator=_generator()), _generator())
    expected = {"random_windows": 0.5, "change_intensities": 0.9, "inside_mask": 0.9 * 0.2, "outside_mask": 0.9 * 0.8}
    for name, probability in expected.items():
        tolerance = 5 * math.sqrt(2000 * probability * (1 - probability))
        assert abs(calls[name] - 2000 * probability) < tolerance, name


@pytest.mark.parametrize(("channels", "shape"), [(1, (32, 32)), (3, (24, 40)), (1, (12, 20, 24)), (2, (3, 16, 16))])
def test_distortion_keeps_shape_and_range_and_follows_the_generator(channels: int, shape: tuple[int, ...]) -> None:
    images = torch.randn(6, channels, *shape, generator=_generator())
    distorted = distortions.distort(images, _generator(3))
    assert distorted.shape == images.shape
    assert distorted.dtype == images.dtype
    for image, other in zip(images, distorted, strict=True):
        assert image.min() - 1e-4 <= other.min() <= other.max() <= image.max() + 1e-4
    assert torch.equal(distorted, distortions.distort(images, _generator(3)))
    assert not torch.equal(distorted, distortions.distort(images, _generator(4)))


def test_a_constant_patch_stays_constant_and_finite() -> None:
    images = torch.full((20, 1, 16, 16), 2.5)
    assert torch.allclose(distortions.distort(images, _generator()), images)
    assert torch.allclose(views.two_views(images, _generator()), torch.cat([images, images]), atol=1e-4)


# views


@pytest.mark.parametrize(("channels", "shape"), [(1, (32, 32)), (3, (24, 40)), (1, (8, 20, 24)), (2, (1, 16, 16))])
def test_the_two_views_of_a_patch_are_equal_in_law_and_differ(channels: int, shape: tuple[int, ...]) -> None:
    images = torch.randn(4, channels, *shape, generator=_generator())
    both = views.two_views(images, _generator(1))
    assert both.shape == (8, channels, *shape)
    generator = _generator(1)
    assert torch.equal(both, torch.cat([views.random_view(images, generator), views.random_view(images, generator)]))
    first, second = both.chunk(2)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _linear_fit(view: torch.Tensor) -> torch.Tensor:
    """Return slope along each axis, of `(*spatial)`, per step of -1 to 1; constant last."""
    grids = torch.meshgrid(*[(2 * torch.arange(n) + 1) / n - 1 for n in view.shape], indexing="ij")
    design = torch.stack([*(g.flatten() for g in grids), torch.ones(view.numel())], dim=1)
    return torch.linalg.lstsq(design, view.flatten()).solution


@pytest.mark.parametrize("shape", [(30, 42), (20, 24, 28)])
def test_crops_lie_in_the_patch_with_the_shares_and_stretches_asked_for(shape: tuple[int, ...]) -> None:
    """A crop of a linear ramp is linear: its slope is the crop's edge, its constant the centre."""
    grids = torch.meshgrid(*[(2 * torch.arange(n) + 1) / n - 1 for n in shape], indexing="ij")
    generator = _generator()
    edges, centres = [], []
    for _ in range(60):
        crops = [views.cropped(g[None, None].float(), state)[0, 0] for g, state in _same_crop(grids, generator)]
        fits = [_linear_fit(crop) for crop in crops]
        edges.append([float(fit[axis]) for axis, fit in enumerate(fits)])
        centres.append([float(fit[-1]) for fit in fits])
    edges_, centres_ = np.abs(edges), np.abs(centres)
    # border padding bends the ramp within half a voxel of the patch's edge
    assert (edges_ + centres_ <= 1 + 0.02).all()
    shares = edges_.prod(axis=1)
    assert shares.min() < 0.35
    assert shares.max() > 0.8
    assert (shares > 0.2 - 0.02).all()
    assert (edges_.max(axis=1) / edges_.min(axis=1) <= 4 / 3 + 0.02).all()
    assert 0.3 < (np.array(edges) < 0).mean() < 0.7


def _same_crop(grids, generator):
    """Pair each grid with a generator that draws the same crop for all of them."""
    seed = int(torch.randint(10**6, (), generator=generator))
    return [(grid, _generator(seed)) for grid in grids]


def test_colours_change_in_most_patches_and_each_channel_in_its_own_way() -> None:
    images = torch.rand(400, 2, 6, 6, generator=_generator()).repeat_interleave(1, 0)
    changed = views.recoloured(images, _generator())
    same = (changed == images).flatten(1).all(1)
    assert abs(int(same.sum()) - 80) < 40  # five standard deviations
    # order within a channel stays: contrast is positive and gamma increases
    for image, other in zip(images[:50], changed[:50], strict=True):
        for before, after in zip(image, other, strict=True):
            assert (after.flatten()[before.flatten().argsort()].diff() >= -1e-5).all()
    twins = torch.rand(50, 1, 6, 6, generator=_generator()).expand(-1, 2, -1, -1)
    first, second = views.recoloured(twins, _generator()).unbind(1)
    assert not torch.allclose(first, second)


def test_grey_needs_three_channels() -> None:
    images = torch.rand(500, 3, 4, 4, generator=_generator())
    grey = views.greyed(images, _generator())
    chosen = (grey != images).flatten(1).any(1)
    assert abs(int(chosen.sum()) - 100) < 45  # five standard deviations
    assert torch.allclose(grey[chosen], images[chosen].mean(1, keepdim=True).expand(-1, 3, -1, -1))
    assert torch.equal(views.greyed(images[:, :2], _generator()), images[:, :2])


@pytest.mark.parametrize(
    ("names", "entries", "grey"),
    [
        (("R", "G", "B"), {}, True),
        (("red", "green", "blue"), {}, True),
        (("zscore", "zscore", "zscore"), {"source_domain": "natural"}, True),
        (("T1", "T2", "FLAIR"), {}, False),
        (("R", "G", "NIR"), {}, False),
        (("R", "G"), {"source_domain": "natural"}, False),
    ],
)
def test_only_red_green_and_blue_become_grey(
    names: tuple[str, ...], entries: dict[str, str], grey: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "GREY", 1.0)
    dataset_json = {"channel_names": {str(i): name for i, name in enumerate(names)}, **entries}
    trainer = SimpleNamespace(local_rank=0, dataset_json=dataset_json, device=CPU)
    task = SimCLRTask(trainer)  # type: ignore[arg-type]
    data = task.training_batch({"data": torch.randn(3, len(names), 8, 8, generator=_generator())})["data"]
    assert torch.equal(data, data[:, :1].expand_as(data)) == grey


# the contrastive loss and its scores


def _naive_loss(projections: np.ndarray, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020, view by view."""
    views_, total = len(projections), 0.0
    for i in range(views_):
        j = (i + views_ // 2) % views_

        def similarity(a: int, b: int) -> float:
            u, v = projections[a], projections[b]
            return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))

        others = sum(math.exp(similarity(i, k) / temperature) for k in range(views_) if k != i)
        total -= math.log(math.exp(similarity(i, j) / temperature) / others)
    return total / views_


@given(pairs=st.integers(1, 6), size=st.integers(2, 5), temperature=st.floats(0.05, 5), seed=SEEDS)
def test_loss_agrees_with_its_definition(pairs: int, size: int, temperature: float, seed: int) -> None:
    projections = torch.randn(2 * pairs, size, generator=_generator(seed))
    loss = NTXentLoss(temperature)(projections, partners(pairs))
    assert float(loss) == pytest.approx(_naive_loss(projections.double().numpy(), temperature), rel=1e-4, abs=1e-5)


@given(pairs=st.integers(2, 6), seed=SEEDS)
def test_loss_and_scores_treat_both_views_alike_and_ignore_lengths_and_order(pairs: int, seed: int) -> None:
    projections = torch.randn(2 * pairs, 4, generator=_generator(seed))
    first, second = projections.chunk(2)
    order = torch.randperm(pairs, generator=_generator(seed))
    scores = contrastive_scores(projections)
    for other in (
        torch.cat([second, first]),
        torch.cat([first[order], second[order]]),
        projections * torch.rand(2 * pairs, 1, generator=_generator(seed)).add(0.5),
    ):
        assert contrastive_scores(other) == pytest.approx(scores, rel=1e-4, abs=1e-6)


def test_a_low_temperature_punishes_the_nearest_stranger_and_a_high_one_all() -> None:
    projections = torch.randn(8, 5, generator=_generator())
    partner = partners(4)
    assert float(NTXentLoss(1e4)(projections, partner)) == pytest.approx(math.log(7), rel=1e-3)
    unit = torch.nn.functional.normalize(projections)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    regret = (cosines.max(1).values - cosines[torch.arange(8), partner]).mean()
    assert float(NTXentLoss(0.005)(projections, partner)) * 0.005 == pytest.approx(float(regret), abs=0.01)
    assert NTXentLoss().temperature == 0.5


def test_loss_survives_half_precision_with_gradients() -> None:
    projections = (torch.randn(8, 5, generator=_generator()) * 300).half().requires_grad_()
    loss = NTXentLoss()(projections, partners(4))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(projections.grad).all()


def test_perfect_and_collapsed_projections_have_the_scores_they_should() -> None:
    corners = torch.eye(6)
    scores = contrastive_scores(torch.cat([corners, 3 * corners]))
    assert scores["top1_accuracy"] == 1
    assert scores["alignment"] == pytest.approx(0)
    assert scores["uniformity"] == pytest.approx(-4)  # all at a squared distance of 2: log exp(-2 * 2)
    assert scores["chance"] == pytest.approx(1 / 11)
    collapsed = torch.ones(12, 6)
    assert contrastive_scores(collapsed)["uniformity"] == pytest.approx(0, abs=1e-6)
    assert contrastive_scores(collapsed)["loss"] == pytest.approx(math.log(11))


def test_retrieval_by_chance_is_as_likely_as_it_says() -> None:
    hits, scored = 0, 0
    for seed in range(200):
        projections = torch.randn(10, 8, generator=_generator(seed))
        hits, scored = hits + int(retrieved(projections).sum()), scored + 10
    chance = contrastive_scores(projections)["chance"]
    assert hits / scored == pytest.approx(chance, abs=5 * math.sqrt(chance * (1 - chance) / scored) * 2)


def test_one_case_has_no_uniformity_and_each_case_has_its_scores() -> None:
    assert contrastive_scores(torch.randn(2, 4, generator=_generator()))["uniformity"] is None
    projections = torch.tensor([[1.0, 0], [0, 1], [1, 0.1], [0.2, -1]])
    assert retrieved(projections).tolist() == [True, False, True, False]
    assert [case["top1_accuracy"] for case in case_scores(projections)] == [1, 0]
    assert [case["alignment"] for case in case_scores(projections)] == pytest.approx(alignments(projections).tolist())
    # a right angle between the first views, and one between the second ones but for rounding
    first, second = (torch.nn.functional.normalize(half) for half in projections.double().chunk(2))
    potentials = [-2 * float((half[0] - half[1]).square().sum()) for half in (first, second)]
    assert potentials[0] == pytest.approx(-4)
    assert uniformity(projections) == pytest.approx(np.mean(potentials))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_contrastive_network_shares_the_encoders_names_and_trains_all_its_weights(dimensions: int) -> None:
    unet = residual(dimensions, input_channels=2)
    encoder = {key for key in unet.state_dict() if key.startswith("encoder.")}
    network = contrastive_network(unet)
    assert {key for key in network.state_dict() if not key.startswith("head.")} == encoder
    projections = network(torch.randn(4, 2, *[16] * dimensions))
    assert projections.shape == (4, 128)
    NTXentLoss()(projections, partners(2)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
