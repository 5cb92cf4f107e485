"""Images from label maps: what they hold, that seeds decide all bytes, and whose lesions are in them."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.pool import plan_pool, pool
from nnunet_transfer.errors import DataError, SettingsError, TransferError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.sources.leakage import donor_warnings
from nnunet_transfer.subjects import donor_key
from nnunet_transfer.synthetic import synthesis
from nnunet_transfer.synthetic.donors import find_donors, read_mask
from nnunet_transfer.synthetic.generator import PROFILES, draw_parameters, generate
from nnunet_transfer.synthetic.settings import Settings, plan_synthesis
from nnunet_transfer.synthetic.synthesis import synthesize
from nnunet_transfer.synthetic.tissues import freesurfer_numbering
from tests.at_an_event.sitecustomize import environment as at_an_event
from tests.synthetic_heads import SHAPE, head, radius, save


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three label maps, six donors of two kinds, a real data set of two subjects."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        save(tmp_path / f"maps/seg_{name}.nii.gz", np.roll(head(), ord(name) - 98, axis=1))
    centres = rng.uniform(4, 7, (6, 3)) * rng.choice([-1, 1], (6, 3)) / np.sqrt(3)
    for i, centre in enumerate(centres):
        grid = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
        near = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < 6
        folder = "stroke" if i < 4 else "ms"
        save(tmp_path / f"{folder}/soop_{i:04d}_lesion.nii.gz", near.astype(np.uint8))
    real = tmp_path / "raw/Dataset012_Anatomy"
    for i in range(4):
        labels = np.select([radius() < 1.6, radius() < 5, radius() < 7], [3, 1, 2], 0).astype(np.uint8)
        noise = rng.normal(0, 10, SHAPE)
        image = (np.select([labels == 1, labels == 2, labels == 3], [800, 500, 200], 0) + noise * (labels > 0)).astype(
            np.int16
        )
        save(real / f"imagesTr/sub-{i // 2}_ses-{i}_0000.nii.gz", image)
        save(real / f"labelsTr/sub-{i // 2}_ses-{i}.nii.gz", labels)
    names = {"background": 0, "white matter": 1, "cortex": 2, "ventricles": 3}
    content = {"channel_names": {"0": "T1"}, "labels": names, "numTraining": 4, "file_ending": ".nii.gz"}
    write_json(real / "dataset.json", content | {"licence": "CC BY 4.0"})
    return tmp_path


def _settings(root: Path, **changes: Any) -> Settings:
    lesions = (f"stroke={root / 'stroke'}", f"ms={root / 'ms'}")
    usual = {"labels": str(root / "maps"), "dataset_id": 31, "count": 4, "lesions": lesions, "mask_space": "image"}
    return Settings(**(usual | changes))


def _real(root: Path, **changes: Any) -> Settings:
    return _settings(root, labels="12", images="real", dataset_id=33, **changes)


def _bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _load(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def _interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be interrupted in the middle of a later case, between image and label."""
    make, saved = synthesis.make_case, []

    def interrupted(plan: Any, case: Any, work: Path) -> Any:
        if len(saved) == count:
            (work / "imagesTr" / f"{case.name}_0000.nii.gz").write_bytes(b"half")
            raise KeyboardInterrupt
        saved.append(case.name)
        return make(plan, case, work)

    monkeypatch.setattr(synthesis, "make_case", interrupted)


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_same_seed_same_bytes_after_an_interrupt_and_for_other_numbers_of_cases(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wanted = (_real if kind == "real" else _settings)(root)
    folder = synthesize(plan_synthesis(wanted))
    first = _bytes_of(folder)
    folder.rename(root / "first")
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            synthesize(plan_synthesis(wanted))
    assert not folder.exists()
    assert _bytes_of(synthesize(plan_synthesis(wanted))) == first
    folder.rename(root / "second")
    # a case does not depend on how many there are, nor on other seeds' leftovers
    few = synthesize(plan_synthesis((_real if kind == "real" else _settings)(root, count=3)))
    same = [name for name in _bytes_of(few) if name.startswith(("imagesTr", "labelsTr"))]
    assert len(same) == 6
    assert all(_bytes_of(few)[name] == first[name] for name in same)
    few.rename(root / "third")
    other = _bytes_of(synthesize(plan_synthesis((_real if kind == "real" else _settings)(root, seed=5))))
    assert not {other[n] for n in other if n.startswith("imagesTr")} & set(first.values())


def test_cases_of_a_stopped_run_are_kept_only_if_they_would_be_made_again(root: Path) -> None:
    plans = [plan_synthesis(_settings(root, count=count)) for count in range(1, 7)]
    for fewer, more in itertools.combinations(plans, 2):
        same = more.cases[: len(fewer.cases)] == fewer.cases
        assert (fewer.state() == more.state()) == same, f"{len(fewer.cases)} and {len(more.cases)} cases"
    # the folds, and with them the donors, change until every label map is in use
    assert plans[0].state() != plans[1].state()
    assert plans[-2].state() == plans[-1].state()


@pytest.mark.slow
def test_several_processes_and_a_kill_change_no_byte(root: Path) -> None:
    wanted = _settings(root, count=6)
    alone = _bytes_of(synthesize(plan_synthesis(wanted)))
    (root / "raw/Dataset031_Synthetic").rename(root / "alone")
    command = [sys.executable, "-m", "nnunet_transfer.cli", "synthesize", str(root / "maps"), "-d", "31", "--n", "6"]
    command += ["--lesions", *wanted.lesions, "--mask-space", "image", "--processes", "2"]
    # each process stops with its first case of the second round
    stopped = at_an_event("*/records/*_v001.json", signal.SIGSTOP)
    process = subprocess.Popen(command, start_new_session=True, env=os.environ | stopped)
    records = root / "raw/.making-Dataset031_Synthetic/records"
    while not (records.is_dir() and len(list(records.glob("*.json"))) > 1):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True)
    assert _bytes_of(root / "raw/Dataset031_Synthetic") == alone


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_what_the_manifest_says_is_what_the_data_set_holds(root: Path, kind: str) -> None:
    wanted = (_real if kind == "real" else _settings)(root, count=10, leave_out=("SOOP-1", "soop_5"), folds=2)
    folder = synthesize(plan_synthesis(wanted))
    content, manifest = read_json(folder / "dataset.json"), read_json(folder / "synthesis.json")
    cases = {record["case"]: record for record in manifest["cases"]}
    assert content["numTraining"] == len(cases) == 10
    assert {p.name for p in (folder / "labelsTr").iterdir()} == {f"{c}.nii.gz" for c in cases}
    assert manifest["lesions"]["left_out"] == ["soop_0001", "soop_0005"]
    assert content["lesion_donors"] == {c: r["lesion"]["donor"] for c, r in cases.items()}
    assert set(content["lesion_donors"].values()) <= {"soop_0000", "soop_0002", "soop_0003", "soop_0004"}
    lesion = content["labels"]["lesion"]
    for name, record in cases.items():
        image, label = _load(folder / f"imagesTr/{name}_0000.nii.gz"), _load(folder / f"labelsTr/{name}.nii.gz")
        assert image.shape == label.shape
        assert image.dtype == np.int16
        assert 8 * (label == lesion).sum() / 1000 == pytest.approx(record["lesion"]["volume_ml"], abs=1e-4)
        assert set(np.unique(label)) <= set(content["labels"].values())
        if record.get("head", "brain") == "brain":
            assert not image[label == 0].any()
    splits = read_json(folder / "splits_final.json")
    donor = content["lesion_donors"]
    for fold in splits:
        assert {cases[c]["subject"] for c in fold["train"]}.isdisjoint({cases[c]["subject"] for c in fold["val"]})
        assert {donor[c] for c in fold["train"]}.isdisjoint({donor[c] for c in fold["val"]})
        assert sorted(fold["train"] + fold["val"]) == sorted(cases)
    assert content["made_from"] == (["Dataset012_Anatomy"] if kind == "real" else ["maps"])


