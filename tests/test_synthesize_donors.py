"""Whose lesions are in synthetic images: donors, those left out, and which masks are taken."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunet_transfer.conversion.pool import plan_pool, pool
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.sources.leakage import donor_warnings
from nnunet_transfer.subjects import donor_key
from nnunet_transfer.synthetic.donors import find_donors, read_mask
from nnunet_transfer.synthetic.settings import plan_synthesis
from nnunet_transfer.synthetic.synthesis import synthesize
from tests.synthesis_runs import real_settings, settings, write_inputs
from tests.synthetic_heads import SHAPE, radius


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_inputs(tmp_path, monkeypatch)


@pytest.mark.parametrize("text", ["\ufeffid;mask_source\r\n1;soop_0\r\n", "id, mask_source\n\n1, soop_0\n2\n"])
def test_a_table_of_donors_may_come_from_a_spreadsheet(root: Path, text: str) -> None:
    table = root / "cases.csv"
    table.write_text(text, encoding="utf-8", newline="")
    assert plan_synthesis(settings(root, leave_out=(f"{table}:mask_source",))).left_out == ("soop_0000",)


def test_leaving_out_by_table_and_by_data_set(root: Path) -> None:
    table = root / "cases.tsv"
    table.write_text("id\tmask_source\n1\tsoop_0\n2\tlesymap_001\n")
    plan = plan_synthesis(settings(root, leave_out=(f"{table}:mask_source",)))
    assert plan.left_out == ("soop_0000",)
    target = synthesize(plan_synthesis(real_settings(root, count=2)))
    used = set(read_json(target / "dataset.json")["lesion_donors"].values())
    plan = plan_synthesis(settings(root, leave_out=(str(target),)))
    assert set(plan.left_out) == used
    assert used.isdisjoint({d.name for d in plan.donors})
    with pytest.raises(DataError, match="no column donor"):
        plan_synthesis(settings(root, leave_out=(str(table),)))


def test_donors_may_be_named_by_their_masks_and_a_name_of_none_is_pointed_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = root / "masks.csv"
    table.write_text("mask\nstroke/soop_0000_lesion.nii.gz\n")
    plan = plan_synthesis(settings(root, leave_out=(f"{table}:mask", "soop_0005_lesion.nii.gz")))
    assert plan.left_out == ("soop_0000", "soop_0005")
    assert "none of the masks" not in caplog.text
    table.write_text("donor\nS1\nS2\n")
    plan_synthesis(settings(root, leave_out=("soop_55", str(table))))
    for name in ("soop_55", str(table)):
        assert f"--leave-out-donors {name}: none of the masks is of such a donor" in caplog.text


def test_kinds_with_few_donors_are_pointed_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan_synthesis(settings(root, folds=2))
    assert not caplog.text
    plan = plan_synthesis(settings(root, folds=3))
    assert {frozenset(donor.kind for donor in case.donors) for case in plan.cases} != {frozenset(("ms", "stroke"))}
    assert "fewer donors of a kind than folds (ms 2): some of the 3 folds lack it" in caplog.text


def test_donors_go_on_into_pools_and_are_compared_with_the_targets(root: Path) -> None:
    for dataset_id, name in ((33, "One"), (34, "Two")):
        synthesize(
            plan_synthesis(settings(root, labels="12", images="real", dataset_id=dataset_id, name=name, count=4))
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
        synthesize(plan_synthesis(real_settings(root, count=1, lesions=lesions)))
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
