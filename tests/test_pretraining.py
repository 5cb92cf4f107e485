"""Pre-training's building blocks: masks, losses, patches, networks, names."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import r2_score

from nnunet_transfer.errors import PlansError, SettingsError
from nnunet_transfer.pretraining.networks import classification_network, reconstruction_network
from nnunet_transfer.pretraining.self_supervised.figures import Reconstruction, draw_reconstructions
from nnunet_transfer.pretraining.self_supervised.losses import MaskedMSELoss, ReconstructionError
from nnunet_transfer.pretraining.self_supervised.masking import block_size, hide, random_block_mask
from nnunet_transfer.pretraining.source_name import source_name
from nnunet_transfer.pretraining.tiles import centre_crop, tiles


def test_other_loggers_get_a_score_under_its_own_name(tmp_path: Path) -> None:
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    from nnunet_transfer.pretraining.task_trainer import TaskPretrainer

    logged: list[tuple[str, float]] = []
    logger = MetaLogger(str(tmp_path), False)
    logger.loggers.append(SimpleNamespace(log=lambda key, value, step: logged.append((key, value))))
    trainer = SimpleNamespace(
        logger=logger,
        current_epoch=0,
        task=SimpleNamespace(epoch_score=lambda outputs: ("balanced accuracy", 0.75, [0.5, 1.0])),
        gathered=list,
        print_to_log_file=lambda *_: None,
    )
    TaskPretrainer.on_validation_epoch_end(trainer, [{"loss": np.array(2.0)}])  # type: ignore[arg-type]
    assert ("balanced accuracy", 0.75) in logged
    assert ("val_losses", 2.0) in logged


PATCHES = st.lists(st.integers(8, 70), min_size=2, max_size=3)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# masks


@pytest.mark.parametrize(
    ("patch", "block"),
    [
        ((160, 160, 160), (16, 16, 16)),
        ((224, 224), (16, 16)),
        ((32, 32), (8, 8)),
        ((20, 256, 256), (5, 16, 16)),
        ((3, 64, 64), (1, 16, 16)),
    ],
)
def test_blocks_are_sixteen_voxels_but_at_most_a_quarter_of_the_patch(
    patch: tuple[int, ...], block: tuple[int, ...]
) -> None:
    assert block_size(patch) == block


@given(patch=PATCHES, ratio=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_masks_hide_the_asked_share_in_whole_blocks(patch: list[int], ratio: float, seed: int) -> None:
    mask = random_block_mask(3, patch, ratio=ratio, generator=_generator(seed))
    assert mask.shape == (3, 1, *patch)
    edges = block_size(patch)
    corners = mask[(slice(None), 0, *(slice(None, None, edge) for edge in edges))]
    blocks = corners[0].numel()
    hidden = corners.flatten(1).sum(1)
    assert (hidden == hidden[0]).all()
    assert 1 <= hidden[0] < blocks
    assert abs(hidden[0] - ratio * blocks) <= 1
    # every voxel agrees with the first one of its block
    index = torch.meshgrid(*(torch.arange(n) // e for n, e in zip(patch, edges, strict=True)), indexing="ij")
    assert torch.equal(mask[:, 0], corners[(slice(None), *index)])


def test_masks_follow_the_generator_and_differ_between_samples() -> None:
    first, again, other = (random_block_mask(2, (64, 64), generator=_generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_every_block_is_hidden_equally_often() -> None:
    mask = random_block_mask(4000, (4, 4), block=(1, 1), generator=_generator())
    share = mask.float().mean(dim=0)
    assert share.min() > 0.75 - 0.035  # five standard errors of 4000 draws
    assert share.max() < 0.75 + 0.035


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0, 2.0])
def test_mask_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(SettingsError, match="must lie between 0 and 1"):
        random_block_mask(1, (32, 32), ratio=ratio)


def test_a_patch_of_one_block_is_refused() -> None:
    with pytest.raises(SettingsError, match="take smaller blocks"):
        random_block_mask(1, (16, 16), block=(16, 16))


def test_hidden_voxels_are_zero_and_visible_ones_unchanged() -> None:
    image = torch.randn(2, 3, 16, 16, generator=_generator()) + 5
    mask = random_block_mask(2, (16, 16), generator=_generator())
    seen = hide(image, mask)
    assert (seen[mask.expand_as(image)] == 0).all()
    assert torch.equal(seen[~mask.expand_as(image)], image[~mask.expand_as(image)])


# loss


def test_loss_ignores_visible_voxels_and_averages_hidden_ones() -> None:
    image = torch.randn(2, 3, 8, 8, 8, generator=_generator(1))
    output = torch.randn(2, 3, 8, 8, 8, generator=_generator(2), requires_grad=True)
    mask = random_block_mask(2, (8, 8, 8), generator=_generator(3))
    loss = MaskedMSELoss()(output, [image, mask])
    hidden = mask.expand_as(image).numpy()
    assert loss.item() == pytest.approx(((output.detach() - image).numpy()[hidden] ** 2).mean(), rel=1e-5)
    loss.backward()
    assert output.grad is not None
    assert (output.grad[~mask.expand_as(image)] == 0).all()
    assert (output.grad[mask.expand_as(image)] != 0).all()


def test_loss_survives_half_precision_and_an_empty_mask() -> None:
    image = torch.full((1, 1, 64, 64), 300.0)
    loss = MaskedMSELoss()(torch.zeros_like(image).half(), [image, torch.ones(1, 1, 64, 64, dtype=torch.bool)])
    assert loss.item() == pytest.approx(90000.0)
    assert MaskedMSELoss()(image, [image * 0, torch.zeros(1, 1, 64, 64, dtype=torch.bool)]).item() == 0


def test_reconstruction_error_of_parts_adds_up_and_agrees_with_scikit_learn() -> None:
    image = torch.randn(4, 2, 16, 16, generator=_generator(1)) * 3 + 1
    output = image + torch.randn(4, 2, 16, 16, generator=_generator(2))
    mask = random_block_mask(4, (16, 16), generator=_generator(3))
    parts = [ReconstructionError.measure(output[i : i + 1], image[i : i + 1], mask[i : i + 1]) for i in range(4)]
    total = ReconstructionError.sum(parts)
    hidden = mask.expand_as(image)
    true, found = image[hidden].double().numpy(), output[hidden].double().numpy()
    assert total.voxels == true.size
    assert total.mse == pytest.approx(((true - found) ** 2).mean())
    assert total.mae == pytest.approx(np.abs(true - found).mean())
    own = [
        (image[i, c][mask[i, 0]].double().numpy(), output[i, c][mask[i, 0]].numpy()) for i in range(4) for c in range(2)
    ]
    variances = [np.var(values) for values, _ in own]
    # all patches hide as many voxels: R^2 within each patch and channel, weighted by its variance
    expected = np.average([r2_score(*pair) for pair in own], weights=variances)
    assert total.explained_variance == pytest.approx(expected)


def test_knowing_each_patchs_mean_explains_nothing() -> None:
    image = torch.randn(4, 2, 16, 16, generator=_generator(1)) + 10 * torch.randn(4, 2, 1, 1, generator=_generator(2))
    mask = random_block_mask(4, (16, 16), generator=_generator(3))
    mask[3] = False  # a patch without scored voxels
    hidden = mask.expand_as(image).float()
    means = (image * hidden).sum((2, 3), keepdim=True) / hidden.sum((2, 3), keepdim=True).clamp(min=1)
    known = ReconstructionError.measure(means.expand_as(image), image, mask)
    assert known.explained_variance == pytest.approx(0, abs=1e-6)
    assert ReconstructionError.measure((image + means) / 2, image, mask).explained_variance == pytest.approx(0.75)
    constant = ReconstructionError.measure(torch.zeros(1, 2, 16, 16), torch.ones(1, 2, 16, 16), mask[:1])
    assert (known + constant).explained_variance < 0, "an error in empty background counts"


def test_reconstruction_error_of_a_constant_image_or_of_nothing_is_defined() -> None:
    image = torch.full((1, 1, 8, 8), 0.1)
    everything = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    assert ReconstructionError.measure(image + 1, image, everything).explained_variance == 0
    assert math.isnan(ReconstructionError.measure(image, image, ~everything).mse)


# patches


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(3, 20), st.integers(3, 20)),
    patch=st.lists(st.integers(2, 8), min_size=2, max_size=3),
)
def test_tiles_cover_every_voxel_and_are_as_few_as_possible(shape: tuple[int, int, int], patch: list[int]) -> None:
    image = torch.arange(1, 1 + math.prod(shape), dtype=torch.float32).reshape(1, *shape)
    found = list(tiles(image, patch))
    assert all(tile.shape == (1, *patch) for tile in found)
    values = torch.cat([tile.flatten() for tile in found]).unique()
    assert set(values.tolist()) - {0.0} == set(image.flatten().tolist())
    size = [1] * (3 - len(patch)) + patch
    assert len(found) == math.prod(-(-n // p) for n, p in zip(shape, size, strict=True))


def test_centre_crop_is_the_middle_and_pads_both_sides() -> None:
    image = torch.arange(5 * 6 * 7, dtype=torch.float32).reshape(1, 5, 6, 7)
    assert torch.equal(centre_crop(image, (3, 2, 5)), image[:, 1:4, 2:4, 1:6])
    assert torch.equal(centre_crop(image, (6, 7)), image[:, 2])
    padded = centre_crop(image, (5, 6, 11))
    assert torch.equal(padded[..., 2:9], image)
    assert not padded[..., :2].any()
    assert not padded[..., 9:].any()


# networks


def _unet(dimensions: int, channels: int = 2) -> torch.nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    return get_network_from_plans(
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        {
            "n_stages": 3,
            "features_per_stage": [4, 8, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": 3,
            "strides": [1, 2, 2],
            "n_blocks_per_stage": 1,
            "n_conv_per_stage_decoder": 1,
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
        ["conv_op", "norm_op", "nonlin"],
        channels,
        channels,
        deep_supervision=False,
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_classifier_shares_the_encoders_names_and_uses_all_its_weights(dimensions: int) -> None:
    unet = _unet(dimensions)
    encoder = {key for key in unet.state_dict() if key.startswith("encoder.")}
    network = classification_network(unet, classes=3)
    assert set(network.state_dict()) == encoder | {"head.weight", "head.bias"}
    logits = network(torch.randn(2, 2, *[16] * dimensions))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_reconstruction_network_trains_all_weights_that_are_not_frozen(dimensions: int) -> None:
    unet = _unet(dimensions)
    keys = set(unet.state_dict())
    network = reconstruction_network(unet)
    assert set(network.state_dict()) == keys
    image = torch.randn(2, 2, *[16] * dimensions)
    output = network(image)
    assert output.shape == image.shape
    output.square().sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("build", [lambda n: classification_network(n, 2), reconstruction_network])
def test_networks_without_encoder_and_decoder_are_refused(build) -> None:
    with pytest.raises(PlansError, match="Linear has no"):
        build(torch.nn.Linear(2, 2))


# names and pictures


@pytest.mark.parametrize(
    ("channels", "domain"),
    [
        (["T1"], "t1"),
        (["T1w"], "t1"),
        (["MRI_T1"], "t1"),
        (["MPRAGE"], "t1"),
        (["T1-weighted"], "t1"),
        (["R", "G", "B"], "natural"),
        (["red", "green", "blue"], "natural"),
        (["grey"], "natural"),
        (["FLAIR"], "flair"),
        (["T1", "FLAIR"], "t1_flair"),
        (["T1ce"], "t1ce"),
        (["T1 post"], "t1_post"),
        (["T1rho"], "t1rho"),
        (["CT"], "ct"),
    ],
)
def test_domain_follows_from_the_channels(channels: list[str], domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_source_name", raising=False)
    dataset = {"channel_names": {str(i): name for i, name in enumerate(channels)}}
    assert source_name("self_supervised", {"modality": dataset["channel_names"]})[1] == domain
    assert source_name("self_supervised", dataset) == (f"{domain}_self_supervised", domain)


def test_source_name_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_source_name", raising=False)
    dataset = {"channel_names": {"0": "X"}, "source_domain": "t1"}
    assert source_name("segmentation", dataset) == ("t1_segmentation", "t1")
    monkeypatch.setenv("nnUNet_source_name", "oasis_16")
    assert source_name("segmentation", dataset) == ("oasis_16", "t1")
    for wrong in ("../elsewhere", "my__src", "x" * 101):
        monkeypatch.setenv("nnUNet_source_name", wrong)
        with pytest.raises(SettingsError, match="can't name a source"):
            source_name("segmentation", dataset)


def test_channels_that_give_no_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_source_name", raising=False)
    with pytest.raises(SettingsError, match="source_domain"):
        source_name("segmentation", {"channel_names": {"0": "?"}})


@pytest.mark.parametrize(("channels", "spatial"), [(1, (16, 16)), (3, (16, 16)), (1, (6, 16, 16)), (2, (6, 16, 16))])
def test_reconstruction_picture_shows_all_rows(tmp_path: Path, channels: int, spatial: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    items = [Reconstruction(f"case{i}", *rng.normal(size=(3, channels, *spatial))) for i in range(2)]
    draw_reconstructions(tmp_path / "picture.png", items)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.height > 400
        assert len(picture.convert("L").getcolors(100_000)) > 50
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
