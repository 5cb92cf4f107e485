"""The page on conversion: a lab's own data set in some 30 lines, and a table that leaves out no target."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.catalogue import all_descriptions
from nnunet_transfer.conversion.description import CONSENSUS_RULES
from nnunet_transfer.conversion.geometry import ORTHONORMAL_TOLERANCE, TOLERANCE_MM
from tests.conversion_trees import Files, box, image, stripes, write_tree

PAGE = (Path(__file__).parents[1] / "docs/conversion.md").read_text(encoding="utf-8")


@pytest.fixture
def description(tmp_path: Path) -> Path:
    """The page's example as a file."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len([line for line in block.splitlines() if line.strip()]) <= 35
    path = tmp_path / "lab_stroke.py"
    path.write_text(block, encoding="utf-8")
    return path


def lab_tree() -> Files:
    """Three patients, one of them with two visits."""
    files: Files = {"scanners.csv": "patient,scanner\np1,A\np2,B\np3,A\n"}
    for i, place in enumerate(("p1/visit1", "p1/visit2", "p2/visit1", "p3/visit1")):
        files |= {f"patients/{place}/{name}": image(i) for name in ("t1.nii.gz", "flair_in_t1.nii")}
        files |= {
            f"patients/{place}/lesion_{rater}.nii.gz": box(1, 2, 2 + k) for k, rater in enumerate(("anna", "ben"))
        }
    return files


def test_a_lab_converts_its_own_data_set(description: Path, nnunet_folders: Path) -> None:
    root = write_tree(lab_tree(), nnunet_folders / "lab")
    options = ["-d", "7", "--processes", "2", "--rater", "intersection", "--channels", "T1", "FLAIR"]
    assert main(["convert", str(description), str(root), *options]) == 0
    folder = nnunet_folders / "raw/Dataset007_LabStroke"
    with open(folder / "conversion_manifest.csv", newline="", encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert {case: row["site"] for case, row in rows.items()} == {
        "p1_visit1": "A",
        "p1_visit2": "A",
        "p2_visit1": "B",
        "p3_visit1": "A",
    }
    assert all(row["lesion_ml"] == f"{8 * 2 / 1000:g}" for row in rows.values())
    assert len(list((folder / "imagesTr").iterdir())) == 8
    assert len(json.loads((folder / "splits_final.json").read_text())) == 3


def rule(text: str, arguments: str) -> str:
    """Replace the example's rule by another."""
    changed = text.replace("LESION, ", "LabelRule, ").replace('{"lesion": LESION}', f'{{"x": LabelRule({arguments})}}')
    return changed.replace('labels={"lesion"', 'labels={"x"')


def test_cases_that_lack_raters_or_labels_are_named(
    description: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = lab_tree()
    for name in ("p1/visit2/lesion_ben", "p3/visit1/lesion_anna", "p3/visit1/lesion_ben"):
        del files[f"patients/{name}.nii.gz"]
    root = write_tree(files, nnunet_folders / "lab")
    options = ["-d", "7", "--processes", "1", "--rater", "intersection"]
    for more in (["--dry-run"], []):
        assert main(["convert", str(description), str(root), *options, *more]) == 0
        notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")][:2]
        assert notes == [
            "note: no label found: put into imagesTs in 1 case: p3_visit1",
            "note: masks of fewer than 2 raters in 1 case: p1_visit2",
        ]
    with open(nnunet_folders / "raw/Dataset007_LabStroke/conversion_manifest.csv", encoding="utf-8") as stream:
        actions = {row["case"]: row["actions"] for row in csv.DictReader(stream)}
    assert "masks of 1 of 2 raters" in actions["p1_visit2"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--channels", "T1", "FLAIR", "T1"], "channel T1 is given twice"),
        (["--option", "a=1", "b=2", "--option", "a=3"], "--option a is given twice"),
    ],
)
def test_what_is_given_twice_is_refused(
    options: list[str],
    wanted: str,
    description: Path,
    nnunet_folders: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_tree(lab_tree(), nnunet_folders / "lab")
    assert main(["convert", str(description), str(root), "-d", "7", "--rater", "anna", *options]) == 2
    assert wanted in capsys.readouterr().err
    assert not list((nnunet_folders / "raw").iterdir())


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda text: text.replace("LESION, ", ""), r"lab_stroke.py can't be used (NameError: name 'LESION' is not"),
        (lambda text: text.replace("{subject}/", "{subject/"), "not a pattern from position 9 on"),
        (lambda text: text.replace("lesion_{rater}", "{lesion}"), "have different fields"),
        (
            lambda text: rule(text, '{"background": 0, "lesion": 1}'),
            "background is no class: 0 is always background; list other values as background=(...)",
        ),
        (lambda text: rule(text, '{"a": 1, "b": (2, 1)}'), "value 1 has several meanings; list it once"),
        (lambda text: rule(text, '{"a": 1}, ignore=(1,)'), "value 1 has several meanings; list it once"),
        (lambda text: rule(text, '{"a": "1"}'), "a has the values '1'; give whole numbers, several as (1, 2)"),
        (lambda text: rule(text, '{"a": 1.5}'), "a has the values 1.5; give whole numbers"),
        (lambda text: rule(text, '{"a": 1}, ignore=2'), "ignore has the values 2; give whole numbers"),
        (lambda text: rule(text, "{}"), "there is no class"),
        (lambda text: rule(text, '{"a": 1, "b": 2}, binary=True'), "2 classes in a rule for masks with a single one"),
        (lambda text: "x = 1\n", "holds 0 descriptions; it must hold exactly one"),
    ],
)
def test_a_faulty_description_is_one_line(
    change: object, wanted: str, description: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description.write_text(change(description.read_text()))  # type: ignore[operator]
    root = write_tree(lab_tree(), nnunet_folders / "lab")
    assert main(["convert", str(description), str(root), "-d", "7", "--processes", "1", "--rater", "anna"]) == 2
    error = capsys.readouterr().err
    assert wanted in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("combined", CONSENSUS_RULES)
def test_labels_of_several_values_are_those_of_one_rater(
    combined: str, description: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description.write_text(rule(description.read_text(), '{"a": 1, "b": 2}'))
    files = {
        name: stripes(1, 2) if "anna" in name else stripes(2, 1) if "ben" in name else data
        for name, data in lab_tree().items()
    }
    root = write_tree(files, nnunet_folders / "lab")
    command = ["convert", str(description), str(root), "-d", "7", "--processes", "1", "--rater"]
    assert main([*command, combined]) == 2
    assert f"--rater {combined} is for binary masks" in capsys.readouterr().err
    assert main([*command, "ben"]) == 0
    written = nib.load(nnunet_folders / "raw/Dataset007_LabStroke/labelsTr/p1_visit1.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), stripes(2, 1))


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ("patient,scanner\np1,A\np2,B\n", "lab_stroke can't find its cases (KeyError: 'p3')"),
        (None, "lab_stroke can't find its cases (FileNotFoundError: "),
    ],
)
def test_a_table_that_lacks_a_patient_is_one_line(
    table: str | None, wanted: str, description: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(lab_tree(), nnunet_folders / "lab")
    (root / "scanners.csv").unlink()
    if table:
        (root / "scanners.csv").write_text(table)
    assert main(["convert", str(description), str(root), "-d", "7", "--rater", "anna"]) == 2
    error = capsys.readouterr().err
    assert wanted in error
    assert error.count("\n") == 1


def test_the_page_names_every_target() -> None:
    volumes = {name for name, d in all_descriptions().items() if d.layouts and not d.pictures}
    listed = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in PAGE.splitlines() if line[:3] == "| `")))
    assert volumes - {"t1_bids", "t1_folder"} <= listed


