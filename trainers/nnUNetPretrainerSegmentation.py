from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.segmentation.trainer import SegmentationPretrainer


class nnUNetPretrainerSegmentation(SegmentationPretrainer):
    """Pre-train the whole network by segmentation: nnU-Net's own training, or one head per set of a pooled data set."""

    settings = TrainerName("nnUNetPretrainerSegmentation")
