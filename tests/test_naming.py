"""The grammar of trainer names: every name that is written reads back, every mistake is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.naming import (
    ARMS,
    DEFAULT_RECIPE,
    GRAMMAR,
    PRETRAINERS,
    PRETRAINING_RECIPES,
    RECIPES,
    SEGMENTATION_PRETRAINER,
    TRANSFER,
    TrainerName,
    bases,
    is_nearly_ours,
    is_ours,
    parse_trainer_name,
)

COUNT = st.none() | st.integers(1, 999_999_999)
SEED = st.none() | st.integers(0, 999_999_999)
ARM_NAMES = st.builds(
    TrainerName,
    base=st.sampled_from([*ARMS, TRANSFER]),
    recipe=st.sampled_from([*RECIPES]),
    encoder_only=st.booleans(),
    cases=COUNT,
    epochs=COUNT,
    iterations=COUNT,
    seed=SEED,
    no_mirroring=st.booleans(),
).filter(lambda name: not name.encoder_only or ARMS.get(name.base, name.base) is not None)
PRETRAINER_NAMES = st.builds(
    TrainerName, base=st.sampled_from([*PRETRAINERS]), cases=COUNT, epochs=COUNT, iterations=COUNT, seed=SEED
)


@given(ARM_NAMES | PRETRAINER_NAMES)
def test_every_written_name_reads_back(name: TrainerName) -> None:
    assert parse_trainer_name(str(name)) == name
    assert is_ours(str(name))


@given(ARM_NAMES)
def test_names_can_be_told_apart_in_a_result_folder(name: TrainerName) -> None:
    # nnU-Net joins trainer, plans and configuration with two underscores
    assert "__" not in str(name)
    assert not str(name).endswith("_")


@given(
    st.lists(
        st.sampled_from(
            [*RECIPES, "encoderOnly", "noMirroring", "5cases", "5epochs", "5iterations", "seed5", "05epochs", ""]
        )
    )
)
def test_whatever_is_accepted_means_what_it_says(suffixes: list[str]) -> None:
    name = "_".join(["nnUNetTrainerScratch", *suffixes])
    try:
        parsed = parse_trainer_name(name)
    except SettingsError:
        return
    assert str(parsed) == name.replace(f"_{DEFAULT_RECIPE}", "")


@given(st.text(max_size=40).filter(lambda text: not is_ours(text)))  # hypothesis tries strings of the code, too
def test_any_other_text_is_no_trainer(text: str) -> None:
    with pytest.raises(SettingsError, match="unknown trainer"):
        parse_trainer_name(text)


def test_all_suffixes_in_their_order() -> None:
    parsed = parse_trainer_name(
        "nnUNetTrainerT1Segmentation_sawtooth_encoderOnly_noMirroring_8cases_150epochs_20iterations_seed1"
    )
    assert parsed == TrainerName("nnUNetTrainerT1Segmentation", "sawtooth", True, 8, 150, 20, 1, True)


@pytest.mark.parametrize("base", bases())
def test_a_base_alone_takes_all_defaults(base: str) -> None:
    assert parse_trainer_name(base) == TrainerName(base)


def test_the_default_recipe_may_be_spelt_out() -> None:
    spelt = parse_trainer_name(f"nnUNetTrainerScratch_{DEFAULT_RECIPE}_3epochs")
    assert spelt == parse_trainer_name("nnUNetTrainerScratch_3epochs")


@pytest.mark.parametrize("recipe", ["", f"_{DEFAULT_RECIPE}", "_sawtooth"])
@pytest.mark.parametrize("suffix", ["010epochs", "00cases", "01iterations", "seed01", "seed00", "1234567890epochs"])
def test_leading_zeros_and_endless_numbers_are_refused(recipe: str, suffix: str) -> None:
    with pytest.raises(SettingsError, match=f"write _{suffix} without leading zeros"):
        parse_trainer_name(f"nnUNetTrainerScratch{recipe}_{suffix}")


def test_the_control_arm_loads_no_encoder_alone() -> None:
    with pytest.raises(SettingsError, match="what an arm loads; nnUNetTrainerScratch, the control arm, loads nothing"):
        parse_trainer_name("nnUNetTrainerScratch_warmup_encoderOnly_5epochs")


@pytest.mark.parametrize("suffix", ["0epochs", "0cases", "0iterations"])
def test_zero_of_anything_is_refused(suffix: str) -> None:
    with pytest.raises(SettingsError, match="must be at least 1"):
        parse_trainer_name(f"nnUNetTrainerScratch_{suffix}")


def test_seed_zero_is_a_seed() -> None:
    assert parse_trainer_name("nnUNetTrainerScratch_seed0").seed == 0


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nnUNetTrainerScratch_seed1_5epochs", "_5epochs is out of order"),
        ("nnUNetTrainerScratch_encoderOnly_full", "_full is out of order"),
        ("nnUNetTrainerScratch_5epochs_6epochs", "_6epochs is given twice"),
        ("nnUNetTrainerScratch_full_full", "_full is given twice"),
        ("nnUNetTrainerScratch_full_warmup", "_warmup is a second recipe"),
    ],
)
def test_order_and_repetition_are_checked(name: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_trainer_name(name)
    assert problem in str(caught.value)
    assert GRAMMAR in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "meant"),
    [
        ("10epoch", "10epochs"),
        ("10Epochs", "10epochs"),
        ("epochs10", "10epochs"),
        ("-5epochs", "5epochs"),
        ("epochs", "<N>epochs"),
        ("5case", "5cases"),
        ("5iteration", "5iterations"),
        ("1seed", "seed1"),
        ("encoderonly", "encoderOnly"),
        ("nomirror", "noMirroring"),
        ("sawtoth", "sawtooth"),
        ("frozenencoder", "frozenEncoder"),
    ],
)
def test_misspelt_suffixes_get_a_suggestion(suffix: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_trainer_name(f"nnUNetTrainerScratch_{suffix}")
    assert f"did you mean _{meant}?" in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "meant"), [("seedx", "seed<K>"), ("seed1.5", "seed<K>"), ("seed-1", "seed1"), ("seed", "seed<K>")]
)
def test_a_seed_that_is_no_whole_number_is_told_so(suffix: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_trainer_name(f"nnUNetTrainerScratch_{suffix}")
    assert f"a seed is a whole number: _{meant}; " in str(caught.value)


def test_a_fraction_is_not_taken_for_a_larger_number() -> None:
    with pytest.raises(SettingsError, match="did you mean _<N>epochs"):
        parse_trainer_name("nnUNetTrainerScratch_1.5epochs")


@pytest.mark.parametrize(
    "name", ["nnUNetTrainerScrach", "nnUNetTrainerT1segmentation_5epochs", "nnUNetPretrainerSimClr"]
)
def test_a_wrong_letter_is_seen(name: str) -> None:
    assert is_nearly_ours(name)


@pytest.mark.parametrize(
    "name",
    [*bases(), "nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerNoDA", "nnUNetTrainerTransformer", "x", ""],
)
def test_right_names_and_those_of_others_are_not_misspelt(name: str) -> None:
    assert not is_nearly_ours(name)


@pytest.mark.parametrize("suffix", ["", "qqqq", "٣epochs", "5 epochs ", "5epochs\n"])
def test_unlike_suffixes_get_the_grammar(suffix: str) -> None:
    with pytest.raises(SettingsError, match="unknown suffix"):
        parse_trainer_name(f"nnUNetTrainerScratch_{suffix}")


@pytest.mark.parametrize("name", ["nnUNetTrainerScrach", "nnUNetTrainerT1segmentation", "nnUnetTrainerScratch"])
def test_misspelt_bases_get_a_suggestion(name: str) -> None:
    with pytest.raises(SettingsError, match="did you mean nnUNetTrainer"):
        parse_trainer_name(name)
    assert not is_ours(name)


@pytest.mark.parametrize("suffix", ["encoderOnly", *RECIPES])
@pytest.mark.parametrize("base", PRETRAINERS)
def test_what_fine_tuning_alone_does_is_refused_for_pretrainers(base: str, suffix: str) -> None:
    if base == SEGMENTATION_PRETRAINER and suffix in PRETRAINING_RECIPES:
        assert parse_trainer_name(f"{base}_{suffix}_5epochs") == TrainerName(base, suffix, epochs=5)
        return
    with pytest.raises(SettingsError, match="a pretrainer"):
        parse_trainer_name(f"{base}_{suffix}")
