"""Models for people who have only nnU-Net: the same logits where this package can't be imported."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

from nnunet_transfer.cli import main
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.sharing import export_stock
from nnunet_transfer.sources.leakage import donor_warnings
from nnunet_transfer.trainers import get_trainer_class
from tests.test_plans import planned_ready

#: in an environment without this package
STOCK = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nnunet_transfer":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import numpy as np, torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_import import install_model_from_zip_file

image = torch.from_numpy(np.load("image.npy"))
for archive, model in zip(sys.argv[1::2], sys.argv[2::2]):
    install_model_from_zip_file(archive)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, None)
    (fn,), (options,) = load_pickle(model + "/crossval_results_folds_0_1/postprocessing.pkl")
    assert fn(np.array([[1, 1, 0, 1]]), **options).tolist() == [[1, 1, 0, 0]]
    np.save(archive + ".npy", predictor.predict_logits_from_preprocessed_data(image).numpy())
assert not any(name.startswith("nnunet_transfer") for name in sys.modules)
"""
LABELS: dict[str, dict[str, Any]] = {
    "labels": {"labels": {"background": 0, "x": 1, "y": 2}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]},
    "ignore": {"labels": {"background": 0, "x": 1, "ignore": 2}},
}


#: as `determine_postprocessing` pickles it
KEPT_LARGEST = [remove_all_but_largest_component_from_segmentation], [{"labels_or_regions": [1]}]


def trained(folders: Path, number: int, name: str, trainer: str, **dataset: Any) -> Path:
    """Write a model as a training leaves it, with two folds of random weights; return its folder."""
    dataset_name = planned_ready(folders, number, (6, 32, 32), name=name)
    raw = folders / "raw" / dataset_name / "dataset.json"
    content = {**read_json(raw), **dataset}
    write_json(raw, content)
    plans = read_json(write_transfer_plans(dataset_name, profile="demo", configurations=["2d"], patch_size=(32, 32)))
    data = folders / "preprocessed" / dataset_name / plans["configurations"]["2d"]["data_identifier"]
    data.mkdir()
    (data / "case00.b2nd").touch()
    for fold in (0, 1):
        own = get_trainer_class(trainer)(
            {**plans, "continue_training": False}, "2d", fold, content, torch.device("cpu")
        )
        own.initialize()
        # what a training's loaders set
        own.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        own.save_checkpoint(os.path.join(own.output_folder, "checkpoint_final.pth"))
        write_json(Path(own.output_folder) / "transfer_report.json", {"source": "s", "licence": "CC BY-NC"})
    model = Path(own.output_folder_base)
    write_json(model / "plans.json", plans)
    write_json(model / "dataset.json", content)
    write_json(model / "dataset_fingerprint.json", {})
    # what nnUNetv2_find_best_configuration leaves
    best = model / "crossval_results_folds_0_1"
    best.mkdir()
    save_pickle(KEPT_LARGEST, str(best / "postprocessing.pkl"))
    write_json(best / "postprocessing.json", {"postprocessing_fns": [KEPT_LARGEST[0][0].__name__]})
    write_json(best / "summary.json", {"metric_per_case": [{"prediction_file": str(best)}]})
    return model


def logits(model: Path, image: torch.Tensor) -> np.ndarray:
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), None)
    return predictor.predict_logits_from_preprocessed_data(image).numpy()


