"""The demo's synthetic data sets: reproducible, plausible, and in the layout nnU-Net reads."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, sha256_of
from nnunet_transfer.synthetic import natural, t1
from nnunet_transfer.synthetic.datasets import (
    DATASETS,
    write_ms_target,
    write_natural_source,
    write_t1_source,
)

T1_ROLES = ("t1", "stroke", "ms", "anatomy")
LESION_ROLES = ("stroke", "ms")
CSF, GM, WM = (t1.TISSUES[name] for name in ("CSF", "GM", "WM"))
VOXEL_ML = t1.SPACING**3 / 1000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for dataset_id, write in DATASETS.values():
        write(folder, dataset_id, 0)
    return folder


def dataset(raw: Path, role: str) -> Path:
    (folder,) = raw.glob(f"Dataset{DATASETS[role][0]:03d}_*")
    return folder


def cases(folder: Path) -> list[str]:
    return sorted(p.name.split(".")[0] for p in (folder / "labelsTr").iterdir())


def t1_pairs(raw: Path, role: str) -> list[tuple[np.ndarray, np.ndarray]]:
    folder = dataset(raw, role)
    return [
        (
            nib.load(folder / f"imagesTr/{case}_0000.nii.gz").get_fdata(),
            np.asarray(nib.load(folder / f"labelsTr/{case}.nii.gz").dataobj),
        )
        for case in cases(folder)
    ]


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def classes(folder: Path) -> dict[str, str]:
    with open(folder / "classes.csv", newline="", encoding="utf-8") as stream:
        return {row["case"]: row["class"] for row in csv.DictReader(stream)}


@pytest.mark.parametrize("write", [write_natural_source, write_ms_target])
def test_the_seed_decides_every_byte(write, tmp_path):
    first, again, other = (write(tmp_path / name, 900, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert fingerprint(first) == fingerprint(again)
    images = [{k: v for k, v in fingerprint(folder).items() if k.startswith("imagesTr")} for folder in (first, other)]
    assert images[0].keys() == images[1].keys()
    assert all(images[0][name] != images[1][name] for name in images[0])


def test_a_data_set_that_exists_is_refused_and_kept(tmp_path):
    folder = write_ms_target(tmp_path, 900)
    before = fingerprint(folder)
    with pytest.raises(DataError, match="exists"):
        write_ms_target(tmp_path, 900)
    assert fingerprint(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_an_interrupt_leaves_no_data_set(tmp_path, monkeypatch):
    done = []

    def interrupted(*args, **kwargs):
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return make_subject(*args, **kwargs)

    make_subject = t1.make_subject
    monkeypatch.setattr(t1, "make_subject", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_ms_target(tmp_path, 900)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("role", DATASETS)
def test_layout_is_nnunets(raw, role):
    folder = dataset(raw, role)
    description = read_json(folder / "dataset.json")
    ending = description["file_ending"]
    names = cases(folder)
    assert (description["numTraining"], description["seed"]) == (len(names), 0)
    # every channel set is one file per case: T1, or R, G and B together
    assert {p.name for p in (folder / "imagesTr").iterdir()} == {f"{case}_0000{ending}" for case in names}
    assert {p.name for p in (folder / "labelsTr").iterdir()} == {f"{case}{ending}" for case in names}
    assert sorted(description["labels"].values()) == list(range(len(description["labels"])))
    assert description["labels"]["background"] == 0
    assert any(word in description["description"] for word in ("Synthetic", "Derived"))


@pytest.mark.parametrize("role", T1_ROLES)
def test_labels_lie_on_their_image_and_have_the_declared_values(raw, role):
    folder = dataset(raw, role)
    declared = set(read_json(folder / "dataset.json")["labels"].values())
    for case, (image, label) in zip(cases(folder), t1_pairs(raw, role), strict=True):
        image_file, label_file = (folder / f"imagesTr/{case}_0000.nii.gz", folder / f"labelsTr/{case}.nii.gz")
        assert image.shape == label.shape == t1.SHAPE
        for path in (image_file, label_file):
            np.testing.assert_allclose(nib.load(path).affine, t1.AFFINE)
        assert set(np.unique(label)) == declared
        assert np.all(image[label > 0] > 0)


@pytest.mark.parametrize("role", DATASETS)
def test_folds_validate_on_disjoint_cases(raw, role):
    folder = dataset(raw, role)
    names = set(cases(folder))
    folds = read_json(folder / "splits_final.json")
    assert len(folds) == 2
    for fold in folds:
        assert set(fold["train"]) | set(fold["val"]) == names
        assert not set(fold["train"]) & set(fold["val"])
    assert not set(folds[0]["val"]) & set(folds[1]["val"])


@pytest.mark.parametrize("role", ["stroke", "ms", "anatomy"])
def test_targets_are_cross_validated_on_every_subject(raw, role):
    folds = read_json(dataset(raw, role) / "splits_final.json")
    assert sorted(case for fold in folds for case in fold["val"]) == cases(dataset(raw, role))


def test_no_subject_is_in_two_data_sets(raw):
    names = [case for role in T1_ROLES for case in cases(dataset(raw, role))]
    assert len(names) == 32 + 3 * 8
    assert len(set(names)) == len(names)
    # nor is one subject's anatomy used under two names
    images = [(image > 0).tobytes() for role in T1_ROLES for image, _ in t1_pairs(raw, role)]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("role", ["natural", "t1"])
def test_every_fold_trains_and_validates_every_class(raw, role):
    table = classes(dataset(raw, role))
    assert sorted(table) == cases(dataset(raw, role))
    for fold in read_json(dataset(raw, role) / "splits_final.json"):
        for part in ("train", "val"):
            assert {table[case] for case in fold[part]} == set(table.values())


def test_tissues_are_ordered_by_intensity_as_in_t1(raw):
    for role in ("t1", "anatomy"):
        for image, label in t1_pairs(raw, role):
            csf, gm, wm = (np.median(image[label == tissue]) for tissue in (CSF, GM, WM))
            assert csf < 0.8 * gm < 0.8 * 0.97 * wm
            assert np.all((image > 0) <= (label > 0))


def test_brains_have_a_plausible_size(raw):
    # a slab of 36 mm; an adult brain is some 140 mm wide and 175 mm long
    for role in T1_ROLES:
        for image, _ in t1_pairs(raw, role):
            area = (image > 0).sum(axis=(0, 1)) * t1.SPACING**2 / 100
            assert 90 < area.min() <= area.max() < 240
            assert not (image > 0)[[0, -1]].any(), "the brain is cut off at the side"


def test_old_subjects_have_wider_ventricles(raw):
    folder = dataset(raw, "t1")
    table = classes(folder)
    volumes: dict[str, list[float]] = {"young": [], "old": []}
    for case, (_, label) in zip(cases(folder), t1_pairs(raw, "t1"), strict=True):
        deep = ndimage.distance_transform_edt(label > 0, sampling=t1.SPACING) > 25
        volumes[table[case]].append(((label == CSF) & deep).sum() * VOXEL_ML)
    assert len(volumes["young"]) == len(volumes["old"])
    # learnable: a threshold on the volume tells nearly all of them apart
    threshold = (np.mean(volumes["young"]) + np.mean(volumes["old"])) / 2
    right = sum(v < threshold for v in volumes["young"]) + sum(v > threshold for v in volumes["old"])
    assert right >= 0.85 * len(table)


@pytest.mark.parametrize("role", LESION_ROLES)
def test_lesions_are_darker_than_the_tissue_around(raw, role):
    for image, label in t1_pairs(raw, role):
        lesion = label > 0
        around = ndimage.binary_dilation(lesion, iterations=2) & ~lesion & (image > 0)
        assert image[lesion].mean() < 0.93 * image[around].mean()


def test_stroke_lesions_are_single_large_and_one_sided(raw):
    volumes = []
    for _, label in t1_pairs(raw, "stroke"):
        assert ndimage.label(label)[1] == 1
        volumes.append(label.sum() * VOXEL_ML)
        x = t1.AFFINE[0, 0] * np.argwhere(label)[:, 0] + t1.AFFINE[0, 3]
        # the head may be moved a little and turned
        assert np.all(x > -12) or np.all(x < 12)
    assert min(volumes) > 2
    assert max(volumes) < 80


def test_ms_lesions_are_several_and_small(raw):
    for _, label in t1_pairs(raw, "ms"):
        components, count = ndimage.label(label)
        sizes = np.bincount(components.ravel())[1:]
        assert 3 <= count <= 20
        assert sizes.min() >= t1.MIN_MS_VOXELS
        assert sizes.max() * VOXEL_ML < 5


@pytest.mark.parametrize(
    ("add_lesions", "allowed"), [(t1.add_stroke_lesion, (GM, WM)), (t1.add_ms_lesions, (WM,))], ids=LESION_ROLES
)
def test_lesions_lie_in_their_tissue_and_change_nothing_else(add_lesions, allowed):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        healthy = t1.make_subject(rng, enlargement=0.5 * (seed % 2))
        ill = add_lesions(healthy, rng)
        lesion = ill.lesion > 0
        assert lesion.any()
        assert np.isin(healthy.tissue[lesion], allowed).all()
        assert np.array_equal(ill.tissue, healthy.tissue)
        far = ~ndimage.binary_dilation(lesion, np.ones((3, 3, 3)), iterations=2)
        np.testing.assert_array_equal(ill.image[far], healthy.image[far])


def test_natural_images_are_rgb_with_labels_of_their_size(raw):
    folder = dataset(raw, "natural")
    description = read_json(folder / "dataset.json")
    assert description["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    size = (natural.CROP_SIZE, natural.CROP_SIZE)
    for case in cases(folder):
        with (
            Image.open(folder / f"imagesTr/{case}_0000.png") as image,
            Image.open(folder / f"labelsTr/{case}.png") as label,
        ):
            assert (image.mode, image.size) == ("RGB", size)
            assert (label.mode, label.size) == ("L", size)


def test_natural_labels_are_regions_from_dark_to_bright():
    crops = natural.cut_crops(seed=0)
    brightness = np.concatenate([crop.image.mean(axis=-1).ravel() for crop in crops])
    labels = np.concatenate([crop.label.ravel() for crop in crops])
    means = [brightness[labels == value].mean() for value in natural.REGIONS.values()]
    assert means == sorted(means)
    assert np.bincount(labels, minlength=4).min() > 0.05 * labels.size
    for crop in crops:
        assert np.bincount(crop.label.ravel(), minlength=4).max() < 0.97 * crop.label.size, crop.photo
        # regions, not speckle: neighbours mostly agree
        assert np.mean(crop.label[1:] == crop.label[:-1]) > 0.8


def test_crops_of_one_photo_do_not_overlap(monkeypatch):
    # a photo whose colours spell the pixel's position
    height, width = 384, 480
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(width) // 2, (np.arange(height) // 2)[:, None]
    monkeypatch.setattr(natural, "load_photo", lambda name: photo)
    crops = [crop for crop in natural.cut_crops(seed=1) if crop.photo == "cat"]
    assert len(crops) == natural.CROPS_PER_PHOTO
    pixels = [tuple(p) for crop in crops for p in np.unique(crop.image[2:-2, 2:-2].reshape(-1, 3), axis=0)]
    assert len(set(pixels)) == len(pixels)


def test_a_missing_photo_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(natural.PHOTOS, "cat", ("skimage", "data", "no_such_photo.png"))
    with pytest.raises(DataError, match=r"no_such_photo\.png is missing; reinstall skimage"):
        natural.load_photo("cat")


def test_a_missing_template_is_one_clear_line(monkeypatch, tmp_path):
    t1._template.cache_clear()
    monkeypatch.setattr(t1.resources, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match="nilearn"):
        write_t1_source(tmp_path / "raw", 900)
    assert not list((tmp_path / "raw").iterdir())
