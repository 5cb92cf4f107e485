"""The pretrainers in nnU-Net's own training loop: sources, summaries, validation, and refusals in one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_transfer.adaptation import transfer_weights
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import PRETRAINERS
from nnunet_transfer.sources import list_sources, load_source
from nnunet_transfer.sources.outputs import OUTPUTS
from tests.nnunet_data import make_folders
from tests.pretraining_runs import (
    ALL,
    CASES,
    CONFIGURATIONS,
    CPU,
    WITHOUT_MASKS,
    Prepared,
    Run,
    a_run,
    refusal,
    refuse_loading,
)

pytestmark = pytest.mark.usefixtures("cheap")


@pytest.fixture
def run(request: pytest.FixtureRequest, prepared: Prepared, nnunet_folders: Path) -> Run:
    """A run in 2D, or in the configuration that the test is parametrised with."""
    return a_run(prepared, getattr(request, "param", "2d"), nnunet_folders)


#: the shortest training that there is
SHORTEST = "_1epochs_1iterations"
Finished = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def finished(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return the folders with a finished training of a pretrainer in a configuration; it is trained once."""
    kept: dict[tuple[str, str], Path] = {}

    def folders(base: str, configuration: str) -> Path:
        if (base, configuration) not in kept:
            kept[base, configuration] = root = tmp_path_factory.mktemp(base)
            with pytest.MonkeyPatch.context() as patch:
                make_folders(root, patch)
                a_run(prepared, configuration, root).train(base + SHORTEST)
        return kept[base, configuration]

    return folders


@pytest.fixture
def finished_run(base: str, finished: Finished, run: Run) -> Run:
    """A run in which the pretrainer `base` of the test has ended its shortest training."""
    shutil.copytree(finished(base, run.configuration) / "results", run.folders / "results", dirs_exist_ok=True)
    return run


