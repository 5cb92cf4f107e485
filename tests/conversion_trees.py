"""Miniature trees laid out like the public data sets, with their traps."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SHAPE = (12, 13, 8)
#: left-posterior-superior axes, anisotropic, away from the origin
AFFINE = np.array([[-1.0, 0, 0, 40], [0, -1, 0, 30], [0, 0, 2, -20], [0, 0, 0, 1]])
RAS = np.diag([1.0, 1, 2, 1])


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> NDArray[Any]:
    """Draw noise."""
    return np.random.default_rng(seed).uniform(1, 100, shape).astype(dtype)


def box(value: float = 1, start: int = 2, size: int = 3, dtype: Any = np.uint8) -> NDArray[Any]:
    """Return a mask that is `value` in a cube and 0 elsewhere."""
    mask = np.zeros(SHAPE, dtype)
    mask[start : start + size, start : start + size, start : start + size] = value
    return mask


def stripes(*values: int, dtype: Any = np.int16) -> NDArray[Any]:
    """Return a label volume whose values alternate along the first axis, 0 first."""
    lookup = np.array([0, *values], dtype)
    index = np.arange(SHAPE[0] * SHAPE[1]) % len(lookup)
    return np.broadcast_to(lookup[index].reshape(SHAPE[:2])[..., None], SHAPE).copy()


def save(data: NDArray[Any], path: Path, affine: NDArray[np.float64] = AFFINE) -> Path:
    """Write a volume; the format follows from the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.MGHImage if path.name.endswith((".mgz", ".mgh")) else nib.Nifti1Image
    # nibabel asks for the type of 64-bit numbers to be named
    nib.save(kind(data, affine, dtype=data.dtype) if kind is nib.Nifti1Image else kind(data, affine), path)
    return path


