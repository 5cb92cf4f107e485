"""Models Genesis and SimCLR in nnU-Net's own training loop, next to the masked autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process, unwrapped
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.pretraining.self_supervised.distortions import distort
from nnunet_transfer.pretraining.self_supervised.figures import Reconstruction
from nnunet_transfer.pretraining.tiles import centre_crop, tiles
from nnunet_transfer.sources import list_sources, load_source
from tests.nnunet_data import write_blob_dataset, write_splits
from tests.pretraining_runs import CPU, Prepared, Run, a_run, refusal, refuse_loading

MASKED, GENESIS, SIMCLR = (f"nnUNetPretrainer{method}" for method in ("SelfSupervised", "ModelsGenesis", "SimCLR"))
NEW = [GENESIS, SIMCLR]
pytestmark = pytest.mark.usefixtures("cheap")
SOURCE = {MASKED: "self_supervised", GENESIS: "self_supervised_genesis", SIMCLR: "self_supervised_simclr"}


@pytest.fixture
def run(request: pytest.FixtureRequest, prepared: Prepared, nnunet_folders: Path) -> Run:
    """A run in 2D, or in the configuration that the test is parametrised with."""
    return a_run(prepared, getattr(request, "param", "2d"), nnunet_folders)


in_2d_and_slowly_3d = pytest.mark.parametrize(
    "run", ["2d", pytest.param("3d_fullres", marks=pytest.mark.slow)], indirect=True
)


def _summary(run: Run, name: str) -> dict[str, Any]:
    return read_json(run.output(name) / "validation" / "summary.json")


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in unwrapped(trainer.network).state_dict().items()}


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


# what they learn


@in_2d_and_slowly_3d
def test_models_genesis_restores_better_than_doing_nothing(run: Run) -> None:
    name = f"{GENESIS}_6epochs_20iterations_seed1"
    trainer = run.train(name)
    losses = trainer.logger.get_value("train_losses", step=None)
    assert losses[-1] < losses[0]
    summary = _summary(run, name)
    # more than the mean intensity, which explains nothing but already removes much of the noise
    assert summary["explained_variance"] > 0.05
    assert 0.1 < summary["error_removed"] < 1
    assert summary["error_removed"] == pytest.approx(1 - summary["mse"] / summary["mse_distorted"])
    assert summary["mae"] < summary["mae_distorted"]
    for key in ("mse", "mse_distorted"):
        assert summary[key] == pytest.approx(np.mean([case[key] for case in summary["cases"]]))
    assert [case["case"] for case in summary["cases"]] == ["case00", "case02", "case04", "case06"]


def test_doing_nothing_is_the_error_of_the_distorted_patches_that_cover_a_case(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Reconstruction] = []
    monkeypatch.setattr(
        "nnunet_transfer.pretraining.self_supervised.restoration.draw_reconstructions",
        lambda _, items: drawn.extend(items),
    )
    name = f"{GENESIS}_1epochs_1iterations_seed1"
    trainer = run.train(name)
    for item, case in zip(drawn, _summary(run, name)["cases"], strict=True):
        assert item.case == case["case"]
        image = trainer.case_image(item.case)
        assert np.array_equal(item.image, centre_crop(image, (32, 32)).numpy())
        generator = trainer.task.case_generator(item.case)
        assert np.array_equal(item.distorted, distort(torch.from_numpy(item.image)[None], generator)[0].numpy())
        generator, squared, values = trainer.task.case_generator(item.case), 0.0, 0
        patches = torch.stack(list(tiles(image, (32, 32))))
        assert len(patches) > 1
        for batch in patches.split(trainer.batch_size):
            squared += float((distort(batch, generator) - batch).double().square().sum())
            values += batch.numel()
        assert case["mse_distorted"] == pytest.approx(squared / values, rel=1e-5)


@pytest.mark.usefixtures("whole")
def test_models_genesis_writes_its_picture(run: Run) -> None:
    name = f"{GENESIS}_1epochs_1iterations"
    run.train(name)
    with Image.open(run.output(name) / "validation" / "reconstruction.png") as picture:
        assert picture.height > 800  # four cases
        assert len(picture.convert("L").getcolors(100_000)) > 50


@in_2d_and_slowly_3d
def test_simclr_tells_the_patches_of_a_batch_apart(run: Run) -> None:
    name = f"{SIMCLR}_5epochs_20iterations_seed1"
    trainer = run.train(name)
    losses = trainer.logger.get_value("train_losses", step=None)
    assert losses[-1] < 0.9 * losses[0]
    summary = _summary(run, name)
    assert summary["chance"] == pytest.approx(1 / 7)
    assert summary["top1_accuracy"] > 2 / 7
    assert summary["top1_accuracy"] == np.mean([case["top1_accuracy"] for case in summary["cases"]])
    assert summary["alignment"] == pytest.approx(np.mean([case["alignment"] for case in summary["cases"]]))
    # views of a case lie nearer to each other than those of different cases; not all in one point
    assert summary["uniformity"] < -0.2
    assert summary["loss"] < np.log(7)
    assert summary["temperature"] == 0.5
    scores = trainer.logger.get_value("mean_fg_dice", step=None)
    assert 0 <= min(scores) <= max(scores) <= 1


# sources


def test_the_methods_sources_lie_side_by_side_and_say_what_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for base in (MASKED, *NEW):
        run.train(f"{base}_1epochs_1iterations_seed1")
    cards = {card.name: card for card in list_sources()}
    assert set(cards) == {f"t1_{name}" for name in SOURCE.values()}
    assert {card.task for card in cards.values()} == {"self_supervised"}
    assert len({card.sha256 for card in cards.values()}) == 3
    genesis, simclr = cards["t1_self_supervised_genesis"], cards["t1_self_supervised_simclr"]
    assert (genesis.parts, simclr.parts) == ("encoder+decoder", "encoder")
    assert genesis.extra["method"] == "models genesis"
    assert genesis.extra["probability_outpainting"] == 0.8
    assert simclr.extra["method"] == "simclr"
    assert (simclr.extra["temperature"], simclr.extra["projection_size"]) == (0.5, 128)
    assert cards["t1_self_supervised"].extra["method"] == "masked autoencoder"

    monkeypatch.setenv("nnUNet_source_name", "mine")
    run.train(f"{SIMCLR}_1epochs_1iterations_seed1")
    assert load_source("mine").card.sha256 == simclr.sha256


@pytest.mark.parametrize("base", NEW)
def test_an_arm_starts_from_the_source_under_the_arms_name(
    base: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("nnUNet_source_name", "t1_self_supervised")
        run.train(f"{base}_2cases_1epochs_2iterations_seed1")
    name = "nnUNetTrainerT1SelfSupervised_1epochs_1iterations"
    run.train(name)
    report = read_json(run.output(name) / "transfer_report.json")
    assert report["source"] == "t1_self_supervised"
    assert report["coverage"]["encoder"] == pytest.approx(1)
    assert (report["coverage"]["decoder"] > 0.9) == (base == GENESIS)


@pytest.mark.parametrize("base", NEW)
def test_an_arm_starts_from_the_source_that_its_plans_name(base: str, run: Run) -> None:
    run.train(f"{base}_1epochs_1iterations_seed1")
    source = f"t1_{SOURCE[base]}"
    plans = write_transfer_plans(
        run.dataset, source=source, configurations=["2d"], patch_size=(32, 32), batch_size=4
    ).stem
    preprocess_in_process(run.dataset, plans, ["2d"])
    arm = Run(run.folders, run.dataset, plans, "2d")
    name = "nnUNetTrainerTransfer_1epochs_1iterations"
    arm.train(name)
    assert read_json(arm.output(name) / "transfer_report.json")["source"] == source


def test_natural_images_are_learnt_in_three_channels(nnunet_folders: Path) -> None:
    dataset = write_blob_dataset(nnunet_folders / "raw", 530, cases=4, shape=(32, 32, 1), channels=("R", "G", "B"))
    preprocessed = extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    plans = write_transfer_plans(dataset, profile="demo", configurations=["2d"], patch_size=(32, 32), batch_size=4).stem
    preprocess_in_process(dataset, plans, ["2d"])
    write_splits(preprocessed)
    run = Run(nnunet_folders, dataset, plans, "2d")
    for base in NEW:
        run.train(f"{base}_1epochs_1iterations_seed1")
        card = load_source(f"natural_{SOURCE[base]}").card
        assert (card.domain, card.input_channels) == ("natural", 3)


def test_one_methods_source_is_not_replaced_by_anothers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.train(f"{MASKED}_1epochs_1iterations")
    refuse_loading(monkeypatch)
    monkeypatch.setenv("nnUNet_source_name", "t1_self_supervised")
    with pytest.raises(SystemExit) as caught:
        run.build(f"{GENESIS}_1epochs_1iterations").on_train_start()
    assert "source t1_self_supervised already exists" in refusal(caught)


# determinism


@in_2d_and_slowly_3d
@pytest.mark.parametrize("base", NEW)
def test_a_seed_decides_the_weights(base: str, run: Run) -> None:
    first = _weights(run.train(f"{base}_2cases_2epochs_2iterations_seed4"))
    summary = _summary(run, f"{base}_2cases_2epochs_2iterations_seed4")
    again = _weights(run.train(f"{base}_2cases_2epochs_2iterations_seed4"))
    assert _equal(first, again)
    assert _summary(run, f"{base}_2cases_2epochs_2iterations_seed4") == summary
    assert not _equal(first, _weights(run.train(f"{base}_2cases_2epochs_2iterations_seed5")))


@pytest.mark.parametrize("base", NEW)
def test_each_validation_draws_the_same_whatever_was_drawn_before(base: str, run: Run) -> None:
    trainer = run.build(f"{base}_1epochs_1iterations_seed1")
    trainer.initialize()
    batch = {"data": torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))}
    trainer.network.eval()
    outputs = []
    for _ in range(2):
        torch.rand(7)
        trainer.on_validation_epoch_start()
        with torch.no_grad():
            outputs.append([trainer.validation_step(batch) for _ in range(2)])
    assert outputs[0] == outputs[1]
    assert outputs[0][0] != outputs[0][1]


# refusals


def test_simclr_with_batches_of_one_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_loading(monkeypatch)
    path = run.preprocessed / f"{run.plans}.json"
    plans = read_json(path)
    plans["configurations"]["2d"]["batch_size"] = 1
    write_json(path, plans)
    trainer = run.build(f"{SIMCLR}_1epochs_1iterations")
    assert trainer.device == CPU
    with pytest.raises(SystemExit) as caught:
        trainer.on_train_start()
    assert "plan with a batch size of 2 or more" in refusal(caught)


@pytest.mark.parametrize("base", NEW)
def test_the_source_of_another_data_set_is_never_replaced(base: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{base}_1epochs_1iterations"
    run.train(name)
    path = run.folders / "results" / "sources" / f"t1_{SOURCE[base]}" / "source.json"
    write_json(path, read_json(path) | {"trained_on": ["Dataset999_Other"]})
    refuse_loading(monkeypatch)
    with pytest.raises(SystemExit) as caught:
        run.build(name).on_train_start()
    assert f"source t1_{SOURCE[base]} already exists, from Dataset999_Other" in refusal(caught)
