"""MRBrainS 2013 and 2018, structures of ageing brains."""

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout

_MRBRAINS = {
    "cortical grey matter": 1,
    "basal ganglia": 2,
    "white matter": 3,
    "white matter lesions": 4,
    "cerebrospinal fluid": 5,
    "ventricles": 6,
    "cerebellum": 7,
    "brain stem": 8,
}

_TISSUES = {"cerebrospinal fluid": 1, "grey matter": 2, "white matter": 3}

MRBRAINS13 = DatasetDescription(
    name="mrbrains13",
    title="MRBrainS13: brain structures of ageing brains (5 for training)",
    folder_name="MRBrainS13",
    licence="terms of UMC Utrecht, distributed with the data",
    citation="Mendrik AM et al., Comput Intell Neurosci 2015:813696, doi 10.1155/2015/813696",
    request="https://doi.org/10.34894/645ZIN",
    label_sets={"structures": LabelRule(_MRBRAINS), "tissues": LabelRule(_TISSUES)},
    case="{set}_{subject}",  # both parts count from 1
    subject="{set}_{subject}",
    layouts=tuple(
        Layout(
            prefix=f"{{set:{name}}}Data/{{subject}}/",
            # T1_1mm is on a separate grid
            images={"T1": "T1.nii[.gz]", "T1-IR": "T1_IR.nii[.gz]", "FLAIR": "T2_FLAIR.nii[.gz]"},
            labels={"structures": "LabelsForTraining.nii[.gz]", "tissues": "LabelsForTesting.nii[.gz]"},
            split=split,
        )
        for name, split in (("Training", "train"), ("Test", "test"))
    ),
)

MRBRAINS18 = DatasetDescription(
    name="mrbrains18",
    title="MRBrainS18: brain structures in healthy and diseased brains (7 for training, 23 for testing)",
    folder_name="MRBrainS18",
    licence="terms of UMC Utrecht, distributed with the data",
    citation="Kuijf HJ et al., MR Brain Segmentation Challenge 2018 Data, DataverseNL 2024, doi 10.34894/E0U32Q",
    request="https://doi.org/10.34894/E0U32Q",
    # infarctions and other lesions are not evaluated
    label_sets={"structures": LabelRule(_MRBRAINS, ignore=(9, 10))},
    layouts=tuple(
        Layout(
            prefix=f"{folder}[Data]/{{subject}}/",
            images={
                "T1": f"pre/{registered}T1.nii[.gz]",
                "T1-IR": f"pre/{registered}IR.nii[.gz]",
                "FLAIR": "pre/FLAIR.nii[.gz]",
            },
            labels={"structures": "segm.nii[.gz]"},
            split=split,
        )
        for folder, split in (("training", "train"), ("test", "test"))
        for registered in ("reg_", "")
    ),
)