def test_real_images_change_near_the_lesion_only(root: Path) -> None:
    folder = synthesize(plan_synthesis(_real(root)))
    for record in read_json(folder / "synthesis.json")["cases"]:
        before = root / f"raw/Dataset012_Anatomy/imagesTr/{record['label_map']}_0000.nii.gz"
        old, old_label = (
            np.asanyarray(nib.as_closest_canonical(nib.load(p)).dataobj)
            for p in (before, Path(str(before).replace("imagesTr", "labelsTr").replace("_0000", "")))
        )
        new, label = (
            _load(folder / p.format(record["case"])) for p in ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz")
        )
        near = ndimage.distance_transform_edt(label != 4) * 2 <= 6
        assert np.array_equal(new[~near], old[~near])
        assert (new != old).any()
        assert np.array_equal(label[label != 4], old_label[label != 4])
        # fluid is no place for a lesion
        assert not (label[old_label == 3] == 4).any()
        assert new[label == 4].mean() < old[label == 4].mean()
    assert read_json(folder / "dataset.json")["licence"] == "CC BY 4.0"


def test_intensities_are_the_drawn_ones_and_their_order_on_t1_is_the_tissues() -> None:
    numbering = freesurfer_numbering()
    clusters = ["fluid", "white matter", "cortex"]
    draws = [draw_parameters(numbering, clusters, PROFILES["t1"], np.random.default_rng(i)) for i in range(40)]
    assert all(d.means["white matter"] > d.means["cortex"] > d.means["fluid"] for d in draws)
    plain = replace(draws[0], bias=0.0, gamma=1.0, blur=0.0, thickness=0.5, thick_axis=None, noise=0.0)
    labels = np.where(head() == 507, 0, head()).astype(np.int32)
    made = generate(labels, labels < 0, np.full(3, 2.0), numbering, plain, seed=3)
    for cluster, value in (("white matter", 2), ("cortex", 3), ("fluid", 4)):
        found = made.image[made.labels == value]
        error = 4 * plain.textures[cluster] / np.sqrt(found.size)
        assert found.mean() == pytest.approx(plain.means[cluster], abs=error + 0.002)
    assert np.abs(made.image[made.labels == 0]).max() < 1e-4