@pytest.fixture
def single_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that must end before data are loaded."""
    refuse_loading(monkeypatch)
    return run


in_2d_and_3d = pytest.mark.parametrize("run", list(CONFIGURATIONS), indirect=True)


@in_2d_and_3d
@pytest.mark.parametrize("base", ALL)
def test_a_finished_pretraining_leaves_a_source_that_loads_completely(base: str, finished_run: Run) -> None:
    run = finished_run
    trainer = run.build(base + SHORTEST)
    (card,) = list_sources()
    assert (card.task, card.domain) == (PRETRAINERS[base], "t1")
    assert (card.input_channels, card.channel_names) == (1, ("T1",))
    assert card.patch_size == CONFIGURATIONS[run.configuration][1]
    assert card.trained_on == (run.dataset,)
    assert list(card.trained_on_cases) == read_json(run.preprocessed / "splits_final.json")[0]["train"]
    assert card.extra["fold"] == 0

    torch.manual_seed(5)
    network = nnUNetTrainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 4, True)
    report = transfer_weights(network, load_source(card.name), scope=card.parts)
    assert report.coverage["encoder"] == pytest.approx(1.0)
    trained = torch.load(run.output(base + SHORTEST) / "checkpoint_final.pth", weights_only=False)
    parts = ("encoder.",) if card.parts == "encoder" else ("encoder.", "decoder.stages.", "decoder.transpconvs.")
    loaded = network.state_dict()
    keys = [key for key in loaded if key.startswith(parts)]
    assert keys
    assert all(torch.equal(loaded[key], trained["network_weights"][key]) for key in keys)
    tensors = load_source(card.name).tensors()
    # a segmentation's outputs are kept with the names of their labels, those of other tasks are dropped
    assert any("seg_layers" in key for key in tensors) == (OUTPUTS in card.extra) == (card.task == "segmentation")
    assert not [key for key in tensors if "head" in key]


@pytest.mark.parametrize("base", WITHOUT_MASKS)
def test_validation_alone_needs_neither_source_nor_training(base: str, finished_run: Run) -> None:
    run, name = finished_run, base + SHORTEST
    path = run.output(name) / "validation" / "summary.json"
    summary = path.read_text()
    path.unlink()
    shutil.rmtree(run.folders / "results" / "sources")
    trainer = run.build(name)
    maybe_load_checkpoint(trainer, continue_training=False, validation_only=True)
    trainer.perform_actual_validation()
    assert path.read_text() == summary
    assert list_sources() == []


def _validate(run: Run, name: str, fold: int) -> None:
    trainer = run.build(name, fold)
    maybe_load_checkpoint(trainer, continue_training=False, validation_only=True)
    trainer.perform_actual_validation()


@pytest.mark.parametrize("base", ["nnUNetPretrainerSelfSupervised"])
def test_a_validation_leaves_the_verdict_on_the_source_of_another_training(base: str, finished_run: Run) -> None:
    run, name = finished_run, base + SHORTEST
    run.train(name, fold=1)
    path = run.folders / "results" / "sources" / "t1_self_supervised" / "source.json"
    card = read_json(path)
    verdict = card["extra"]["learning"]
    card["extra"]["learning"] = other = {**verdict, "value": 0.9}
    write_json(path, card)

    _validate(run, name, 0)
    assert read_json(path)["extra"]["learning"] == other
    for key, value in (("plans", "nnUNetPlans_other"), ("fold", 0)):
        write_json(path, {**card, "extra": {**card["extra"], key: value}})
        _validate(run, name, 1)
        assert read_json(path)["extra"]["learning"] == other
    write_json(path, {**card, "trained_on_cases": card["trained_on_cases"][1:]})
    _validate(run, name, 1)
    assert read_json(path)["extra"]["learning"] == other

    write_json(path, card)
    _validate(run, name, 1)
    assert read_json(path)["extra"]["learning"] == verdict


def test_the_best_checkpoint_is_no_verdict_on_the_source_of_the_final_weights(run: Run) -> None:
    name = "nnUNetPretrainerSelfSupervised_2epochs_1iterations_seed1"
    run.train(name)
    path = run.folders / "results" / "sources" / "t1_self_supervised" / "source.json"
    card = read_json(path)
    card["extra"]["learning"]["value"] = 0.9
    write_json(path, card)
    content = torch.load(run.output(name) / "checkpoint_final.pth", weights_only=False)
    best = run.output(name) / "checkpoint_best.pth"
    torch.save({**content, "current_epoch": 1}, best)
    trainer = run.build(name)
    trainer.load_checkpoint(str(best))
    trainer.perform_actual_validation()
    assert read_json(path) == card
    assert "This checkpoint is not the source" in Path(trainer.log_file).read_text()


@pytest.mark.parametrize("base", WITHOUT_MASKS)
def test_prediction_is_refused_because_there_are_no_masks(base: str, finished_run: Run) -> None:
    run, name = finished_run, base + SHORTEST
    with pytest.raises(SystemExit) as caught:
        nnUNetPredictor(device=CPU).initialize_from_trained_model_folder(
            str(run.output(name).parent), use_folds=(0,), checkpoint_name="checkpoint_final.pth"
        )
    assert "predicts no masks" in refusal(caught)


@pytest.mark.parametrize("base", WITHOUT_MASKS)
def test_fold_all_says_that_it_validates_on_training_cases(base: str, run: Run) -> None:
    name = f"{base}_1epochs_1iterations"
    run.train(name, fold="all")
    summary = read_json(run.output(name, "all") / "validation" / "summary.json")
    assert summary["validated_on_training_cases"]
    assert summary["n_cases"] == CASES
    (card,) = list_sources()
    assert card.extra["fold"] == "all"
    assert card.extra["learning"]["score"].endswith(" of training cases")
    assert "of training cases" in Path(next(run.output(name, "all").glob("training_log_*"))).read_text()


def test_retraining_replaces_the_source_and_another_data_set_does_not(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run.train("nnUNetPretrainerSelfSupervised_1epochs_1iterations_seed1")
    sha256 = load_source("t1_self_supervised").card.sha256
    run.train("nnUNetPretrainerSelfSupervised_1epochs_1iterations_seed2", fold=1)
    card = load_source("t1_self_supervised").card
    assert card.sha256 != sha256
    assert card.extra["fold"] == 1

    path = run.folders / "results" / "sources" / card.name / "source.json"
    write_json(path, read_json(path) | {"trained_on": ["Dataset999_Other"]})
    trainer = run.build("nnUNetPretrainerSelfSupervised_1epochs_1iterations_seed1")
    with pytest.raises(SystemExit) as caught:
        trainer.on_train_start()
    assert "source t1_self_supervised already exists, from Dataset999_Other" in refusal(caught)
    # a name that the registry wouldn't take is refused before the first epoch, not after the last
    monkeypatch.setenv("nnUNet_source_name", "my__src")
    with pytest.raises(SystemExit) as caught:
        run.build(first.__class__.__name__).on_train_start()
    assert "'my__src' can't name a source" in refusal(caught)
    monkeypatch.setenv("nnUNet_source_name", "mine")
    trainer = run.build(first.__class__.__name__)
    trainer.on_train_start()
    assert trainer.source_card().name == "mine"


def test_a_full_disk_loses_nothing_but_the_source_and_continuing_writes_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "nnUNetPretrainerSelfSupervised_1epochs_1iterations"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("nnunet_transfer.pretraining.trainer.save_source", full)
        with pytest.raises(SystemExit) as caught:
            run.train(name)
    assert "no space left to write the source t1_self_supervised" in refusal(caught)
    assert list_sources() == []
    weights = torch.load(run.output(name) / "checkpoint_final.pth", weights_only=False)["network_weights"]
    run.train(name, continue_training=True)
    tensors = load_source("t1_self_supervised").tensors()
    assert all(torch.equal(tensors[key], weights[key]) for key in tensors)


@pytest.mark.parametrize("base", WITHOUT_MASKS)
def test_a_full_disk_in_validation_leaves_no_half_summary(
    base: str, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run, name = finished_run, base + SHORTEST
    (run.output(name) / "validation" / "summary.json").unlink()
    trainer = run.build(name)
    maybe_load_checkpoint(trainer, continue_training=False, validation_only=True)
    monkeypatch.setattr("nnunet_transfer.pretraining.task_trainer.write_json", full)
    with pytest.raises(SystemExit) as caught:
        trainer.perform_actual_validation()
    assert "validate again with --val" in refusal(caught)
    assert not (run.output(name) / "validation" / "summary.json").exists()


def _remove_classes(run: Run) -> None:
    (run.folders / "raw" / run.dataset / "classes.csv").unlink()


def _rename_case(run: Run) -> None:
    path = run.folders / "raw" / run.dataset / "classes.csv"
    path.write_text(path.read_text().replace("case03", "case99"))


def _train_on_one_class(run: Run) -> None:
    write_json(run.preprocessed / "splits_final.json", [{"train": ["case00", "case01"], "val": ["case02", "case04"]}])


def _empty_training(run: Run) -> None:
    write_json(run.preprocessed / "splits_final.json", [{"train": [], "val": ["case02"]}])


def _damage_source(run: Run) -> None:
    folder = run.folders / "results" / "sources" / "t1_classification"
    folder.mkdir(parents=True)
    (folder / "source.json").write_text("{")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_remove_classes, "has no classes.csv"),
        (_rename_case, "case case99 is not in the data set"),
        (_train_on_one_class, "no training case of the fold has the class striped"),
        (_empty_training, "no training cases"),
        (_damage_source, "not valid JSON"),
    ],
)
def test_bad_input_ends_in_one_line_before_data_are_loaded(fault: Any, message: str, single_run: Run) -> None:
    fault(single_run)
    trainer = single_run.build("nnUNetPretrainerClassification_1epochs_1iterations")
    with pytest.raises(SystemExit) as caught:
        trainer.on_train_start()
    assert message in refusal(caught)


@pytest.mark.parametrize("base", ["nnUNetPretrainerClassification"])
def test_other_classes_than_the_checkpoints_are_refused(base: str, finished_run: Run) -> None:
    run, name = finished_run, base + SHORTEST
    path = run.folders / "raw" / run.dataset / "classes.csv"
    path.write_text(path.read_text().replace("plain", "even"))
    trainer = run.build(name, continue_training=True)
    with pytest.raises(SystemExit) as caught:
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert "has the classes even, striped" in refusal(caught)


@pytest.mark.parametrize("base", WITHOUT_MASKS)
def test_an_empty_validation_fold_is_refused_by_validation_alone(base: str, finished_run: Run) -> None:
    run, name = finished_run, base + SHORTEST
    write_json(run.preprocessed / "splits_final.json", [{"train": ["case00", "case02"], "val": []}])
    trainer = run.build(name)
    record = Path(trainer.output_folder) / "provenance.json"
    content = read_json(record)
    del content["run"]["cases_sha256"]  # as earlier versions wrote it; otherwise other cases are refused first
    write_json(record, content)
    maybe_load_checkpoint(trainer, continue_training=False, validation_only=True)
    with pytest.raises(SystemExit) as caught:
        trainer.perform_actual_validation()
    assert "no validation cases" in refusal(caught)
