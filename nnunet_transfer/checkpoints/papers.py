"""How to cite what both a reader and the catalogue name; no torch here."""

from __future__ import annotations

GENESIS_PAPER = "Zhou et al., Models Genesis, Med Image Anal 2021;67:101840, doi 10.1016/j.media.2020.101840"
SUPREM_PAPER = "Li et al., How well do supervised models transfer to 3D image segmentation?, ICLR 2024"
RESNET_PAPER = "He et al., Deep residual learning, CVPR 2016, doi 10.1109/CVPR.2016.90"