def test_spacing_and_head_decide_the_grid(root: Path) -> None:
    folder = synthesize(plan_synthesis(_settings(root, count=3, head="whole", spacing=(2, 2, 4), lesions=())))
    for path in (folder / "labelsTr").iterdir():
        image = nib.load(str(path).replace("labelsTr", "imagesTr").replace(".nii.gz", "_0000.nii.gz"))
        assert np.allclose(image.header.get_zooms(), (2, 2, 4))
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        # skin has intensities but is no output label
        outside = np.asanyarray(image.dataobj)[_load(path) == 0]
        assert (outside > 0).mean() > 0.05


@pytest.mark.parametrize("text", ["\ufeffid;mask_source\r\n1;soop_0\r\n", "id, mask_source\n\n1, soop_0\n2\n"])
def test_a_table_of_donors_may_come_from_a_spreadsheet(root: Path, text: str) -> None:
    table = root / "cases.csv"
    table.write_text(text, encoding="utf-8", newline="")
    assert plan_synthesis(_settings(root, leave_out=(f"{table}:mask_source",))).left_out == ("soop_0000",)


def test_leaving_out_by_table_and_by_data_set(root: Path) -> None:
    table = root / "cases.tsv"
    table.write_text("id\tmask_source\n1\tsoop_0\n2\tlesymap_001\n")
    plan = plan_synthesis(_settings(root, leave_out=(f"{table}:mask_source",)))
    assert plan.left_out == ("soop_0000",)
    target = synthesize(plan_synthesis(_real(root, count=2)))
    used = set(read_json(target / "dataset.json")["lesion_donors"].values())
    plan = plan_synthesis(_settings(root, leave_out=(str(target),)))
    assert set(plan.left_out) == used
    assert used.isdisjoint({d.name for d in plan.donors})
    with pytest.raises(DataError, match="no column donor"):
        plan_synthesis(_settings(root, leave_out=(str(table),)))


