"""Pre-training on pooled data sets, from the pool command to an arm that starts from the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process, unwrapped
from nnunet_transfer.cli import main
from nnunet_transfer.files import read_json, write_json, write_text
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.sources import list_sources, load_source
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import make_folders, write_blob_dataset
from tests.pretraining_runs import CONFIGURATIONS, CPU, Prepared, Run, a_run, one_of_two, refusal, refuse_loading
from tests.warm import start_two

pytestmark = pytest.mark.usefixtures("cheap")
PRETRAINER = "nnUNetPretrainerSegmentation"
#: set -> what it calls its structure, which of the two in every image that is, and its number of cases
SETS = {"Bright": ("box", 1, 4), "Brighter": ("box", 2, 6)}


def _write_sets(raw: Path, shape: tuple[int, int, int]) -> None:
    """Write two sets of images with the same two structures, of which each set has one labelled."""
    for number, (name, (label, kept, cases)) in enumerate(SETS.items(), start=511):
        dataset = write_blob_dataset(raw, number, name=name, cases=cases, shape=shape, labels=2, seed=number)
        for path in (raw / dataset / "labelsTr").iterdir():
            image = nib.load(path)
            own = (np.asarray(image.dataobj) == kept).astype(np.uint8)
            nib.save(nib.Nifti1Image(own, image.affine), path)
        content = read_json(raw / dataset / "dataset.json")
        write_json(raw / dataset / "dataset.json", content | {"labels": {"background": 0, label: 1}})
        names = [f"case{i:02d}" for i in range(cases)]
        folds = [{"train": names[1 - k :: 2], "val": names[k::2]} for k in range(2)]
        write_json(raw / dataset / "splits_final.json", folds)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The pool, preprocessed for each configuration."""
    result = {}
    for configuration, (shape, patch) in CONFIGURATIONS.items():
        root = tmp_path_factory.mktemp(configuration)
        with pytest.MonkeyPatch.context() as patcher:
            make_folders(root, patcher)
            _write_sets(root / "raw", shape)
            assert main(["pool", "-d", "511", "512", "--id", "520", "--name", "Pooled"]) == 0
            dataset = "Dataset520_Pooled"
            extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
            plans = write_transfer_plans(
                dataset, profile="demo", configurations=[configuration], patch_size=patch, batch_size=4
            ).stem
            preprocess_in_process(dataset, plans, [configuration])
            assert main(["install-splits", "-d", "520"]) == 0
        result[configuration] = (root, dataset, plans)
    return result


@pytest.fixture
def run(request: pytest.FixtureRequest, prepared: Prepared, nnunet_folders: Path) -> Run:
    return a_run(prepared, getattr(request, "param", "2d"), nnunet_folders)


def _predicted(run: Run, name: str) -> dict[str, set[int]]:
    files = sorted((run.output(name) / "validation").glob("*.nii.gz"))
    return {path.name.split(".")[0]: set(np.unique(nib.load(path).dataobj).tolist()) for path in files}


@pytest.mark.parametrize("run", list(CONFIGURATIONS), indirect=True)
def test_an_arm_starts_from_a_source_of_several_sets(run: Run) -> None:
    name = f"{PRETRAINER}_1epochs_2iterations_seed1"
    trainer = run.train(name)
    network = unwrapped(trainer.network)
    assert all(layer.out_channels == 4 for layer in network.decoder.seg_layers)
    card = load_source("t1_segmentation").card
    assert card.trained_on == ("Dataset520_Pooled", "Dataset511_Bright", "Dataset512_Brighter")
    assert card.extra["label_sets"] == {"Bright": {"box": 1}, "Brighter": {"box": 2}}
    assert card.extra["label_set_cases"] == {"Bright": 2, "Brighter": 3}
    allowed = {"Bright": {0, 1}, "Brighter": {0, 2}}
    predicted = _predicted(run, name)
    assert sorted(predicted) == sorted(trainer.do_split()[1])
    assert all(values <= allowed[case.split("_")[0]] for case, values in predicted.items())

    arm = run.build("nnUNetTrainerT1Segmentation_1epochs_1iterations")
    arm.initialize()
    arm.prepare_fresh_network()
    tensors, loaded = load_source("t1_segmentation").tensors(), arm.network.state_dict()
    assert {"encoder", "decoder"} <= {key.split(".")[0] for key in tensors}
    # the source keeps its heads; an arm takes them over by name only where its recipe says so
    body = {key: tensor for key, tensor in tensors.items() if "seg_layers" not in key}
    assert all(torch.equal(loaded[key], tensor) for key, tensor in body.items())


def test_online_dice_counts_each_cases_own_labels(run: Run) -> None:
    trainer = run.build(f"{PRETRAINER}_seed3")
    trainer.initialize()
    _, loader = trainer.get_dataloaders()
    batch = next(batch for batch in iter(loader) if len({str(key).split("_")[0] for key in batch["keys"]}) == 2)
    trainer.network.eval()
    outputs = trainer.network(batch["data"])[0]  # with gradients, as in training: of all sets
    target = batch["target"][0].numpy().copy()
    expected = np.zeros((3, 2), int)
    for row, key in enumerate(batch["keys"]):
        value, group = (2, slice(2, 4)) if str(key).startswith("Brighter") else (1, slice(0, 2))
        found = (outputs[row, group].argmax(0) == 1).numpy()
        true = target[row, 0] == value
        expected[:, value - 1] += [(found & true).sum(), (found & ~true).sum(), (~found & true).sum()]
    with torch.no_grad():
        result = trainer.validation_step(batch)
    assert np.array_equal([result["tp_hard"], result["fp_hard"], result["fn_hard"]], expected)
    assert expected.sum() > 0