def test_stock_nnunet_predicts_the_same_without_this_package(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 2, 40, 40)
    np.save(nnunet_folders / "image.npy", image.numpy())
    arguments, expected = [], {}
    for number, (name, dataset) in enumerate(LABELS.items(), start=21):
        trainer = "nnUNetTrainerScratch_lpft_noMirroring_2epochs" if name == "labels" else "nnUNetTrainerScratch_seed1"
        model = trained(nnunet_folders, number, name, trainer, **dataset)
        archive = nnunet_folders / f"{name}.zip"
        assert main(["export-stock", str(model), "-o", str(archive)]) == 0
        said = capsys.readouterr().out
        assert "fine-tuned from s, licence CC BY-NC" in said
        assert "-pp_pkl_file MODEL/crossval_results_folds_0_1/postprocessing.pkl" in said
        expected[archive] = logits(model, image)
        stock = model.name.replace(trainer, "nnUNetTrainer")
        arguments += [str(archive), str(nnunet_folders / "elsewhere" / model.parent.name / stock)]
    (nnunet_folders / "elsewhere").mkdir()
    environment = {**os.environ, "nnUNet_results": str(nnunet_folders / "elsewhere"), "nnUNet_def_n_proc": "1"}
    for variable in ("nnUNet_extTrainer", "PYTHONPATH"):
        environment.pop(variable, None)
    command = [sys.executable, "-c", STOCK, *arguments]
    run = subprocess.run(command, cwd=nnunet_folders, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for archive, own in expected.items():
        assert np.array_equal(np.load(f"{archive}.npy"), own), archive.name
        assert own.std() > 0


@pytest.fixture
def model(nnunet_folders: Path) -> Path:
    return trained(nnunet_folders, 21, "X", "nnUNetTrainerScratch")


def test_a_folder_or_an_export_of_nnunets_becomes_a_folder(model: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for path in model.rglob("*"):
            z.write(path, path.relative_to(model.parents[1]))
    for given, folds in ((model, ["-f", "1"]), (archive, [])):
        assert main(["export-stock", str(given), "-o", str(tmp_path / "out"), *folds, "--overwrite"]) == 0
        stock = tmp_path / "out" / model.parent.name / "nnUNetTrainer__nnUNetPlans_demo__2d"
        found = {p.relative_to(stock).as_posix() for p in stock.rglob("*.pth")}
        assert found == {f"fold_{k}/checkpoint_final.pth" for k in (folds[1:] or (0, 1))}
        files = {p.relative_to(stock).as_posix() for p in stock.rglob("*") if p.is_file()}
        same = {"plans.json", "dataset.json", "dataset_fingerprint.json"}
        if not folds:
            same |= {f"crossval_results_folds_0_1/postprocessing.{ending}" for ending in ("pkl", "json")}
        assert files == found | {f"fold_{k}/transfer_report.json" for k in (folds[1:] or (0, 1))} | same
        assert all((stock / name).read_bytes() == (model / name).read_bytes() for name in same)


def test_donors_of_lesions_stay_behind(nnunet_folders: Path) -> None:
    """dataset.json of synthesised data names them by case, and a warning if the source has seen them."""
    donors = {"lesion_donors": {"case00": "sub-r001s001"}}
    model = trained(nnunet_folders, 21, "X", "nnUNetTrainerScratch", **donors)
    (seen,) = donor_warnings(["sub-r001s001", "other (2)"], "Dataset021_X", ["sub-r001s001", "other (2)"])
    other = "a note (of another kind)"
    report = {"source": "s", "warnings": [seen, other]}
    write_json(model / "fold_0" / "transfer_report.json", report)
    exported = export_stock(model, nnunet_folders / "out", folds=["0"]).path
    assert read_json(exported / "dataset.json") == {
        key: value for key, value in read_json(model / "dataset.json").items() if key != "lesion_donors"
    }
    stored = torch.load(exported / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert stored["init_args"]["dataset_json"]["labels"]
    told = read_json(exported / "fold_0" / "transfer_report.json")
    assert told == {**report, "warnings": [seen.replace(" (other (2), sub-r001s001)", ""), other]}
    assert "2 of the source's 2 lesion donors are in Dataset021_X, too;" in told["warnings"][0]
    assert not any(b"sub-r001s001" in path.read_bytes() for path in exported.rglob("*") if path.is_file())


class _Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


NOT_OF_NNUNET = {
    "calls": pickle.dumps(([_Runs()], [{}])),
    **{f"names, protocol {k}": pickle.dumps(([os.mkdir], [{"labels_or_regions": 1}]), k) for k in (2, 4)},
    "too long": pickle.dumps((KEPT_LARGEST[0], [{"labels_or_regions": [1] * (1 << 16)}])),
    "cut off": b"\x80\x04\x8c\xff",
    "empty": b"",
}


def test_postprocessing_that_names_more_than_nnunets_stays_behind(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, program in NOT_OF_NNUNET.items():
        caplog.clear()
        (model / "crossval_results_folds_0_1" / "postprocessing.pkl").write_bytes(program)
        assert main(["export-stock", str(model), "-o", "out", "--overwrite"]) == 0
        assert "postprocessing.pkl asks for more than nnU-Net's postprocessing: it isn't exported" in caplog.text, name
        assert not list(Path("out").rglob("*.pkl")), name
    assert not Path("ran").exists()


def _checkpoint(model: Path, **changes: Any) -> None:
    path = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(path, weights_only=False), **changes}, path)


def _plans(model: Path, change: Any) -> None:
    content = read_json(model / "plans.json")
    change(content, content["configurations"]["2d"])
    write_json(model / "plans.json", content)


OWN_NETWORK = "nnunet_transfer.networks.stunet.STUNet"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: _checkpoint(m, trainer_name="nnUNetPretrainerSimCLR_5epochs"), "predicts no masks"),
        (lambda m: _checkpoint(m, trainer_name="nnUNetTrainerOfALab"), "isn't a trainer of this package"),
        (lambda m: _checkpoint(m, trainer_name="nnUNetTrainerScratch_topK"), "isn't a trainer of this package"),
        (lambda m: _checkpoint(m, network_weights={"a": torch.zeros(1)}), "not those of the network in plans.json"),
        (lambda m: _checkpoint(m, init_args=None), "not a checkpoint of nnU-Net"),
        (lambda m: _checkpoint(m, inference_allowed_mirroring_axes=["x"]), "names axes ['x'] to mirror"),
        (lambda m: _plans(m, lambda p, c: c["architecture"].update(arch_kwargs=[])), "arch_kwargs are not a mapping"),
        (
            lambda m: _plans(m, lambda p, c: c["architecture"].update(network_class_name=OWN_NETWORK)),
            "needs nnunet_transfer",
        ),
        (lambda m: _plans(m, lambda p, c: c.update(preprocessor_name="Mine")), "name Mine as preprocessor_name"),
        (lambda m: _plans(m, lambda p, c: p.update(label_sets={})), "several label sets"),
        (lambda m: _plans(m, lambda p, c: c["architecture"]["arch_kwargs"].pop("strides")), "can't build"),
        (lambda m: _plans(m, lambda p, c: p.update(plans_name="../x")), "can't be folder names"),
        (lambda m: (m / "dataset.json").unlink(), "does not exist"),
        (
            lambda m: (m / "fold_0/checkpoint_final.pth").rename(m / "fold_0/a.pth"),
            "has no checkpoint_final.pth in fold_0",
        ),
    ],
)
def test_what_nnunet_alone_could_not_use_is_refused_in_one_line(
    spoil: Any, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(model)
    assert main(["export-stock", str(model), "-o", str(tmp_path / "x.zip"), "-f", "0"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.glob("*x.zip*"))


def test_a_checkpoint_given_by_its_path_is_not_overwritten(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model / "fold_0" / "checkpoint_final.pth"
    before = path.read_bytes()
    for given in (str(path), "../fold_0/checkpoint_final.pth", "fold_0/checkpoint_final.pth", "..", ""):
        assert main(["export-stock", str(model), "-o", str(tmp_path / "out"), "--checkpoint", given]) == 2
        assert "is not the name of a file in a fold's folder" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_a_training_of_nnunet_s_own_is_not_replaced(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second baseline, `nnUNetTrainer` with the same plans, has the name of an export."""
    export = ["export-stock", str(model), "-o", str(tmp_path), "--overwrite"]
    for _ in range(2):
        assert main(export) == 0
    log = tmp_path / model.parent.name / "nnUNetTrainer__nnUNetPlans_demo__2d" / "fold_0" / "training_log.txt"
    log.write_text("hours")
    capsys.readouterr()
    assert main(export) == 2
    assert "also holds fold_0/training_log.txt, which an export doesn't" in capsys.readouterr().err
    assert log.read_text() == "hours"


def test_an_archive_does_not_take_the_place_of_a_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x.ZIP"
    folder.mkdir()
    for options in ([], ["--overwrite"]):
        assert main(["export-stock", str(model), "-o", str(folder), *options]) == 2
        assert capsys.readouterr().err.strip().endswith("x.ZIP is a folder; choose another place")
    assert list(tmp_path.glob("*x.ZIP*/**")) == [folder]


#: leads from a folder `<trainer>__<plans>__<configuration>` in the output to a folder beside the output
OUTSIDE = "x/../../../Victim"


def _rename_configuration(model: Path, name: str) -> None:
    content = read_json(model / "plans.json")
    content["configurations"][name] = content["configurations"].pop("2d")
    write_json(model / "plans.json", content)
    for path in model.glob("fold_*/checkpoint_final.pth"):
        checkpoint = torch.load(path, weights_only=False)
        checkpoint["init_args"]["configuration"] = name
        torch.save(checkpoint, path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: _plans(m, lambda p, c: p.update(dataset_name="..")),
        lambda m: _plans(m, lambda p, c: p.update(dataset_name=7)),
        lambda m: _rename_configuration(m, OUTSIDE),
    ],
)
def test_names_in_a_model_lead_nowhere_else(
    spoil: Any, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(model)
    victim = tmp_path / "Victim"
    victim.mkdir()
    (victim / "plans.json").write_text("mine")
    zipped = tmp_path / "model.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in model.rglob("*"):
            archive.write(path, path.relative_to(model.parents[1]))
    before = sorted(tmp_path.rglob("*"))
    for given, output in ((model, "out"), (zipped, "out"), (model, "out.zip")):
        assert main(["export-stock", str(given), "-o", str(tmp_path / output), "--overwrite"]) == 2
        error = capsys.readouterr().err.strip()
        assert "can't be folder names" in error
        assert "\n" not in error
    assert sorted(tmp_path.rglob("*")) == before
    assert (victim / "plans.json").read_text() == "mine"
