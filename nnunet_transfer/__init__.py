"""Transfer learning for nnU-Net v2."""

from pathlib import Path

__version__ = "0.1.0"

# A Python started inside a checkout finds this folder instead of the installed package;
# `trainers` and `dataset_conversion` then lie one level up.
if not (Path(__file__).parent / "trainers").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))
