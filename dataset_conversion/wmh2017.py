"""The white-matter hyperintensities of the 2017 challenge."""

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout

_WMH_SITE = "{site:Utrecht|Singapore|Amsterdam(?:/[A-Za-z][^/]*)?}"

WMH2017 = DatasetDescription(
    name="wmh2017",
    title="WMH challenge 2017: white-matter hyperintensities (60 for training, 110 for testing)",
    folder_name="WMH2017",
    licence="terms on the data set's page",
    citation="Kuijf HJ et al., IEEE Trans Med Imaging 2019;38:2556-2568, doi 10.1109/TMI.2019.2905770",
    request="https://doi.org/10.34894/AECRSD",
    # other pathology is not evaluated
    label_sets={"lesion": LabelRule({"lesion": 1}, ignore=(2,))},
    case="{site}_{subject}",  # each site numbers its patients from the start
    subject="{site}_{subject}",
    layouts=tuple(
        Layout(
            prefix=f"{folder}/{_WMH_SITE}/{{subject}}/",
            images={"T1": "pre/T1.nii[.gz]", "FLAIR": "pre/FLAIR.nii[.gz]"},
            labels={"lesion": "wmh.nii[.gz]"},
            split=split,
        )
        for folder, split in (("training", "train"), ("test", "test"))
    ),
)
