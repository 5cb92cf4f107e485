"""What programs get of the registry: JSON that any parser reads and no terminal obeys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_transfer.cli import main
from nnunet_transfer.files import read_json
from nnunet_transfer.sources import SourceCard, save_source
from tests.checkpoint_files import plans_architecture


def _card(extra: dict[str, Any]) -> SourceCard:
    own = plans_architecture()
    architecture = {**own, "arch_kwargs_req_import": own.pop("_kw_requires_import")}
    return SourceCard("odd", "segmentation", "t1", architecture, 1, extra=extra)


def test_json_for_programs_is_valid_and_safe_on_a_terminal(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python writes NaN, which JSON doesn't have, and characters that a terminal obeys."""
    odd = {
        "learning": {"score": "Dice", "value": float("nan")},
        "x": [float("-inf"), "Müller \x9b31m \u202e \U000e0001"],
    }
    folder = save_source(_card(odd), {"a": torch.zeros(1)})
    assert read_json(folder / "source.json")["extra"]["x"][0] is None
    foreign = {**read_json(folder / "source.json"), "extra": odd}
    (folder / "source.json").write_text(json.dumps(foreign))
    for action in (["list"], ["show", "odd"]):
        assert main(["sources", *action, "--json"]) == 0
        out = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in out)
        assert "Müller" in out
        content = json.loads(out, parse_constant=pytest.fail)
        found = content[0]["extra"] if action == ["list"] else content["extra"]
        assert (found["learning"]["value"], found["x"]) == (None, [None, odd["x"][1]])