def test_the_page_states_the_tolerances() -> None:
    assert f"displaced by more than {TOLERANCE_MM} mm" in PAGE
    assert f"(up to {ORTHONORMAL_TOLERANCE})" in PAGE


#: pictures that aren't files, of a class of the description's own
OWN_PIXELS = """
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription


@dataclass(frozen=True)
class Row:
    path: Path
    number: int

    def read(self) -> np.ndarray:
        return np.load(self.path)[self.number]


def find(request):
    return [Case(f"c{i}", {"RGB": Row(request.root / "rows.npy", i)}) for i in range(4)]


ROWS = DatasetDescription(
    name="json",
    title="rows of an array",
    folder_name="Rows",
    licence="internal",
    citation="unpublished",
    request="ask",
    label_sets={"foreground": FOREGROUND},
    find_cases=find,
    pictures=True,
)
"""


def convert_apart(description: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Convert in a process of its own, which ends if its workers hang."""
    command = [sys.executable, "-m", "nnunet_transfer.cli", "convert", str(description), str(root), "-d", "7"]
    return subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=60)


def test_pictures_that_no_worker_can_get_are_one_line(tmp_path: Path, nnunet_folders: Path) -> None:
    text = OWN_PIXELS.replace('Row(request.root / "rows.npy", i)', "type('Local', (Row,), {})(request.root, i)")
    (tmp_path / "json.py").write_text(text, encoding="utf-8")
    done = convert_apart(tmp_path / "json.py", tmp_path)
    assert done.returncode == 2
    assert "c0 can't be sent to a worker process" in done.stderr.splitlines()[-1]
    assert "give --processes 1" in done.stderr


def test_a_description_has_classes_of_its_own(tmp_path: Path, nnunet_folders: Path) -> None:
    (tmp_path / "json.py").write_text(OWN_PIXELS, encoding="utf-8")
    root = tmp_path / "rows"
    root.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    np.save(root / "rows.npy", rows)
    done = convert_apart(tmp_path / "json.py", root)
    assert done.returncode == 0, done.stderr
    for number, row in enumerate(rows):
        with Image.open(nnunet_folders / f"raw/Dataset007_Rows/imagesTr/c{number}_0000.png") as written:
            np.testing.assert_array_equal(np.asarray(written), row)
