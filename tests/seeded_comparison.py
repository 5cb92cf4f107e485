"""A comparison of arms with several seeds and a learning curve, which several files look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_transfer.comparison import CompareSettings, Comparison, ReportText, compare
from tests.comparison_data import model_folder, write_results

SCRATCH, T1 = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"
#: two seeds on all cases, and one point more of a learning curve
QUALITIES = {
    f"{SCRATCH}_seed0": 0.4,
    f"{SCRATCH}_seed1": 0.6,
    f"{T1}_seed0": 0.8,
    f"{T1}_seed1": 0.9,
    f"{SCRATCH}_3cases": 0.3,
    f"{T1}_3cases": 0.7,
}
N_CASES = 9


def compare_seeds(folders: Path) -> Comparison:
    """Compare two arms with two seeds and three folds, and both of them trained on three cases."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(folders / name))
        write_results(folders, QUALITIES, [f"sub-{i:02d}" for i in range(N_CASES)], n_folds=3)
        for trainer in QUALITIES:
            for fold in range(3):
                log = model_folder(folders, trainer) / f"fold_{fold}" / "training_log_2026_1_1.txt"
                lines = [
                    "Epoch 0",
                    "train_loss -0.5",
                    "val_loss -0.4",
                    "Pseudo dice [np.float32(0.5)]",
                    "Epoch time: 1.0 s",
                ]
                log.write_text("".join(f"2026-01-01 10:00:00.0: {line} \n" for line in lines))
        command = "nnunet_transfer compare -d 801"
        return compare(
            [801],
            out=folders / "out",
            settings=CompareSettings(protocols=["atlas_r2"], draws=400),
            text=ReportText(command=command),
        )
