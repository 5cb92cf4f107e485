"""The white-matter hyperintensities of the 2017 challenge."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, LabelRule, Layout

_CASE = "{site:Utrecht|Singapore|Amsterdam(?:/[A-Za-z][^/]*)?}/{subject}"
#: two more annotators drew the training cases again, without the other pathology
_ANNOTATORS = f"additional_annotations/{{rater:observer_o[34]}}/training/{_CASE}/result.nii[.gz]"

WMH2017 = DatasetDescription(
    name="wmh2017",
    title="WMH challenge 2017: white-matter hyperintensities (60 for training, 110 for testing)",
    folder_name="WMH2017",
    licence="terms on the data set's page",
    citation="Kuijf HJ et al., IEEE Trans Med Imaging 2019;38:2556-2568, doi 10.1109/TMI.2019.2905770",
    request="https://doi.org/10.34894/AECRSD",
    # other pathology is not evaluated
    label_sets={"lesion": LabelRule({"lesion": 1}, ignore=(2,)), "other_annotators": LESION},
    case="{site}_{subject}",  # each site numbers its patients from the start
    subject="{site}_{subject}",
    layouts=tuple(
        Layout(
            images={channel: f"{folder}/{_CASE}/pre/{channel}.nii[.gz]" for channel in ("T1", "FLAIR")},
            labels={"lesion": f"{folder}/{_CASE}/wmh.nii[.gz]"}
            | ({"other_annotators": _ANNOTATORS} if split == "train" else {}),
            split=split,
        )
        for folder, split in (("training", "train"), ("test", "test"))
    ),
)