def test_donors_may_be_named_by_their_masks_and_a_name_of_none_is_pointed_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = root / "masks.csv"
    table.write_text("mask\nstroke/soop_0000_lesion.nii.gz\n")
    plan = plan_synthesis(_settings(root, leave_out=(f"{table}:mask", "soop_0005_lesion.nii.gz")))
    assert plan.left_out == ("soop_0000", "soop_0005")
    assert "none of the masks" not in caplog.text
    table.write_text("donor\nS1\nS2\n")
    plan_synthesis(_settings(root, leave_out=("soop_55", str(table))))
    for name in ("soop_55", str(table)):
        assert f"--leave-out-donors {name}: none of the masks is of such a donor" in caplog.text


def test_kinds_with_few_donors_are_pointed_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan_synthesis(_settings(root, folds=2))
    assert not caplog.text
    plan = plan_synthesis(_settings(root, folds=3))
    assert {frozenset(donor.kind for donor in case.donors) for case in plan.cases} != {frozenset(("ms", "stroke"))}
    assert "fewer donors of a kind than folds (ms 2): some of the 3 folds lack it" in caplog.text


def test_donors_go_on_into_pools_and_are_compared_with_the_targets(root: Path) -> None:
    for dataset_id, name in ((33, "One"), (34, "Two")):
        synthesize(
            plan_synthesis(_settings(root, labels="12", images="real", dataset_id=dataset_id, name=name, count=4))
        )
    folder = pool(plan_pool(["33", "34"], 40, "Pool"))
    content = read_json(folder / "dataset.json")
    donors = read_json(root / "raw/Dataset033_One/dataset.json")["lesion_donors"]
    assert content["made_from"] == ["Dataset012_Anatomy"]
    assert {f"One_{case}": d for case, d in donors.items()}.items() <= content["lesion_donors"].items()
    shared = donor_warnings(content["lesion_donors"].values(), "Dataset050_Target", ["SOOP 0", "soop-1", "soop2", "x"])
    assert len([w for w in shared if "lesion donors are in" in w]) == 1
    assert not donor_warnings(["abc_1"], "Dataset050_Target", ["abc_10", "abc_11"])
    # SOOP's people are in ATLAS R3.0, whatever their masks are called there
    assert any("OpenNeuro" in w for w in donor_warnings(["soop_0007"], "Dataset051_ATLAS_R3"))
    assert donor_key("SOOP_0381") == donor_key("soop-381") != donor_key("soop_3810")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_id": 12}, "id 12 is used by"),
        ({"profile": "t2"}, "t1, any-contrast"),
        ({"lesions": ("tumour=x",)}, "stroke, ms, any"),
        ({"lesions": ("nowhere",)}, "holds no masks"),
        ({"labels": "12", "images": "real", "lesions": ()}, "--lesions"),
        ({"images": "real"}, "no dataset.json"),
        ({"leave_out": tuple(f"soop_{i}" for i in range(6))}, "all 6 donors are left out"),
        ({"mass_effect": 11.0}, "below 10 mm"),
        ({"name": "my data"}, "Dataset031_my data isn't a name that nnU-Net accepts"),
        ({"name": "../other"}, "isn't a name that nnU-Net accepts"),
        ({"spacing": (1.0, 0.0, 1.0)}, "above 0"),
        ({"labels": "12", "images": "real", "structures": {"white": (1,)}, "channel": "FLAIR"}, "--channel"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError, match=message) as caught:
        plan_synthesis(_settings(root, **changes))
    assert "\n" not in str(caught.value)


def test_an_id_that_another_process_took_meanwhile_is_not_taken_again(root: Path) -> None:
    plan = plan_synthesis(_real(root, count=1))
    other = root / "raw/Dataset033_Other"
    other.mkdir()
    with pytest.raises(DataError, match=r"id 33 is used by .*Dataset033_Other"):
        synthesis.synthesize(plan)
    assert [path.name for path in (root / "raw").glob("*033*")] == ["Dataset033_Other"]