@pytest.mark.slow
def test_each_set_learns_its_own_structure_of_the_two_in_every_image(run: Run) -> None:
    name = f"{PRETRAINER}_6epochs_60iterations_seed1"
    trainer = run.train(name)
    summary = read_json(run.output(name) / "validation" / "summary.json")
    assert summary["mean"]["1"]["Dice"] > 0.7
    assert summary["mean"]["2"]["Dice"] > 0.7
    for case in summary["metric_per_case"]:
        own, other = ("2", "1") if "Brighter" in case["prediction_file"] else ("1", "2")
        assert case["metrics"][own]["Dice"] > 0.5
        assert case["metrics"][other]["n_pred"] == case["metrics"][other]["n_ref"] == 0
    pseudo = trainer.logger.get_value("dice_per_class_or_region", step=-1)
    assert len(pseudo) == 2
    assert min(pseudo) > 0.6


def test_one_set_is_trained_as_nnunet_trains_it(run: Run) -> None:
    name = f"{PRETRAINER}_2epochs_3iterations_seed2"
    content = read_json(run.preprocessed / "dataset.json")
    del content["label_sets"], content["pooled_from"]
    write_json(run.preprocessed / "dataset.json", content)
    plain = unwrapped(run.train(name).network).state_dict()

    run.set_in_dataset_json(label_sets={"Both": {"box": 1, "other box": 2}})
    cases = sorted(path.name.split(".")[0] for path in (run.raw / "labelsTr").iterdir())
    write_text(run.raw / "label_sets.csv", "case,set\n" + "".join(f"{case},Both\n" for case in cases))
    trainer = run.train(name)
    assert trainer.label_sets is not None
    pooled = unwrapped(trainer.network).state_dict()
    assert all(torch.allclose(plain[key], pooled[key], atol=1e-6) for key in plain)


def test_an_interrupted_training_ends_like_a_straight_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{PRETRAINER}_2epochs_2iterations_seed4"
    straight = unwrapped(run.train(name).network).state_dict()
    (run.folders / "results").rename(run.folders / "straight")
    cls = get_trainer_class(name)
    end = cls.on_epoch_end

    def interrupt(self: Any) -> None:
        self.save_every = 1
        end(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cls, "on_epoch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train(name)
    assert list_sources() == []
    resumed = unwrapped(run.train(name, continue_training=True).network).state_dict()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_other_label_sets_than_the_models_are_refused_and_so_is_prediction(run: Run) -> None:
    name = f"{PRETRAINER}_1epochs_1iterations"
    run.train(name)
    with pytest.raises(SystemExit) as caught:
        nnUNetPredictor(device=CPU).initialize_from_trained_model_folder(
            str(run.output(name).parent), use_folds=(0,), checkpoint_name="checkpoint_final.pth"
        )
    assert "pre-trained on several label sets" in refusal(caught)
    # the same sets, but the outputs would be in another order
    run.set_in_dataset_json(label_sets={"Brighter": {"box": 2}, "Bright": {"box": 1}})
    trainer = run.build(name, continue_training=True)
    with pytest.raises(SystemExit) as caught:
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert "has the label sets Brighter, Bright" in refusal(caught)


def test_outputs_of_several_sets_are_not_fitted(run: Run) -> None:
    with pytest.raises(SystemExit) as caught:
        run.build(f"{PRETRAINER}_fitted_1epochs_1iterations").on_train_start()
    assert "take _adamw" in refusal(caught)


def _drop_a_set_from_training(run: Run) -> None:
    write_json(
        run.preprocessed / "splits_final.json",
        [{"train": ["Bright_case00", "Bright_case01"], "val": ["Brighter_case00"]}],
    )


def _forget_the_table(run: Run) -> None:
    (run.raw / "label_sets.csv").unlink()


def _contradict_the_labels(run: Run) -> None:
    run.set_in_dataset_json(label_sets={"Bright": {"box": 1}})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_drop_a_set_from_training, "no training case of the set Brighter"),
        (_forget_the_table, "has no label_sets.csv"),
        (_contradict_the_labels, "must give each label's value to one set"),
    ],
)
def test_bad_input_ends_in_one_line_before_data_are_loaded(
    fault: Any, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_loading(monkeypatch)
    fault(run)
    trainer = run.build(f"{PRETRAINER}_1epochs_1iterations")
    with pytest.raises(SystemExit) as caught:
        trainer.on_train_start()
    assert message in refusal(caught)


def _rank(rank: int, folders: str, dataset: str, plans: str, name: str) -> None:
    with one_of_two(rank, Run(Path(folders), dataset, plans, "2d"), name) as trainer:
        trainer.loss = trainer._build_loss()
        trainer.run_training()


@pytest.mark.slow
def test_two_processes_whose_batches_hold_different_sets_train_one_network(run: Run) -> None:
    # a second epoch would fail if a parameter had got no gradient in the first
    name = f"{PRETRAINER}_2epochs_3iterations_seed1"
    start_two(_rank, str(run.folders), run.dataset, run.plans, name)
    first, second = (torch.load(run.folders / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert load_source("t1_segmentation").card.extra["label_set_cases"] == {"Bright": 2, "Brighter": 3}
