"""Study files that would be read, but not as they are meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.errors import StudyError
from nnunet_transfer.study import read_study
from nnunet_transfer.study.description import Study
from tests.study_files import Change, set_, write_study


@pytest.mark.parametrize(
    ("plain", "written"),
    [("id: 711", "id: 0711"), ("id: 711", "id: 11:51"), ("iterations: 5\nseeds", "iterations: 1:30\nseeds")],
)
def test_a_number_that_yaml_takes_for_another_is_refused(tmp_path: Path, plain: str, written: str) -> None:
    file = write_study(tmp_path)
    text = file.read_text()
    assert plain in text
    file.write_text(text.replace(plain, written))
    number = written.split("\n")[0].partition(": ")[2]
    with pytest.raises(StudyError, match=rf"line [0-9]+: to YAML, {number} isn't the number"):
        read_study(file)
    file.write_text(text.replace("name: small", 'name: "small"  # 0711, 11:51'))
    assert read_study(file).datasets["stroke"].number == 711


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_("seeds", to=[10**9]), r"seeds\.0: 1000000000 is greater than the maximum"),
        (set_("training", "epochs", to=10**9), r"training\.epochs: 1000000000 is greater"),
        (set_("cases", to=[10**9]), r"cases\.0: .*1000000000"),
        (
            set_("sources", "t1_segmentation", "seed", to=10**9),
            r"sources\.t1_segmentation\.seed: 1000000000 is greater",
        ),
        (set_("comparison", to={"draws": 10**12}), r"comparison\.draws: 1000000000000 is greater"),
        (
            set_(
                "sources", "m", to={"checkpoint": "m.pth", "task": "segmentation", "domain": "t1", "sha256": "sha256:1"}
            ),
            r"sources\.m\.sha256: 'sha256:1' must be 8 to 64 of the digits",
        ),
        (
            set_("arms", to=["t1_segmentation", {"source": "scratch", "encoder_only": True}]),
            r"arms\.1\.encoder_only: says what a source gives; scratch starts from none",
        ),
        (set_("folders", to={"raw": "one", "results": "./one/"}), r"folders\.results: .*/one is the folder raw, too"),
        (set_("folders", to={"sources": "small/nnUNet_raw"}), r"folders\.sources: .* is the folder raw, too"),
    ],
)
def test_what_has_no_effect_or_a_bad_one_is_said_with_its_line(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(StudyError, match=rf"study\.yaml, line [0-9]+: {message}"):
        read_study(write_study(tmp_path, change))


def test_variables_and_home_stand_for_folders_in_all_paths_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB", str(tmp_path / "lab"))
    monkeypatch.setenv("HOME", str(tmp_path / "lab"))
    entry = {"task": "segmentation", "domain": "t1"}
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "m.pth").touch()
    for written in ("$LAB/m.pth", "~/m.pth", "lab/m.pth", "${LAB}/m.pth"):
        file = write_study(tmp_path, set_("sources", "m", to={"checkpoint": written, **entry}))
        assert main(["study", "check", str(file)]) == 0
        assert path_of(read_study(file), "m").samefile(tmp_path / "lab" / "m.pth")
    capsys.readouterr()
    file = write_study(tmp_path, set_("sources", "m", to={"checkpoint": "~nobody_here/m.pth", **entry}))
    assert main(["study", "check", str(file)]) == 1
    assert "m.pth doesn't exist" in capsys.readouterr().out


def path_of(study: Study, source: str) -> Path:
    return study.path(study.sources[source].checkpoint)
