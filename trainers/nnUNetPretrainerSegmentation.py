from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.trainer import PretrainingTrainer


class nnUNetPretrainerSegmentation(PretrainingTrainer):
    """Pre-train the whole network by segmentation: nnU-Net's own training, whose result becomes a source."""

    settings = TrainerName("nnUNetPretrainerSegmentation")

    def source_details(self) -> dict[str, object]:
        """Add the labels."""
        return {"labels": self.dataset_json["labels"]}
