"""Label maps with voxels that nnU-Net ignores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.synthetic.settings import plan_synthesis
from nnunet_transfer.synthetic.synthesis import synthesize
from tests.synthesis_runs import load, real_settings, settings, write_inputs
from tests.synthetic_heads import save


@pytest.mark.parametrize("push", [0.0, 3.0])
def test_voxels_to_ignore_stay_so_in_real_images_and_are_refused_for_synthetic_ones(
    push: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_inputs(tmp_path, monkeypatch) / "raw/Dataset012_Anatomy"
    content = read_json(dataset / "dataset.json")
    write_json(dataset / "dataset.json", content | {"labels": content["labels"] | {"ignore": 4}})
    ignored = {}
    for path in (dataset / "labelsTr").iterdir():
        labels = load(path)
        ignored[path.name.removesuffix(".nii.gz")] = where = np.zeros(labels.shape, bool)
        where[:6] = labels[:6] > 0
        save(path, np.where(where, 4, labels).astype(np.uint8))
    folder = synthesize(plan_synthesis(real_settings(tmp_path, mass_effect=push)))
    written = read_json(folder / "dataset.json")["labels"]
    assert (written["lesion"], written["ignore"]) == (4, 5)
    for case, where in ignored.items():
        label = load(folder / f"labelsTr/{case}_v000.nii.gz")
        image = load(folder / f"imagesTr/{case}_v000_0000.nii.gz")
        upright = where[::-1]  # the first axis is turned
        assert (label == 4).any()
        if not push:
            np.testing.assert_array_equal(label == 5, upright)
            np.testing.assert_array_equal(image[upright], load(dataset / f"imagesTr/{case}_0000.nii.gz")[::-1][upright])
        assert (label == 5).sum() > 0.8 * where.sum()
    pytest.importorskip("cornucopia")
    with pytest.raises(
        DataError, match=r"has voxels to ignore \(value 4\), whose tissue.*; give label maps .*--images real"
    ):
        synthesize(plan_synthesis(settings(tmp_path, labels="12")))


def test_structures_leave_what_is_ignored_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_inputs(tmp_path, monkeypatch) / "raw/Dataset012_Anatomy"
    content = read_json(dataset / "dataset.json")
    write_json(dataset / "dataset.json", content | {"labels": content["labels"] | {"ignore": 4}})
    with pytest.raises(DataError, match="structure all holds 4, the value of voxels to ignore"):
        plan_synthesis(real_settings(tmp_path, structures={"all": (1, 2, 3, 4)}))
    with pytest.raises(SettingsError, match="--structures: background is no structure"):
        plan_synthesis(real_settings(tmp_path, structures={"background": (1,), "rest": (2,)}))