def test_a_case_that_fails_leaves_the_others_for_the_next_run(root: Path) -> None:
    bad = root / "maps/seg_b.nii.gz"
    good = bad.read_bytes()
    labels = head()
    labels[0, 0, 0] = 9999
    save(bad, labels)
    with pytest.raises(DataError, match=r"seg_b.* has the values 9999"):
        synthesize(plan_synthesis(_settings(root)))
    assert not (root / "raw/Dataset031_Synthetic").exists()
    bad.write_bytes(good)
    assert synthesize(plan_synthesis(_settings(root))).is_dir()


def test_what_was_interrupted_with_labels_in_another_order_is_not_taken_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    orders: list[dict[str, tuple[int, ...]]] = [{"wm": (1,), "gm": (2, 3)}, {"gm": (2, 3), "wm": (1,)}]
    with monkeypatch.context() as patched:
        patched.setattr(synthesis, "_write_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            synthesize(plan_synthesis(_real(root, count=2, structures=orders[0])))
    folder = synthesize(plan_synthesis(_real(root, count=2, structures=orders[1])))
    assert read_json(folder / "dataset.json")["labels"] == {"background": 0, "gm": 1, "wm": 2, "lesion": 3}
    own = _load(root / "raw/Dataset012_Anatomy/labelsTr/sub-0_ses-0.nii.gz")
    made = _load(folder / "labelsTr/sub-0_ses-0_v000.nii.gz")
    assert set(np.unique(made[own == 1]).tolist()) <= {2, 3}
    assert set(np.unique(made[own == 2]).tolist()) <= {1, 3}


def test_labels_renamed_after_an_interrupt_are_not_mixed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_synthesis(_real(root)).state()
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    content = read_json(path)
    content["labels"] = {"background": 0, "cortex": 1, "white matter": 2, "ventricles": 3}
    write_json(path, content)
    assert plan_synthesis(_real(root)).state() != before


def test_many_labels_keep_their_values(root: Path) -> None:
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    content = read_json(path)
    names = ["white matter", "cortex", "ventricles", *(f"cortex {i}" for i in range(4, 300))]
    content["labels"] = {"background": 0} | {name: i for i, name in enumerate(names, start=1)}
    write_json(path, content)
    file = root / "raw/Dataset012_Anatomy/labelsTr/sub-0_ses-0.nii.gz"
    labels = _load(file).astype(np.int16)
    labels[0, 0, 0] = 299
    save(file, labels)
    folder = synthesize(plan_synthesis(_real(root, count=1)))
    made = _load(folder / "labelsTr/sub-0_ses-0_v000.nii.gz")
    assert made[-1, 0, 0] == 299  # the first axis is turned
    assert made.max() == read_json(folder / "dataset.json")["labels"]["lesion"] == 300


@pytest.mark.parametrize("kind", ["damaged", "type", "colour", "complex"])
@pytest.mark.parametrize("what", ["image", "mask"])
def test_files_that_can_not_be_read_are_one_line(root: Path, kind: str, what: str) -> None:
    files = [root / "raw/Dataset012_Anatomy/imagesTr/sub-0_ses-0_0000.nii.gz"]
    if what == "mask":
        files = [*root.glob("stroke/*"), *root.glob("ms/*")]
    for file in files:
        stored = bytearray(file.read_bytes())
        if kind == "damaged":
            middle = len(stored) // 2
            stored[middle : middle + 24] = b"\xff\x00\xaa" * 8
            file.write_bytes(bytes(stored))
        elif kind == "type":
            plain = bytearray(gzip.decompress(bytes(stored)))
            plain[70:72] = b"cc"
            file.write_bytes(gzip.compress(bytes(plain)))
        else:
            dtype = [(colour, "u1") for colour in "RGB"] if kind == "colour" else np.complex64
            nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype), np.eye(4)), file)
    with pytest.raises(DataError, match=r"can't be read|holds .* voxels; grey values are needed"):
        synthesize(plan_synthesis(_real(root, count=1)))


