"""Record what panoptica finds in random masks, in `panoptica.json` beside this file.

panoptica needs older versions of several packages, hence an environment of its own:

  python -m venv panoptica && panoptica/bin/pip install panoptica==2.1.7
  panoptica/bin/python tests/recorded/record_panoptica.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from panoptica import (
    CCABackend,
    ConnectedComponentsInstanceApproximator,
    InputType,
    MaxBipartiteMatching,
    Metric,
    NaiveThresholdMatching,
    Panoptica_Evaluator,
)
from random_masks import N_PAIRS, random_pair

OUT = Path(__file__).with_name("panoptica.json")
#: name -> connected components (26 neighbours with cc3d, 6 with scipy), matching, threshold of the IoU
SETTINGS = {
    "26_greedy_0.25": (CCABackend.cc3d, NaiveThresholdMatching, 0.25),
    "26_greedy_0.5": (CCABackend.cc3d, NaiveThresholdMatching, 0.5),
    "6_greedy_0.25": (CCABackend.scipy, NaiveThresholdMatching, 0.25),
    "26_optimal_0.25": (CCABackend.cc3d, MaxBipartiteMatching, 0.25),
    "6_optimal_0.1": (CCABackend.scipy, MaxBipartiteMatching, 0.1),
}


def counts(setting: str) -> list[list[float | None]]:
    """Return tp, fp, fn and Dice of every pair."""
    backend, matcher, threshold = SETTINGS[setting]
    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(cca_backend=backend),
        instance_matcher=matcher(matching_metric=Metric.IOU, matching_threshold=threshold),
        instance_metrics=[Metric.IOU],
        global_metrics=[Metric.DSC],
    )
    rows: list[list[float | None]] = []
    for seed in range(N_PAIRS):
        reference, prediction = random_pair(seed)
        result = evaluator.evaluate(prediction, reference, verbose=False)["ungrouped"]
        dice = float(result.global_bin_dsc)
        rows.append([int(result.tp), int(result.fp), int(result.fn), None if np.isnan(dice) else round(dice, 12)])
    return rows


def main() -> None:
    """Record all settings."""
    content = {"panoptica": version("panoptica"), "pairs": N_PAIRS, "counts": {name: counts(name) for name in SETTINGS}}
    OUT.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
