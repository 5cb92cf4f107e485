"""The arms: weights enter once, from the source, and what recipes do with them; refusals are one line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.finetuning import fitted_start
from nnunet_transfer.finetuning import trainer as finetuning
from nnunet_transfer.naming import ARMS
from nnunet_transfer.recipes import RECIPES
from nnunet_transfer.sources import load_source, save_source
from nnunet_transfer.sources.outputs import OUTPUTS
from nnunet_transfer.training.sides import lateralised
from tests.finetuning_runs import CPU, Ready, build, train
from tests.sources import save_random_source

pytestmark = pytest.mark.usefixtures("cheap")


@pytest.mark.parametrize("arm", [a for a in ARMS if ARMS[a]])
def test_an_arm_starts_from_its_source(arm: str, ready: Ready) -> None:
    folders, dataset, plans = ready
    source = save_random_source(ARMS[arm], folders / "preprocessed" / dataset / f"{plans}.json", "2d", seed=3)
    trainer = build(dataset, plans, f"{arm}_1epochs_1iterations", folders)
    trainer.on_train_start()
    weights = unwrapped(trainer.network).state_dict()
    for key, value in weights.items():
        if "seg_layers" not in key:
            assert torch.equal(value, source[key]), key
    report = read_json(Path(trainer.output_folder) / "transfer_report.json")
    assert report["coverage"]["encoder"] == pytest.approx(1.0)


def test_encoder_only_leaves_the_decoder_at_random(ready: Ready) -> None:
    folders, dataset, plans = ready
    source = save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", seed=3)
    trainer = build(dataset, plans, "nnUNetTrainerT1Segmentation_encoderOnly_1epochs_1iterations", folders)
    trainer.on_train_start()
    weights = unwrapped(trainer.network).state_dict()
    assert all(torch.equal(v, source[k]) for k, v in weights.items() if k.startswith("encoder."))
    kernels = [k for k in weights if k.startswith("decoder.stages") and k.endswith("conv.weight")]
    assert kernels
    assert not any(torch.equal(weights[k], source[k]) for k in kernels)


def test_arms_with_one_seed_differ_in_nothing_but_the_weights(ready: Ready) -> None:
    folders, dataset, plans = ready
    arms = [
        build(dataset, plans, f"{arm}_4epochs_2iterations_seed5", folders)
        for arm in ("nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation")
    ]
    batches = []
    for trainer in arms:
        trainer.on_train_start()
        trainer.on_epoch_start()
        batches.append(next(trainer.dataloader_train))
    assert torch.equal(batches[0]["data"], batches[1]["data"])
    control, arm = arms
    for name in ("num_epochs", "num_iterations_per_epoch", "initial_lr", "weight_decay", "batch_size"):
        assert getattr(control, name) == getattr(arm, name), name
    assert control.do_split() == arm.do_split()
    assert control.optimizer.state_dict()["param_groups"] == arm.optimizer.state_dict()["param_groups"]


def test_a_frozen_encoder_stays_as_the_source_left_it(ready: Ready) -> None:
    folders, dataset, plans = ready
    source = save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", seed=3)
    trainer = train(dataset, plans, "nnUNetTrainerT1Segmentation_frozenEncoder_3epochs_2iterations")
    weights = unwrapped(trainer.network).state_dict()
    moved = {k for k, v in weights.items() if not (k in source and torch.equal(v, source[k]))}
    assert not any(k.startswith("encoder.") for k in moved)
    assert any(k.startswith("decoder.stages") for k in moved)


def test_a_frozen_encoder_refuses_channels_that_would_stay_at_0(ready: Ready) -> None:
    folders, dataset, plans = ready
    path = folders / "preprocessed" / dataset / "dataset.json"
    content = read_json(path)
    del content["channel_names"]
    write_json(path, content | {"modality": {"b": "T1", "a": "DWI"}})
    file = folders / "preprocessed" / dataset / f"{plans}.json"
    own = read_json(file)
    own["transfer"]["rules"] = {"new_channels": "zero"}
    write_json(file, own)
    with pytest.raises(SystemExit, match=r"DWI: .* the network would never see them; take a recipe"):
        train(dataset, plans, "nnUNetTrainerT1Segmentation_frozenEncoder_1epochs_1iterations")
    trainer = build(dataset, plans, "nnUNetTrainerT1Segmentation_lpft_1epochs_1iterations", folders)
    trainer.initialize()
    trainer.prepare_fresh_network()
    report = read_json(Path(trainer.output_folder) / "transfer_report.json")
    assert report["channels_at_zero"] == ["DWI"]
    assert "start at 0: DWI" in Path(trainer.log_file).read_text()
    own["transfer"]["rules"] = {}
    write_json(file, own)
    trainer = build(dataset, plans, "nnUNetTrainerT1Segmentation_frozenEncoder_1epochs_1iterations", folders)
    trainer.initialize()
    trainer.prepare_fresh_network()
    assert "start with the mean of its own: DWI" in Path(trainer.log_file).read_text()


def test_without_mirroring_neither_patches_nor_predictions_are_mirrored(ready: Ready) -> None:
    folders, dataset, plans = ready
    path = folders / "preprocessed" / dataset / "dataset.json"
    write_json(path, read_json(path) | {"labels": {"background": 0, "Left-Amygdala": 1}})
    for suffix, mirrored in (("", True), ("_noMirroring", False)):
        trainer = build(dataset, plans, f"nnUNetTrainerScratch{suffix}_1epochs_1iterations", folders)
        trainer.on_train_start()
        transforms = trainer.dataloader_train.data_loader.transforms.transforms
        assert any(isinstance(transform, MirrorTransform) for transform in transforms) is mirrored
        checkpoint = Path(trainer.output_folder) / "checkpoint_final.pth"
        trainer.save_checkpoint(str(checkpoint))
        predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(trainer.output_folder_base, None)
        assert bool(predictor.allowed_mirroring_axes) is mirrored
        told = "WARNING: 1 label is told apart by its side (Left-Amygdala)" in Path(trainer.log_file).read_text()
        assert told is mirrored


@pytest.mark.parametrize(
    ("labels", "sided"),
    [
        (("background", "lesion", "upright", "bright"), ()),
        (("Left-Hippocampus", "Brain-Stem"), ("Left-Hippocampus",)),
        (("ctx-rh-cuneus", "RightCaudate"), ("ctx-rh-cuneus", "RightCaudate")),
        (("amygdala_L", "amygdala_R", "lesion_l"), ("amygdala_L", "amygdala_R")),
        (("class L",), ()),
    ],
)
def test_labels_with_a_side_are_seen_by_their_names(labels: tuple[str, ...], sided: tuple[str, ...]) -> None:
    assert lateralised(labels) == sided


@pytest.mark.parametrize(
    ("dice", "told", "epochs"),
    [
        ([0.0], True, 10),
        ([0.0], True, 1),
        ([0.0], False, 20),
        ([0.0, np.nan], True, 10),
        ([0.0, 0.2], False, 10),
        ([np.nan, np.nan], False, 10),
    ],
)
def test_labels_that_no_patch_has_are_no_sign_of_a_failed_training(
    dice: list[float], told: bool, epochs: int, ready: Ready
) -> None:
    folders, dataset, plans = ready
    trainer = build(dataset, plans, f"nnUNetTrainerScratch_{epochs}epochs_1iterations", folders)
    trainer.initialize()
    trainer.disable_checkpointing = True
    for key in ("train_losses", "val_losses", "mean_fg_dice", "lrs"):
        trainer.logger.log(key, 0.0, 0)
    trainer.logger.log("dice_per_class_or_region", dice, 0)
    trainer.on_epoch_start()
    trainer.on_epoch_end()
    assert ("has learnt nothing yet" in Path(trainer.log_file).read_text()) is told


@pytest.mark.parametrize("trainer", ["nnUNetTrainerScratch", "nnUNetPretrainerSegmentation"])
def test_images_with_nan_end_in_one_line_with_their_names(trainer: str, ready: Ready) -> None:
    folders, dataset, plans = ready
    shutil.rmtree(folders / "results/sources")  # the pretrainer's own has one of these names
    (stored,) = (folders / "preprocessed" / dataset).rglob("case01.b2nd")
    kind = infer_dataset_class(str(stored.parent))
    data, labels, _, properties = kind(str(stored.parent), ["case01"]).load_case("case01")
    content = np.full(data.shape, np.nan, np.float32), np.array(labels[:]), properties
    for file in stored.parent.glob("case01*"):
        file.unlink()
    kind.save_case(*content, str(stored.with_suffix("")))
    with pytest.raises(SystemExit, match="training patches of case01 have voxels that are NaN") as stop:
        train(dataset, plans, f"{trainer}_1epochs_1iterations_seed1")
    assert "\n" not in str(stop.value)


def test_outputs_are_taken_over_by_name_behind_the_sources_decoder_alone(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, dataset, plans = ready
    saved = save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", labels=3)
    source = load_source("t1_segmentation")
    replace(source.card, extra={OUTPUTS: [["background", "other", "Class1"]]}).write(source.folder)
    taken: list[dict[int, Any]] = []
    monkeypatch.setattr(finetuning, "fit_output_layers", lambda _, known: taken.append(dict(known)))
    for suffix in ("_byName", "_byName_encoderOnly"):
        build(dataset, plans, f"nnUNetTrainerT1Segmentation{suffix}_1epochs_1iterations", folders).on_train_start()
    by_name, encoder_only = taken
    layers = [key for key in saved if key.startswith("decoder.seg_layers.") and key.endswith(".bias")]
    assert len(by_name) == len(layers)
    for number, rows in by_name.items():
        assert rows.classes == (1,), "other is background here, but not in the source"
        assert torch.equal(rows.bias, saved[f"decoder.seg_layers.{number}.bias"][[2]])
    assert encoder_only == {}, "a random decoder has other features"


def test_the_report_says_which_outputs_are_the_source_s(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, dataset, plans = ready
    source = load_source("t1_segmentation")
    replace(source.card, extra={OUTPUTS: [["background", "class1"]]}).write(source.folder)
    trainer = build(dataset, plans, "nnUNetTrainerT1Segmentation_byName_1epochs_1iterations_seed1", folders)
    monkeypatch.setattr(fitted_start, "constant_loss", lambda *_: float("inf"))  # the copied outputs are of use
    trainer.on_train_start()
    report = read_json(Path(trainer.output_folder) / "transfer_report.json")
    heads = [tensor for tensor in report["tensors"] if ".seg_layers." in tensor["key"]]
    layers = [level for level in report["fitted_heads"]["levels"] if level["copied"]]
    assert len(heads) == 2 * len(layers) > 0
    names = [report["fitted_heads"]["outputs"][i] for i in layers[0]["copied"]]
    for head in heads:
        assert (head["status"], head["reason"]) == ("adapted", f"outputs by name: {', '.join(names)}")
        assert head["transferred"] * head["target_shape"][0] == head["parameters"] * len(names)
    assert "head" not in report["coverage"]


def test_the_log_says_if_outputs_by_name_were_of_no_use(ready: Ready) -> None:
    folders, dataset, plans = ready
    source = load_source("t1_segmentation")
    weights = {key: -50 * value if "seg_layers" in key else value for key, value in source.tensors().items()}
    save_source(replace(source.card, extra={OUTPUTS: [["background", "class1"]]}), weights, overwrite=True)
    trainer = build(dataset, plans, "nnUNetTrainerT1Segmentation_byName_1epochs_1iterations_seed1", folders)
    trainer.on_train_start()
    assert not read_json(Path(trainer.output_folder) / "fitted_heads.json")["levels"][-1]["copied"]
    assert "no better here than constant outputs: all outputs are fitted" in Path(trainer.log_file).read_text()


def test_the_pull_keeps_weights_nearer_to_the_start(ready: Ready) -> None:
    folders, dataset, plans = ready
    source = save_random_source("t1_segmentation", folders / "preprocessed" / dataset / f"{plans}.json", "2d", seed=3)
    distance = {}
    for recipe, strength in (("warmup", None), ("l2sp", 5.0)):
        name = f"nnUNetTrainerT1Segmentation{'_l2sp' if strength else ''}_4epochs_4iterations_seed2"
        trainer = build(dataset, plans, name, folders)
        if strength:
            stronger = replace(RECIPES["l2sp"], start_pull=strength)
            trainer.__class__ = type(name, (type(trainer),), {"recipe": stronger})
        trainer.run_training()
        weights = unwrapped(trainer.network).state_dict()
        keys = [k for k in source if k.endswith("conv.weight") and "seg_layers" not in k]
        distance[recipe] = sum(float((weights[k] - source[k]).square().sum()) for k in keys)
    assert distance["l2sp"] < distance["warmup"]


def test_in_process_validation_writes_what_nnunet_writes(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as host

    _, dataset, plans = ready
    trainer = train(dataset, plans, "nnUNetTrainerScratch_1epochs_1iterations")
    summary = Path(trainer.output_folder) / "validation" / "summary.json"
    ours = read_json(summary)
    summary.unlink()
    monkeypatch.setattr(host, "default_num_processes", 1)
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    trainer.perform_actual_validation()
    stock = read_json(summary)
    assert ours.keys() == stock.keys()
    assert ours["metric_per_case"] == stock["metric_per_case"]
    assert ours["foreground_mean"] == pytest.approx(stock["foreground_mean"], nan_ok=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f, d, p: shutil.rmtree(f / "results/sources"), "t1_segmentation"),
        (lambda f, d, p: _flip_last_byte(f / "results/sources/t1_segmentation/weights.safetensors"), "sha256"),
        (lambda f, d, p: _set_fold(f, d, {"train": [], "val": ["case00"]}), "no training cases"),
        (lambda f, d, p: _set_fold(f, d, {"train": ["case01"], "val": []}), "no validation cases"),
        (lambda f, d, p: _set_fold(f, d, {"train": ["nobody"], "val": ["case00"]}), "nobody"),
    ],
)
def test_bad_input_ends_in_one_line_before_data_are_loaded(
    spoil, message: str, ready: Ready, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, dataset, plans = ready
    spoil(folders, dataset, plans)
    with pytest.raises(SystemExit) as stop:
        train(dataset, plans, "nnUNetTrainerT1Segmentation_1epochs_1iterations")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    assert not list((folders / "results").rglob("checkpoint_*"))


def _flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def _set_fold(folders: Path, dataset: str, fold: dict[str, list[str]]) -> None:
    write_json(folders / "preprocessed" / dataset / "splits_final.json", [fold])


def test_weights_that_do_not_fit_refuse_to_train(ready: Ready) -> None:
    folders, dataset, plans = ready
    path = folders / "preprocessed" / dataset / f"{plans}.json"
    wider = read_json(path)
    kwargs = wider["configurations"]["2d"]["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [2 * f for f in kwargs["features_per_stage"]]
    write_json(folders / "wider.json", wider)
    save_random_source("t1_segmentation", folders / "wider.json", "2d", labels=2)
    with pytest.raises(SystemExit, match="encoder"):
        train(dataset, plans, "nnUNetTrainerT1Segmentation_1epochs_1iterations")


def test_the_rules_in_the_plans_are_followed(ready: Ready) -> None:
    folders, dataset, plans = ready
    path = folders / "preprocessed" / dataset / f"{plans}.json"
    content = read_json(path)
    kwargs = content["configurations"]["2d"]["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [2 * f for f in kwargs["features_per_stage"]]
    content["transfer"]["rules"] = {"widths": "leading", "minimum_encoder": 0.2}
    write_json(path, content)
    trainer = train(dataset, plans, "nnUNetTrainerT1Segmentation_1epochs_1iterations")
    report = read_json(Path(trainer.output_folder) / "transfer_report.json")
    assert 0.2 < report["coverage"]["encoder"] < 0.3
    assert report["minimum_encoder"] == 0.2
    content["transfer"]["rules"] = {"width": "leading"}
    write_json(path, content)
    with pytest.raises(SystemExit, match="there is no rule width"):
        train(dataset, plans, "nnUNetTrainerT1Segmentation_1epochs_1iterations_seed2")


def test_pretrained_weights_of_the_host_are_refused(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.run.run_training import maybe_load_checkpoint

    folders, dataset, plans = ready
    first = build(dataset, plans, "nnUNetTrainerScratch", folders, fold=1)
    first.initialize()
    checkpoint = str(folders / "other.pth")
    torch.save({"network_weights": first.network.state_dict()}, checkpoint)
    monkeypatch.setenv("nnUNet_source_name", "other")
    # the card of a pretrainer's source would not say what these weights were trained on
    for name in ("nnUNetTrainerScratch", "nnUNetPretrainerSegmentation"):
        trainer = build(dataset, plans, f"{name}_1epochs_1iterations", folders)
        maybe_load_checkpoint(trainer, False, False, checkpoint)
        with pytest.raises(SystemExit, match="drop -pretrained_weights"):
            trainer.run_training()


def test_transfer_arm_needs_plans_that_name_a_source(ready: Ready) -> None:
    _, dataset, plans = ready
    with pytest.raises(SystemExit, match="nnunet_transfer plan -d"):
        train(dataset, plans, "nnUNetTrainerTransfer_1epochs_1iterations")