def test_files_behind_links_need_no_ending(root: Path) -> None:
    store = root / "blobs"
    store.mkdir()
    files = [*root.glob("raw/*/*/*.nii.gz"), *root.glob("stroke/*"), *root.glob("ms/*")]
    for number, file in enumerate(files):
        file.rename(store / f"{number:040x}")
        file.symlink_to(store / f"{number:040x}")
    assert synthesize(plan_synthesis(_real(root, count=1))).is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not a JSON object"),
        ({"labels": []}, "must have labels, each with its value"),
        ({"labels": {"background": 0, "cortex": "1"}}, "must have labels, each with its value"),
        ({"file_ending": None}, "and a file_ending"),
        ({"made_from": "IXI"}, "made_from must be a list"),
    ],
)
def test_an_incomplete_data_set_is_one_line(root: Path, content: Any, message: str) -> None:
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    write_json(path, read_json(path) | content if isinstance(content, dict) else content)
    with pytest.raises(DataError, match=f"dataset.json.*{message}"):
        plan_synthesis(_real(root))


def test_unknown_tissues_are_asked_for(root: Path) -> None:
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    content = read_json(path)
    content["labels"] = {"background": 0, "R1": 1, "cortex": 2, "ventricles": 3}
    write_json(path, content)
    with pytest.raises(DataError, match=r"R1.*--tissues"):
        plan_synthesis(_real(root))
    assert plan_synthesis(_real(root, tissues={"R1": "white matter"})).maps.numbering.tissues["R1"] == "white matter"