def damage(path: Path, kind: str) -> None:
    """Spoil a compressed file: what is missing or changed says `kind`."""
    stored = path.read_bytes()
    plain = gzip.decompress(stored)
    path.write_bytes(
        {
            "truncated": stored[: len(stored) // 2],
            "corrupt": stored[: len(stored) // 2] + bytes(8) + stored[len(stored) // 2 + 8 :],
            "text": b"this is not an image\n",
            "cut header": gzip.compress(plain[:100]),
            "short": gzip.compress(plain[:-100]),
        }[kind]
    )


#: path below the root -> volume, or volume and affine, or text
Files = dict[str, Any]


def write_tree(files: Files, root: Path) -> Path:
    """Write a tree; every folder also gets the hidden files that macOS leaves."""
    for name, content in files.items():
        path = root / name
        if isinstance(content, str):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        else:
            save(*((content[0], path, content[1]) if isinstance(content, tuple) else (content, path)))
        for hidden in (path.with_name(".DS_Store"), path.with_name(f"._{path.name}")):
            hidden.write_bytes(b"x")
    return root


def atlas_r1() -> Files:
    """Two visits of one subject, three lesion files to unite, values such as 254.9999, and the layout's legacy names."""
    files: Files = {}
    for i, (site, subject, visit) in enumerate(
        [("Site1", "031768", "t01"), ("Site1", "031768", "t02"), ("Site2", "031768", "t01"), ("Site3", "031999", "t01")]
    ):
        stem = f"ATLAS_R1.1/{site}/{subject}/{visit}/{subject}"
        files[f"{stem}_t1w_deface_stx.nii.gz"] = image(i)
        for j, value in enumerate((0.9999999997, 254.9999999, 1.99)[: max(1, 3 - i)]):
            name = "LesionSmooth" + (f"_{j}" if j else "")
            files[f"{stem}_{name}_stx.nii.gz"] = box(value, 1 + 3 * j, 2, np.float64)
    return files


def atlas_r1_new_names() -> Files:
    """Site, subject and visit in one folder's name."""
    files: Files = {}
    for i, (site, subject) in enumerate([("c0011", "c0011s0006"), ("c0011", "c0011s0007"), ("c0012", "c0012s0001")]):
        stem = f"ATLAS_R1.2/{site}/{subject}t01/{subject}t01"
        files[f"{stem}_t1w_deface_stx.nii.gz"] = image(i)
        files[f"{stem}_LesionSmooth_stx.nii.gz"] = box(254.99, dtype=np.float32)
    return files


def atlas_r2() -> Files:
    """Two sites, an empty mask, a second lesion file, test cases without masks."""
    files: Files = {
        "ATLAS_2/20211112_ATLAS_2.0_SupplementaryInfo.csv": "x",
        "ATLAS_2/MNI152NLin2009aSym.nii.gz": image(),
    }
    for i, (site, subject) in enumerate([("R001", "r001s001"), ("R001", "r001s002"), ("R009", "r009s003")]):
        stem = f"ATLAS_2/Training/{site}/sub-{subject}/ses-1/anat/sub-{subject}_ses-1_space-MNI152NLin2009aSym"
        files[f"{stem}_T1w.nii.gz"] = image(i)
        files[f"{stem}_label-L_desc-T1lesion_mask.nii.gz"] = box(i)
        if i == 1:
            files[f"{stem}_label-R_desc-T1lesion-1_mask.nii.gz"] = box(1, 6, 2)
    stem = "ATLAS_2/Testing/R005/sub-r005s001/ses-1/anat/sub-r005s001_ses-1_space-MNI152NLin2009aSym"
    return files | {f"{stem}_T1w.nii.gz": image(9)}


def atlas_r3() -> Files:
    """LAS and RAS, a mask just below one, masks of five types, metadata with gaps, a cohort instead of a site."""
    files: Files = {}
    dtypes = (np.float32, np.uint16, np.int32, np.float64)
    for i, (cohort, site, days) in enumerate([("R039", "R039", "NaN"), ("R001", "R001", "-4"), ("SOOP", "SOOP", "2")]):
        stem = f"ATLAS3_Training_Raw/{cohort}/sub-r{i:03d}s001/ses-1/anat/sub-r{i:03d}s001_ses-1"
        affine = RAS if i == 1 else AFFINE
        files[f"{stem}_space-orig_desc-brain_T1w.nii.gz"] = image(i, dtype=np.float64), affine
        value = 0.9999999776 if i == 0 else 1
        files[f"{stem}_space-orig_label-lesion_desc-T1lesion_mask.nii.gz"] = box(value, dtype=dtypes[i]), affine
        files[f"{stem}_metadata.csv"] = (
            f"SESSION_ID,ATLAS2_DATASET,DAYS_POST_STROKE,CHRONICITY,SITE\nses-1,,{days},{i % 2},{site}\n"
        )
    return files


def mslesseg() -> Files:
    """T1 names a time point and an image; three time points of one patient."""
    files: Files = {}
    for i, (part, patient, point) in enumerate(
        [
            ("train", "P1", "T1"),
            ("train", "P1", "T2"),
            ("train", "P1", "T3"),
            ("train", "P2", "T1"),
            ("test", "P54", "T1"),
        ]
    ):
        stem = f"MSLesSeg/{part}/{patient}/{point}/{patient}_{point}"
        files |= {f"{stem}_{name}.nii.gz": image(i) for name in ("T1", "T2", "FLAIR")}
        files[f"{stem}_MASK.nii.gz"] = box()
    return files


def msseg2016() -> Files:
    """Seven raters and their consensus; raw images on another grid; patients numbered per centre."""
    files: Files = {}
    for i, (part, centre) in enumerate([("Training", "01"), ("Training", "07"), ("Testing", "03")]):
        stem = f"MSSEG/{part}/Center_{centre}/Patient_01"
        files |= {f"{stem}/Raw_Data/{name}.nii.gz": image(i, (5, 6, 7)) for name in ("T1", "FLAIR")}
        files |= {f"{stem}/Preprocessed_Data/{name}_preprocessed.nii.gz": image(i) for name in ("T1", "FLAIR", "DP")}
        files |= {f"{stem}/Masks/ManualSegmentation_{k}.nii.gz": box(1, k, 2) for k in range(1, 8)}
        files[f"{stem}/Masks/Consensus.nii.gz"] = box(1, 3, 3)
        files[f"{stem}/Masks/Brain_Mask.nii.gz"] = box(1, 0, 8)
    return files


def msseg2016_flat() -> Files:
    """Older names: one folder per patient, files not compressed."""
    files: Files = {}
    for i, patient in enumerate(("01016SACH", "07001MOEL", "08002CHJE")):
        files[f"MSSEG/{patient}/3DT1.nii"] = image(i)
        files |= {f"MSSEG/{patient}/{name}.nii": box() for name in ("Consensus", "ManualSegmentation_1")}
    return files


def isbi2015() -> Files:
    """Two raters who disagree, files compressed or not, raw images on another grid, two visits of each of five."""
    files: Files = {}
    for subject in range(1, 6):
        for visit in (1, 2):
            name, stem = f"training{subject:02d}_{visit:02d}", f"ISBI/training/training{subject:02d}"
            seed = 10 * subject + visit
            files[f"{stem}/orig/{name}_mprage.nii.gz"] = image(seed, (5, 6, 7))
            files |= {f"{stem}/preprocessed/{name}_{c}_pp.nii": image(seed) for c in ("mprage", "flair")}
            files[f"{stem}/masks/{name}_mask1.nii"] = box(1, 2, 3)
            files[f"{stem}/masks/{name}_mask2.nii.gz"] = box(1, 3, 3)
    return files | {"ISBI/testdata_website/test01/preprocessed/test01_01_mprage_pp.nii": image(99)}


def ljubljana() -> Files:
    """The same patients in three spaces; a patient's name before some of the files."""
    files: Files = {}
    for space, affine in (("raw", RAS), ("coregistered", AFFINE), ("MNI", AFFINE)):
        for i in (1, 2, 3):
            stem = f"open_ms_data/cross_sectional/{space}/patient{i:02d}/" + ("patient03_" if i == 3 else "")
            files |= {f"{stem}{name}.nii.gz": (image(i), affine) for name in ("T1W", "FLAIR")}
            files |= {f"{stem}{name}.nii.gz": box() for name in ("consensus_gt", "brainmask")}
    return files | {"open_ms_data/longitudinal/raw/patient01/study1_T1W.nii.gz": image(7)}


def wmh2017() -> Files:
    """Other pathology as label 2, equal ids at two sites, the mask beside the folder of images, 3D T1 on another grid.

    Two more annotators, whose masks are in a folder of their own.
    """
    files: Files = {}
    for i, place in enumerate(
        ("training/Utrecht/11", "training/Singapore/11", "training/Amsterdam/GE3T/100", "test/Amsterdam/GE1T5/2")
    ):
        stem = f"wmh/{place}"
        files |= {f"{stem}/pre/{name}.nii.gz": image(i) for name in ("T1", "FLAIR")}
        files[f"{stem}/pre/3DT1.nii.gz"] = image(i, (5, 6, 7))
        files[f"{stem}/wmh.nii.gz"] = box(1) + box(2, 7, 1)
        if place.startswith("training"):
            for number in (3, 4):
                annotated = f"wmh/additional_annotations/observer_o{number}/{place}/result.nii.gz"
                files[annotated] = box(1, number, dtype=np.float32)
    return files


def shifts_ms() -> Files:
    """Numbers start again in each part."""
    files: Files = {}
    for part in ("train", "dev_in", "dev_out"):
        for i in range(1, 4 if part == "train" else 2):
            files[f"shifts_ms_pt2/{part}/t1/{i}_T1_isovox.nii.gz"] = image(10 * i + len(part))
            files[f"shifts_ms_pt2/{part}/flair/{i}_FLAIR_isovox.nii.gz"] = image(i)
            files[f"shifts_ms_pt2/{part}/gt/{i}_gt_isovox.nii.gz"] = box()
            files[f"shifts_ms_pt2/{part}/fg_mask/{i}_isovox_fg_mask.nii.gz"] = box(1, 0, 8)
    return files


def mrbrains13() -> Files:
    """Two label sets, one image on another grid, equal numbers in both parts."""
    files: Files = {}
    for part, subjects in (("TrainingData", (1, 2, 3)), ("TestData", (1,))):
        for i in subjects:
            stem = f"MRBrainS13DataNii/{part}/{i}"
            files[f"{stem}/T1.nii"] = image(i + len(part))
            files[f"{stem}/T1_1mm.nii"] = image(i, (5, 6, 7))
            files[f"{stem}/T2_FLAIR.nii"] = image(i)
            if part == "TrainingData":
                files[f"{stem}/LabelsForTraining.nii"] = stripes(*range(1, 9), dtype=np.uint8)
                files[f"{stem}/LabelsForTesting.nii"] = stripes(1, 2, 3, dtype=np.uint8)
    return files


def mrbrains18() -> Files:
    """Numbers with leading zeros, labels 9 and 10 that aren't evaluated, 3D T1 on another grid."""
    files: Files = {}
    for i, subject in enumerate(("1", "4", "070")):
        stem = f"training/{subject}"
        files |= {f"{stem}/pre/{name}.nii.gz": image(i) for name in ("reg_T1", "reg_IR", "FLAIR")}
        files[f"{stem}/pre/T1.nii.gz"] = image(i, (5, 6, 7))
        files[f"{stem}/segm.nii.gz"] = stripes(*range(1, 11), dtype=np.uint8)
    return files


def ibsr18() -> Files:
    """A fourth axis of length 1, unusual order of axes, labels that aren't consecutive."""
    affine = np.array([[0.0, 0, 1.5, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    files: Files = {}
    for i in (1, 2, 3):
        stem = f"IBSR_nifti_stripped/IBSR_{i:02d}/IBSR_{i:02d}"
        for name, data in {
            "ana": image(i + 50),
            "ana_strip": image(i, dtype=np.int16),
            "ana_brainmask": box(),
            "segTRI_ana": stripes(1, 2, 3),
            "segTRI_fill_ana": stripes(3, 2, 1),
            "seg_ana": stripes(2, 41, 10, 49, 72, 29),
        }.items():
            files[f"{stem}_{name}.nii.gz"] = data[..., None], affine
    return files


def neurite_oasis() -> Files:
    """Label tables and 2D slices beside the volumes, gaps in the numbers, a structure missing in one case."""
    files: Files = {"oasis/subjects.txt": "x", "oasis/seg35_labels.txt": "x"}
    for i in (1, 3, 457):
        stem = f"oasis/OASIS_OAS1_{i:04d}_MR1"
        files |= {f"{stem}/{name}.nii.gz": image(i) / 100 for name in ("orig", "norm", "aligned_norm", "slice_norm")}
        files |= {f"{stem}/{a}seg35.nii.gz": stripes(*range(1, 36 - i % 3)) for a in ("", "aligned_")}
        files |= {f"{stem}/{a}seg4.nii.gz": stripes(1, 2, 3, 4) for a in ("", "aligned_")}
    return files


def learn2reg_oasis() -> Files:
    """A channel's number on the labels."""
    files: Files = {}
    for i in (1, 2, 3):
        files[f"OASIS/imagesTr/OASIS_{i:04d}_0000.nii.gz"] = image(i)
        files[f"OASIS/labelsTr/OASIS_{i:04d}_0000.nii.gz"] = stripes(*range(1, 36), dtype=np.float32)
        files[f"OASIS/masksTr/OASIS_{i:04d}_0000.nii.gz"] = box()
    return files | {"OASIS/imagesTs/OASIS_0400_0000.nii.gz": image(9)}


def mindboggle101() -> Files:
    """Twins, left-over values, volumes in two spaces."""
    files: Files = {}
    for i, subject in enumerate(("Twins-2-1", "Twins-2-2", "MMRR-21-1", "HLN-12-7")):
        stem = f"Mindboggle101/{subject.rsplit('-', 1)[0]}_volumes/{subject}"
        for space in ("", ".MNI152"):
            files[f"{stem}/t1weighted{space}.nii.gz"] = image(i)
            files[f"{stem}/t1weighted_brain{space}.nii.gz"] = image(i)
            files[f"{stem}/labels.DKT31.manual{space}.nii.gz"] = stripes(1002, 1035, 2002, 2035, 1032, dtype=np.int32)
            files[f"{stem}/labels.DKT31.manual+aseg{space}.nii.gz"] = stripes(1002, 2035, 17, 53, 3, dtype=np.int32)
    return files


def freesurfer() -> Files:
    """MGH format, templates beside the subjects, two sessions of one subject, values up to 5002."""
    lia = np.array([[-1.0, 0, 0, 6], [0, 0, 1, -4], [0, -1, 0, 7], [0, 0, 0, 1]])
    files: Files = {}
    for i, subject in enumerate(("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "fsaverage", "lh.EC_average")):
        for name, data in {
            "orig": image(i, dtype=np.uint8),
            "norm": image(i, dtype=np.uint8),
            "aseg": stripes(2, 3, 41, 42, 17, 255, dtype=np.int32),
            "aparc+aseg": stripes(2, 1035, 2035, 1001, 17, 3, dtype=np.int32),
            "wmparc": stripes(5001, 5002, 3001, 4035, 2035, dtype=np.int32),
        }.items():
            files[f"subjects/{subject}/mri/{name}.mgz"] = data, lia
    return files


def hammers() -> Files:
    """Labels whose header is displaced although the voxels correspond."""
    displaced = AFFINE.copy()
    displaced[:3, 3] += (0, 16, -30)
    files: Files = {}
    for i in (1, 2, 30):
        files[f"Hammers_mith-n30r95/a{i:02d}.nii.gz"] = image(i)
        files[f"Hammers_mith-n30r95/a{i:02d}-seg.nii.gz"] = stripes(*range(1, 96), dtype=np.uint8), displaced
    return files


def hammers_folders() -> Files:
    """Images and labels in folders of their own."""
    files: Files = {}
    for i in (1, 2, 30):
        files[f"Hammers-MRIs-n30/a{i:02d}.nii.gz"] = image(i)
        files[f"Hammers-labelsets-n30r95/a{i:02d}-seg.nii.gz"] = stripes(1, 95, dtype=np.uint8)
    return files


def miccai2012() -> Files:
    """Raw values up to 207, some of them not scored; two scans of one person in the test part."""
    files: Files = {}
    for part, scans in (("training", ("1000_3", "1001_3", "1002_3")), ("testing", ("1003_3", "1003_4"))):
        for i, scan in enumerate(scans):
            stem = f"MICCAI-2012-Multi-Atlas-Challenge-Data/{part}"
            files[f"{stem}-images/{scan}.nii.gz"] = image(i + len(part))
            files[f"{stem}-labels/{scan}_glm.nii.gz"] = stripes(4, 47, 207, 43, 1)
    return files


def arc() -> Files:
    """A mask per patient in the space of one session's T2, other sessions without one, T1 on another grid."""
    files: Files = {}
    for i, (subject, session, scan) in enumerate(
        [("M2001", "1253", "acq-spc3_run-3"), ("M2002", "1441", "acq-tse3_run-4"), ("M2004", "755", "acq-spc3p2_run-6")]
    ):
        stem = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}"
        files[f"ds004884/{stem}_{scan}_T2w.nii.gz"] = image(i)
        files[f"ds004884/{stem}_acq-tfl3_run-2_T1w.nii.gz"] = image(i, (5, 6, 7))
        files[f"ds004884/derivatives/lesion_masks/{stem}_{scan}_T2w_desc-lesion_mask.nii.gz"] = box()
    return files | {"ds004884/sub-M2001/ses-9/anat/sub-M2001_ses-9_acq-spc3_run-3_T2w.nii.gz": image(9)}


def soop() -> Files:
    """Masks in the space of TRACE; a patient without one."""
    files: Files = {}
    for i in (2, 3, 10, 11):
        files[f"ds004889/sub-{i}/dwi/sub-{i}_rec-TRACE_dwi.nii.gz"] = image(i)
        files[f"ds004889/sub-{i}/anat/sub-{i}_T1w.nii.gz"] = image(i, (5, 6, 7))
        if i != 11:
            stem = f"ds004889/derivatives/lesion_masks/sub-{i}/dwi/sub-{i}_space-TRACE_desc-lesion"
            files |= {f"{stem}{kind}_mask.nii.gz": box() for kind in ("", "Acute")}
    return files


def ds007212() -> Files:
    """A mask per person among the derivatives."""
    files: Files = {}
    for i in (1, 2, 3):
        files[f"ds007212/sub-{i:03d}/anat/sub-{i:03d}_T1w.nii.gz"] = image(i)
        files[f"ds007212/derivatives/lesions/sub-{i:03d}/anat/sub-{i:03d}_label-lesion_mask.nii.gz"] = box()
    return files


def ms3seg() -> Files:
    """Three kinds of masks in folders of their own, images at several stages."""
    files: Files = {}
    for i in (1, 2, 3):
        name = f"{i:03d}"
        for file in ("FLAIR", "T1WI_reg", "T2WI_reg"):
            files[f"MS3SEG/MS_100_patient_preprocessed/{name}/{name}_{file}.nii.gz"] = image(i)
            files[f"MS3SEG/MS_100_patient_registered/{name}/{name}_{file}.nii.gz"] = image(i, (5, 6, 7))
        for start, kind in enumerate(("abWMH", "nWMH", "Vent")):
            files[f"MS3SEG/MS_100_patient_masks/{kind}_Masks/{name}/{name}_{kind}_Mask.nii.gz"] = box(1, 1 + start)
    return files


def msseg2() -> Files:
    """Gaps in the numbers, four raters beside the consensus, a patient without new lesions."""
    files: Files = {}
    for i, name in enumerate(("013", "015", "099")):
        stem = f"MSSEG-2/training/{name}"
        files |= {f"{stem}/flair_time0{k}_on_middle_space.nii.gz": image(10 * i + k) for k in (1, 2)}
        files |= {f"{stem}/ground_truth_expert{k}.nii.gz": box(1, k) for k in range(1, 5)}
        files[f"{stem}/ground_truth.nii.gz"] = box(1, 2) if i < 2 else box(0)
    return files
