"""Citations used by both readers and the catalogue. No torch."""

from __future__ import annotations

GENESIS_PAPER = "Zhou et al., Models Genesis, Med Image Anal 2021;67:101840, doi 10.1016/j.media.2020.101840"
SUPREM_PAPER = "Li et al., How well do supervised models transfer to 3D image segmentation?, ICLR 2024"
RESNET_PAPER = "He et al., Deep residual learning, CVPR 2016, doi 10.1109/CVPR.2016.90"
SYNTHSTROKE_PAPER = (
    "Chalcroft et al., Synthetic data for robust stroke segmentation, MELBA 2025;3:317, doi 10.59275/j.melba.2025-f3g6"
)
ANATOMIX_PAPER = "Dey et al., Learning general-purpose biomedical volume representations, ICLR 2025, arXiv 2411.02372"
MONAI_UNET_PAPER = (
    "Kerfoot et al., Left-ventricle quantification using residual U-Net, STACOM 2018; MONAI, arXiv 2211.02701"
)
