"""Images from label maps or real images: what they hold, whose label maps, and refusals."""

from __future__ import annotations

import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunet_transfer.cli import main
from nnunet_transfer.errors import DataError, SettingsError, TransferError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.synthetic.generator import PROFILES, draw_parameters, generate
from nnunet_transfer.synthetic.settings import plan_synthesis
from nnunet_transfer.synthetic.synthesis import synthesize
from nnunet_transfer.synthetic.tissues import freesurfer_numbering
from tests.synthesis_runs import load, real_settings, settings, write_inputs
from tests.synthetic_heads import SHAPE, head, save


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_inputs(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_what_the_manifest_says_is_what_the_data_set_holds(root: Path, kind: str) -> None:
    wanted = (real_settings if kind == "real" else settings)(root, count=10, leave_out=("SOOP-1", "soop_5"), folds=2)
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
        image, label = load(folder / f"imagesTr/{name}_0000.nii.gz"), load(folder / f"labelsTr/{name}.nii.gz")
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
    folder = synthesize(plan_synthesis(real_settings(root)))
    for record in read_json(folder / "synthesis.json")["cases"]:
        before = root / f"raw/Dataset012_Anatomy/imagesTr/{record['label_map']}_0000.nii.gz"
        old, old_label = (
            np.asanyarray(nib.as_closest_canonical(nib.load(p)).dataobj)
            for p in (before, Path(str(before).replace("imagesTr", "labelsTr").replace("_0000", "")))
        )
        new, label = (
            load(folder / p.format(record["case"])) for p in ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz")
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
    folder = synthesize(plan_synthesis(settings(root, count=3, head="whole", spacing=(2, 2, 4), lesions=())))
    for path in (folder / "labelsTr").iterdir():
        image = nib.load(str(path).replace("labelsTr", "imagesTr").replace(".nii.gz", "_0000.nii.gz"))
        assert np.allclose(image.header.get_zooms(), (2, 2, 4))
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        # skin has intensities but is no output label
        outside = np.asanyarray(image.dataobj)[load(path) == 0]
        assert (outside > 0).mean() > 0.05


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
        plan_synthesis(settings(root, **changes))
    assert "\n" not in str(caught.value)


def test_many_labels_keep_their_values(root: Path) -> None:
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    content = read_json(path)
    names = ["white matter", "cortex", "ventricles", *(f"cortex {i}" for i in range(4, 300))]
    content["labels"] = {"background": 0} | {name: i for i, name in enumerate(names, start=1)}
    write_json(path, content)
    file = root / "raw/Dataset012_Anatomy/labelsTr/sub-0_ses-0.nii.gz"
    labels = load(file).astype(np.int16)
    labels[0, 0, 0] = 299
    save(file, labels)
    folder = synthesize(plan_synthesis(real_settings(root, count=1)))
    made = load(folder / "labelsTr/sub-0_ses-0_v000.nii.gz")
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
        synthesize(plan_synthesis(real_settings(root, count=1)))


def test_files_behind_links_need_no_ending(root: Path) -> None:
    store = root / "blobs"
    store.mkdir()
    files = [*root.glob("raw/*/*/*.nii.gz"), *root.glob("stroke/*"), *root.glob("ms/*")]
    for number, file in enumerate(files):
        file.rename(store / f"{number:040x}")
        file.symlink_to(store / f"{number:040x}")
    assert synthesize(plan_synthesis(real_settings(root, count=1))).is_dir()


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
        plan_synthesis(real_settings(root))


def test_unknown_tissues_are_asked_for(root: Path) -> None:
    path = root / "raw/Dataset012_Anatomy/dataset.json"
    content = read_json(path)
    content["labels"] = {"background": 0, "R1": 1, "cortex": 2, "ventricles": 3}
    write_json(path, content)
    with pytest.raises(DataError, match=r"R1.*--tissues"):
        plan_synthesis(real_settings(root))
    assert (
        plan_synthesis(real_settings(root, tissues={"R1": "white matter"})).maps.numbering.tissues["R1"]
        == "white matter"
    )


def test_a_missing_generator_is_one_line_and_real_images_need_none(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cornucopia", None)
    with pytest.raises(SettingsError, match=r"pip install 'nnunet_transfer\[synthesize\]'"):
        plan_synthesis(settings(root))
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


def test_label_maps_of_one_person_stay_in_one_fold(root: Path) -> None:
    names = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "P3_a", "P3_b", "P3_a.long.P3", "P3_b.long.P3")
    for name in names:
        save(root / f"people/{name}.nii.gz", head())
    plan = plan_synthesis(settings(root, labels=str(root / "people"), count=len(names), folds=3))
    subjects = {case.map.name: case.map.subject for case in plan.cases}
    assert subjects == dict(zip(names, ["sub-01", "sub-01", "sub-02", "P3", "P3", "P3", "P3"], strict=True))
    assert sorted(plan.validation) == ["P3", "sub-01", "sub-02"]


def test_label_maps_whose_names_are_no_text_are_refused(root: Path) -> None:
    save(root / "maps" / os.fsdecode("Müller.nii.gz".encode("latin-1")), head())
    with pytest.raises(DataError, match=r"M\\xfcller, a name that isn't UTF-8"):
        plan_synthesis(settings(root))


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
    made = synthesize(plan_synthesis(real_settings(root, count=2)))
    for record in read_json(made / "synthesis.json")["cases"]:
        before = nib.as_closest_canonical(nib.load(folder / f"{record['label_map']}_0000.nii.gz"))
        old, new = np.asanyarray(before.dataobj), load(made / f"imagesTr/{record['case']}_0000.nii.gz")
        far = ndimage.distance_transform_edt(load(made / f"labelsTr/{record['case']}.nii.gz") != 4) * 2 > 6
        assert new.dtype == written
        np.testing.assert_array_equal(new[far], old[far].astype(written))
        assert (new != old.astype(written)).any()
