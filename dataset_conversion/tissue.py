"""Tissues and coarse structures of the brain."""

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout
from nnunet_transfer.dataset_conversion import _freesurfer_labels as freesurfer

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
            # T1_1mm lies on a grid of its own
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

IBSR18 = DatasetDescription(
    name="ibsr18",
    title="IBSR 18: tissues and structures of 18 healthy brains",
    folder_name="IBSR18",
    licence="CC BY-NC-SA 3.0",
    citation="Internet Brain Segmentation Repository, Center for Morphometric Analysis, Massachusetts General Hospital",
    request="https://www.nitrc.org/projects/ibsr",
    label_sets={
        "tissues": LabelRule(_TISSUES),
        # holes within the brain mask count as cerebrospinal fluid
        "tissues_filled": LabelRule(_TISSUES),
        "structures": LabelRule(freesurfer.subcortical(), ignore=freesurfer.UNDETERMINED),
    },
    layouts=(
        Layout(
            prefix="{subject:IBSR_[0-9]+}/[*/]{subject}",
            images={"T1": "_ana_strip.nii[.gz]", "T1-head": "_ana.nii[.gz]"},
            labels={
                "tissues": "_segTRI_ana.nii[.gz]",
                "tissues_filled": "_segTRI_fill_ana.nii[.gz]",
                "structures": "_seg_ana.nii[.gz]",
            },
        ),
    ),
)

#: FreeSurfer's structures numbered from 1, left side and midline first
_OASIS_LEFT = [
    "Cerebral-White-Matter",
    "Cerebral-Cortex",
    "Lateral-Ventricle",
    "Inf-Lat-Vent",
    "Cerebellum-White-Matter",
    "Cerebellum-Cortex",
    "Thalamus",
    "Caudate",
    "Putamen",
    "Pallidum",
    "3rd-Ventricle",
    "4th-Ventricle",
    "Brain-Stem",
    "Hippocampus",
    "Amygdala",
    "Accumbens-area",
    "VentralDC",
    "vessel",
    "choroid-plexus",
]
_MIDLINE = ("3rd-Ventricle", "4th-Ventricle", "Brain-Stem")
_OASIS_35 = [
    *(name if name in _MIDLINE else f"Left-{name}" for name in _OASIS_LEFT),
    *(f"Right-{name}" for name in _OASIS_LEFT if name not in _MIDLINE),
]

NEURITE_OASIS = DatasetDescription(
    name="neurite_oasis",
    title="neurite-OASIS: 414 brains with automated labels (silver standard), also in the Learn2Reg layout",
    folder_name="NeuriteOASIS",
    licence="OASIS data use agreement",
    citation="Hoopes A et al., HyperMorph, IPMI 2021; Marcus DS et al., J Cogn Neurosci 2007;19:1498-1507",
    request="https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md",
    label_sets={
        "seg35": LabelRule({name: value for value, name in enumerate(_OASIS_35, start=1)}),
        "seg4": LabelRule({"cortex": 1, "subcortical grey matter": 2, "white matter": 3, "cerebrospinal fluid": 4}),
    },
    layouts=(
        Layout(
            prefix="{subject:OASIS_OAS1_[0-9]+}_{session:MR[0-9]+}/",
            images={"T1": "aligned_norm.nii[.gz]"},
            labels={name: f"aligned_{name}.nii[.gz]" for name in ("seg35", "seg4")},
        ),
        # labels there carry a channel's number, which nnU-Net doesn't take
        *(
            Layout(
                images={"T1": f"images{part}/{{subject:OASIS_[0-9]+}}_0000.nii[.gz]"},
                labels={"seg35": f"labels{part}/{{subject:OASIS_[0-9]+}}[_0000].nii[.gz]"},
                split=split,
            )
            for part, split in (("Tr", "train"), ("Ts", "test"))
        ),
    ),
)