def test_a_missing_generator_is_one_line_and_real_images_need_none(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cornucopia", None)
    with pytest.raises(SettingsError, match=r"pip install 'nnunet_transfer\[synthesize\]'"):
        plan_synthesis(_settings(root))
    arguments = [
        "synthesize",
        "12",
        "-d",
        "33",
        "--name",
        "Lesions",
        "--n",
        "2",
        "--images",
        "real",
        "--processes",
        "1",
    ]
    arguments += ["--lesions", f"stroke={root / 'stroke'}", "--mask-space", "image"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(root / "raw/Dataset033_Lesions")
    structures = root / "structures.json"
    structures.write_text(json.dumps({"white": [1], "rest": [1, 2]}))
    assert main([*arguments, "--structures", str(structures)]) == 2
    assert "twice" in capsys.readouterr().err


# --- whose label maps, which masks, what numbers ---------------------------------------------------------------------


def test_label_maps_of_one_person_stay_in_one_fold(root: Path) -> None:
    names = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "P3_a", "P3_b", "P3_a.long.P3", "P3_b.long.P3")
    for name in names:
        save(root / f"people/{name}.nii.gz", head())
    plan = plan_synthesis(_settings(root, labels=str(root / "people"), count=len(names), folds=3))
    subjects = {case.map.name: case.map.subject for case in plan.cases}
    assert subjects == dict(zip(names, ["sub-01", "sub-01", "sub-02", "P3", "P3", "P3", "P3"], strict=True))
    assert sorted(plan.validation) == ["P3", "sub-01", "sub-02"]


def test_label_maps_whose_names_are_no_text_are_refused(root: Path) -> None:
    save(root / "maps" / os.fsdecode("Müller.nii.gz".encode("latin-1")), head())
    with pytest.raises(DataError, match=r"M\\xfcller, a name that isn't UTF-8"):
        plan_synthesis(_settings(root))


def _save_mask(root: Path, mask: np.ndarray, edge: float = 2.0) -> tuple[str, ...]:
    """Write the only mask of a folder; return the setting `lesions`."""
    (root / "masks").mkdir()
    nib.save(nib.Nifti1Image(mask, np.diag([edge, edge, edge, 1.0])), root / "masks/someone_lesion.nii.gz")
    return (f"stroke={root / 'masks'}",)


_LESION = ((radius() > 4) & (radius() < 6)).astype(np.float32)
_FOCUS = (radius() > 6.5).astype(np.float32)


@pytest.mark.parametrize(
    ("mask", "edge", "said"),
    [
        ((_LESION + 2 * _FOCUS).astype(np.uint8), 2, r"2 values beside 0 from 1 to 2 \(1, 2\)"),
        (_LESION + 2 * _FOCUS, 2, r"2 values beside 0 from 1 to 2 \(1, 2\)"),
        ((40 * radius()).astype(np.int16), 2, "an image"),
        ((255 * ndimage.uniform_filter(_LESION, 3)).astype(np.float32), 2, "like an interpolated mask or an image"),
        ((radius() / radius().max()).astype(np.float32), 10, "like an image"),
        (np.zeros(SHAPE, np.uint8), 2, "is empty"),
    ],
    ids=["two labels", "two labels in floating point", "an image", "up to 255", "an image up to 1", "nothing"],
)
def test_a_mask_of_several_levels_is_no_donor(root: Path, mask: np.ndarray, edge: float, said: str) -> None:
    lesions = _save_mask(root, mask, edge)
    with pytest.raises(DataError, match=said) as caught:
        synthesize(plan_synthesis(_real(root, count=1, lesions=lesions)))
    assert "someone_lesion.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "threshold"),
    [
        (_LESION.astype(np.uint8), 0.5),
        ((255 * _LESION).astype(np.uint8), 127),
        (254.9999 * _LESION, 127),
        (-_LESION.astype(np.int8), None),
        (ndimage.uniform_filter(_LESION, 3), None),
        (0.3 * ndimage.uniform_filter(_LESION, 3), None),
        (ndimage.shift(_LESION, 0.5, order=3), None),
    ],
    ids=["1", "255", "254.9999", "-1", "interpolated", "interpolated and scaled", "with overshoot"],
)
def test_a_mask_of_one_level_or_interpolated_is_taken_at_half_of_it(
    root: Path, mask: np.ndarray, threshold: float | None
) -> None:
    _save_mask(root, mask)
    (donor,) = find_donors([str(root / "masks")])
    wanted = mask > (0.5 * mask.max() if threshold is None else threshold) if mask.max() > 0 else mask < 0
    np.testing.assert_array_equal(read_mask(donor)[0], wanted)


@pytest.mark.parametrize(
    ("stored", "factor", "written"),
    [
        (np.uint8, 0.25, np.uint8),
        (np.int16, 1, np.int16),
        (np.uint16, 70, np.uint16),
        (np.int32, 100_003, np.int32),
        (np.uint32, 4_500_000, np.uint32),
        (np.int64, 100_003, np.int32),
        (np.int64, 10**9, np.float32),
        (np.float32, 0.001, np.float32),
    ],
)
def test_real_images_keep_their_numbers_away_from_the_lesion(
    root: Path, stored: Any, factor: float, written: Any
) -> None:
    folder = root / "raw/Dataset012_Anatomy/imagesTr"
    for path in folder.iterdir():
        source = nib.load(path)
        scaled = (np.asanyarray(source.dataobj).astype(np.float64) * factor).astype(stored)
        nib.save(nib.Nifti1Image(scaled, source.affine, dtype=scaled.dtype), path)
    made = synthesize(plan_synthesis(_real(root, count=2)))
    for record in read_json(made / "synthesis.json")["cases"]:
        before = nib.as_closest_canonical(nib.load(folder / f"{record['label_map']}_0000.nii.gz"))
        old, new = np.asanyarray(before.dataobj), _load(made / f"imagesTr/{record['case']}_0000.nii.gz")
        far = ndimage.distance_transform_edt(_load(made / f"labelsTr/{record['case']}.nii.gz") != 4) * 2 > 6
        assert new.dtype == written
        np.testing.assert_array_equal(new[far], old[far].astype(written))
        assert (new != old.astype(written)).any()
