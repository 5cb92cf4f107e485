"""Classification's building blocks: tables, sampling, settings, losses and scores."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)
from sklearn.utils.class_weight import compute_class_weight

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.pretraining.classification.class_tables import ClassTable, LabelTable, ValueTable
from nnunet_transfer.pretraining.classification.classes import find_class_table, read_class_table
from nnunet_transfer.pretraining.classification.heads import HEADS, Head
from nnunet_transfer.pretraining.classification.metrics import area_under_curve
from nnunet_transfer.pretraining.classification.settings import read_settings
from nnunet_transfer.pretraining.classification.summaries import (
    classification_summary,
    multi_label_summary,
    regression_summary,
)

# class tables


def _table(folder: Path, text: str) -> Path:
    path = folder / "classes.csv"
    path.write_text(text, encoding="utf-8")
    return path


FOUR = ("a", "b", "c", "d")


def test_class_table_is_read_with_sorted_classes(tmp_path: Path) -> None:
    table = read_class_table(_table(tmp_path, "\ufeffcase, class\nb, old\na,young\nd,young\nc,old\n"), FOUR)
    assert table.classes == ("old", "young")
    assert table.indices(FOUR).tolist() == [1, 0, 0, 1]
    assert table.counts(("a", "d")) == {"old": 0, "young": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column case is missing"),
        ("case,label\na,x\n", "column class is missing"),
        ("case,class\na,x\nb,x\nc,y\nd\n", "line 5: case or class is empty"),
        ("case,class\na,x\nb,x\nc,y\nd,\n", "line 5: case or class is empty"),
        ("case,class\na,x\nb,x\nc,y\nd,y\na,y\n", "line 6: case a is given twice"),
        ("case,class\na,x\nb,x\nc,y\nd,y\ne,y\nf,x\n", r"case e \(and 1 more\) is not in the data set"),
        ("case,class\na,x\nb,x\nc,x\n", "case d has no class"),
        ("case,class\na,x\nb,x\nc,x\nd,x\n", "only the class x"),
        ("case,class\na,x\nb,x\nc,x\nd,y\n", "class y has a single case"),
        ("case,class\na,x,\nb,x\nc,y,z\nd,y\n", "line 4: more cells than columns"),
        ("case,Value\na,x\n", "column class is missing \\(there is Value\\)"),
        ("case,class,value\na,x,1\n", "has the columns class and value; keep the one"),
        ("case,classes\na,x;y\nb,\nc,x\n\nd,\n", "class y has a single case"),
        ("case,classes\na,\nb,;\nc\nd,\n", "no case has a class"),
        ("case,classes\na,x\nb,x;y\nc,x;y\nd,x\n", "every case has the class x"),
        ("case,classes\na,x\n\nb,x\nb,\nc,\nd,\n", "line 5: case b is given twice"),
        ("case,value\na,1\nb,2\nc,nan\nd,4\n", "value of case c, 'nan', is not a finite number"),
        ("case,value\na,1\nb,-inf\nc,3\nd,4\n", "value of case b, '-inf', is not a finite number"),
        ("case,value\na,1\nb,old\nc,3\nd,4\n", "value of case b, 'old', is not a finite number"),
        ("case,value\na,1_0\nb,2\nc,3\nd,4\n", "value of case a, '1_0', is not a finite number"),
        ("case,value\na,41,5\nb,2\nc,3\nd,4\n", "line 2: more cells than columns"),
        ("case,value\na,1\nb,\nc,3\nd,4\n", "line 3: case or value is empty"),
        ("case,value\na,7\nb,7.0\nc,7\nd,7e0\n", "all values are 7"),
    ],
)
def test_faulty_class_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_class_table(_table(tmp_path, text), FOUR)
    assert "\n" not in str(caught.value)


def test_class_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes("case,class\na,Männer\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8 text"):
        read_class_table(path, FOUR)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", ",;\t")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_class_table_may_come_from_a_spreadsheet(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    rows = [("case", "class"), ("a", "Männer"), ("b", '"x, y"'), ("c", " Männer "), ("d", '"x, y"')]
    path = tmp_path / "classes.csv"
    path.write_bytes("".join(delimiter.join(row) + end for row in rows).encode(encoding))
    table = read_class_table(path, FOUR)
    assert table.counts(FOUR) == {"Männer": 2, "x, y": 2}


def test_class_table_is_found_beside_the_preprocessed_or_the_raw_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.delenv("nnUNet_raw", raising=False)
    with pytest.raises(DataError, match=r"Dataset001_X has no classes\.csv"):
        find_class_table("Dataset001_X")
    for folder in ("raw", "preprocessed"):
        monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
        (tmp_path / folder / "Dataset001_X").mkdir(parents=True)
        path = _table(tmp_path / folder / "Dataset001_X", "case,class\n")
        assert find_class_table("Dataset001_X") == path


@given(sizes=st.lists(st.integers(2, 40), min_size=2, max_size=5))
def test_balanced_sampling_gives_every_class_the_same_share(tmp_path_factory: pytest.TempPathFactory, sizes) -> None:
    rows = [(f"case{k}_{i}", f"class{k}") for k, size in enumerate(sizes) for i in range(size)]
    path = tmp_path_factory.mktemp("table") / "classes.csv"
    path.write_text("case,class\n" + "".join(f"{c},{k}\n" for c, k in rows))
    cases = [case for case, _ in rows]
    table = read_class_table(path, cases)
    drawn = table.balanced(cases)
    assert len(set(table.counts(drawn).values())) == 1
    assert set(drawn) == set(cases)
    for k, size in enumerate(sizes):
        repeats = [drawn.count(f"case{k}_{i}") for i in range(size)]
        assert max(repeats) - min(repeats) <= (1 if min(repeats) >= 8 else 0)


def test_class_without_training_case_is_refused(tmp_path: Path) -> None:
    table = read_class_table(_table(tmp_path, "case,class\na,x\nb,x\nc,y\nd,y\n"), FOUR)
    with pytest.raises(DataError, match="no training case of the fold has the class y"):
        table.check_training(["a", "b"])


def test_table_of_several_classes_is_read_with_cases_that_have_none(tmp_path: Path) -> None:
    table = read_class_table(_table(tmp_path, "case,classes\na, y ;x\nb,\nc,x;;x\nd,y;\n"), FOUR)
    assert isinstance(table, LabelTable)
    assert table.classes == ("x", "y")
    assert table.matrix(FOUR).tolist() == [[True, True], [False, False], [True, False], [False, True]]
    assert table.counts(["a", "b"]) == {"x": 1, "y": 1}


def test_one_class_that_some_cases_have_can_be_learnt(tmp_path: Path) -> None:
    table = read_class_table(_table(tmp_path, "case,classes\na,x\nb,\nc,x\nd,\n"), FOUR)
    table.check_training(["a", "b"])
    with pytest.raises(DataError, match="every training case of the fold has the class x"):
        table.check_training(["a", "c"])
    with pytest.raises(DataError, match="no training case of the fold has the class x"):
        table.check_training(["b", "d"])


def test_values_are_standardised_by_the_training_cases_alone(tmp_path: Path) -> None:
    table = read_class_table(_table(tmp_path, "case,value\na,10\nb,20\nc,1e3\nd,-5\n"), FOUR)
    head = _head(table, {}, ["a", "b"])
    assert head.details() == {"training_mean": 15, "training_sd": 5}
    assert head.targets(["a", "b", "c"]).tolist() == [[-1], [1], [197]]
    assert head.predictions(torch.tensor([[2.0]])).tolist() == [[25]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"a": "1", "b": "1", "c": "2"}, "all training cases of the fold have the same value"),
        ({"a": "1e308", "b": "-1e308", "c": "2"}, "values from -1e\\+308 to 1e\\+308 can't be standardised"),
        ({"a": "5e-324", "b": "0", "c": "2"}, "can't be standardised"),
    ],
)
def test_training_values_without_a_spread_are_refused(cells: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _head(ValueTable.from_cells(cells), {}, ["a", "b"])


@given(st.lists(st.frozensets(st.integers(0, 3)), min_size=4, max_size=60), st.integers(0, 3))
def test_cases_are_drawn_by_their_rarest_class(sets: list[frozenset[int]], rare: int) -> None:
    labels = {f"case{i}": found - {rare} for i, found in enumerate(sets)}
    labels |= {"with": frozenset({rare}), "with too": frozenset({rare})}
    table = LabelTable(tuple("pqrs"), labels)
    drawn = table.balanced(list(labels))
    counts = table.matrix(list(labels)).sum(axis=0)
    assert set(drawn) == set(labels)
    common = [drawn.count(case) for case, found in labels.items() if all(counts[i] == counts.max() for i in found)]
    assert len(set(common)) <= 1
    for case, found in labels.items():
        factor = max((math.sqrt(counts.max() / counts[i]) for i in found), default=1)
        assert drawn.count(case) / drawn.count("with") == pytest.approx(
            factor / math.sqrt(counts.max() / counts[rare]), rel=0.15
        )


# settings


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ([], "must be a block"),
        ({"lable_smoothing": 0.1}, "unknown key 'lable_smoothing'; did you mean label_smoothing"),
        ({"dropout": 0.1}, "unknown key 'dropout'; there are: label_smoothing, class_weights, sampling"),
        *(({"label_smoothing": value}, "from 0 to below 1") for value in (1, -0.1, math.nan, "0.1", True, None)),
        *(({"class_weights": value}, "class_weights must be") for value in ("even", 2, {}, [1, 2])),
        *(({"class_weights": {"x": value}}, "weight of class x") for value in (0, -1, math.inf, "2", None)),
        *(({"sampling": value}, "sampling must be") for value in ("equal", 1, None)),
        ({"class_weights": "balanced"}, "a second time; set sampling to 'natural'"),
        ({"class_weights": "balanced", "sampling": "balanced"}, "a second time"),
    ],
)
def test_faulty_settings_are_refused_in_one_line(block: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings({"classification": block})
    assert "\n" not in str(caught.value)


def test_settings_for_other_tables_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"class_weights names the class 'femal', .* did you mean female"):
        _head(_classes(female=2, male=2), {"class_weights": {"femal": 2}})
    for block in ({"label_smoothing": 0.1}, {"class_weights": {"x": 2}}, {"sampling": "balanced"}):
        with pytest.raises(SettingsError, match=f"{next(iter(block))} is for classes"):
            _head(ValueTable({"a": 1.0, "b": 2.0}), block)
    assert _head(ValueTable({"a": 1.0, "b": 2.0}), {"sampling": "natural"}).sampled(["a", "b"]) == ["a", "b"]


# losses


def _head(table: Any, block: dict[str, Any], training: list[str] | None = None) -> Head[Any]:
    settings = read_settings({"classification": block})
    cases = next(content for content in vars(table).values() if isinstance(content, dict))
    return HEADS[type(table)](table, settings, training or sorted(cases))


def _classes(**sizes: int) -> ClassTable:
    return ClassTable.from_cells({f"{name}{i}": name for name, size in sizes.items() for i in range(size)})


def test_without_settings_the_loss_is_plain_cross_entropy_and_sampling_balanced() -> None:
    head = _head(_classes(x=2, y=6), {})
    outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert head.loss()(outputs, head.targets(["x0", "x1"])).item() == pytest.approx(expected)
    assert head.table.counts(head.sampled(["x0", "x1", *(f"y{i}" for i in range(6))])) == {"x": 6, "y": 6}
    assert head.record()["settings"] == {}


def test_smoothing_moves_its_share_of_the_target_to_all_classes() -> None:
    head = _head(_classes(x=2, y=6), {"label_smoothing": 0.2})
    log_p = torch.log_softmax(torch.tensor([[2.0, 0.0]]), dim=1)[0]
    loss = head.loss()(torch.tensor([[2.0, 0.0]]), head.targets(["x0"]))
    assert loss.item() == pytest.approx(-(0.9 * log_p[0] + 0.1 * log_p[1]).item())
    assert head.predictions(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    labels = LabelTable(("x", "y"), {"a": frozenset({0}), "b": frozenset({1})})
    assert _head(labels, {"label_smoothing": 0.2}).targets(["a"]).tolist() == [pytest.approx([0.9, 0.1])]


def test_balanced_weights_are_those_of_scikit_learn_and_come_from_training_cases() -> None:
    table = _classes(x=5, y=6)
    training = ["x0", "x1", *(f"y{i}" for i in range(6))]
    head = _head(table, {"class_weights": "balanced", "sampling": "natural"}, training)
    expected = compute_class_weight("balanced", classes=np.arange(2), y=table.indices(training))
    assert head.loss().weight.tolist() == pytest.approx(expected.tolist())
    assert head.sampled(training) == training


def test_weights_by_name_weigh_cases_of_one_class_and_leave_the_others() -> None:
    head = _head(_classes(x=2, y=6), {"class_weights": {"y": 3}})
    outputs = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    of_x, of_y = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert head.loss()(outputs, head.targets(["x0", "y0"])).item() == pytest.approx((of_x + 3 * of_y) / 4)


def test_several_classes_have_a_binary_cross_entropy_each_whose_positives_can_be_weighted() -> None:
    table = LabelTable(("x", "y"), {"a": frozenset({0, 1}), "b": frozenset(), "c": frozenset({1}), "d": frozenset({1})})
    outputs = torch.tensor([[1.0, -2.0]])
    negative = math.log(1 + math.exp(1)), math.log(1 + math.exp(-2))
    positive = math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))
    plain, weighted = (_head(table, b) for b in ({}, {"class_weights": "balanced", "sampling": "natural"}))
    assert plain.loss()(outputs, plain.targets(["c"])).item() == pytest.approx((negative[0] + positive[1]) / 2)
    # three cases without x to one with it; one without y to three
    loss = weighted.loss()(outputs, weighted.targets(["a"])).item()
    assert loss == pytest.approx((3 * positive[0] + positive[1] / 3) / 2)


def test_values_have_hubers_loss_with_its_threshold_at_one_standard_deviation() -> None:
    head = _head(ValueTable({"a": 10.0, "b": 20.0}), {})
    for output, expected in ((0.5, 0.125), (4.0, 3.5)):
        assert head.loss()(torch.tensor([[1 + output]]), head.targets(["b"])).item() == pytest.approx(expected)


# scores


@given(st.integers(0, 10_000))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(3), rng.integers(0, 3, 20)])
    # few distinct values, so that ties occur; one shift per row keeps the rows' sums and the order within a column
    scores = rng.integers(1, 5, (23, 3)) / 10
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    summary = classification_summary([f"c{i}" for i in range(23)], ("x", "y", "z"), true, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert summary["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert summary["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    assert summary["auc"] == pytest.approx(roc_auc_score(true, probabilities, multi_class="ovr", average="macro"))
    assert summary["confusion_matrix"] == confusion_matrix(true, predicted).tolist()


def test_area_under_curve_of_a_worked_example() -> None:
    # 6 pairs: 0.8 beats 0.3 and 0.4; 0.4 beats 0.3 and ties 0.4; 0.3 ties 0.3: (1 + 1 + 1 + 1/2 + 1/2 + 0) / 6
    area = area_under_curve(np.array([True, True, True, False, False]), np.array([0.8, 0.4, 0.3, 0.3, 0.4]))
    assert area == pytest.approx(4 / 6)


def test_scores_without_a_class_in_the_fold_are_null_and_valid_json() -> None:
    summary = classification_summary(["a", "b"], ("x", "y"), np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert summary["auc"] is None
    assert summary["balanced_accuracy"] == 0.5
    assert summary["cases"][1] == {
        "case": "b",
        "class": "x",
        "predicted": "y",
        "probabilities": {"x": 0.2, "y": 0.8},
    }
    json.dumps(summary, allow_nan=False)


@given(st.integers(0, 10_000))
def test_multi_label_scores_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.eye(3, dtype=bool), rng.random((20, 3)) < 0.3])
    probabilities = rng.integers(0, 11, true.shape) / 10  # ties
    summary = multi_label_summary([f"c{i}" for i in range(23)], ("x", "y", "z"), true, probabilities)
    assert summary["auc"] == pytest.approx(roc_auc_score(true, probabilities, average="macro"))
    assert summary["average_precision"] == pytest.approx(average_precision_score(true, probabilities, average="macro"))
    assert list(summary["average_precision_per_class"].values()) == pytest.approx(
        average_precision_score(true, probabilities, average=None)
    )
    assert summary["f1"] == pytest.approx(f1_score(true, probabilities >= 0.5, average="macro"))
    json.dumps(summary, allow_nan=False)


def test_multi_label_scores_of_classes_that_the_fold_lacks_are_null() -> None:
    true = np.array([[True, False], [False, False]])
    summary = multi_label_summary(["a", "b"], ("x", "y"), true, np.array([[0.9, 0.1], [0.2, 0.3]]))
    assert summary["auc_per_class"] == {"x": 1, "y": None}
    assert summary["average_precision_per_class"] == {"x": 1, "y": None}
    assert summary["f1_per_class"] == {"x": 1, "y": None}
    assert summary["auc"] == summary["average_precision"] == summary["f1"] == 1
    assert summary["cases"][0]["classes"] == summary["cases"][0]["predicted"] == ["x"]


@given(st.integers(0, 10_000))
def test_regression_scores_agree_with_scikit_learn_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(50, 20, 12)
    predicted = true + rng.normal(3, 10, 12)
    summary = regression_summary([f"c{i}" for i in range(12)], true, predicted, training_mean=40.0)
    assert summary["mae"] == pytest.approx(mean_absolute_error(true, predicted))
    assert summary["r2"] == pytest.approx(r2_score(true, predicted))
    assert summary["pearson_r"] == pytest.approx(pearsonr(true, predicted).statistic)
    assert summary["mae_of_training_mean"] == pytest.approx(mean_absolute_error(true, np.full(12, 40.0)))


def test_regression_scores_of_one_case_or_of_a_constant_are_null() -> None:
    for true, predicted in (([3.0], [4.0]), ([3.0, 3.0], [4.0, 2.0])):
        summary = regression_summary(["a", "b"][: len(true)], np.array(true), np.array(predicted), 1.0)
        assert (summary["r2"], summary["pearson_r"], summary["mae"]) == (None, None, 1)
        json.dumps(summary, allow_nan=False)


def test_scores_of_an_epoch_are_numbers_whatever_was_drawn() -> None:
    # nnU-Net's moving average would keep a NaN for ever, and with it the best checkpoint
    labels = _head(LabelTable(("x", "y"), {"a": frozenset({0}), "b": frozenset({0, 1}), "c": frozenset()}), {})
    _, score, parts = labels.epoch_score(["b", "b", "c"], np.array([[0.6, 0.4], [0.7, 0.1], [0.8, 0.2]]))
    assert parts == [0, 0.5]
    assert score == 0.25
    _, score, parts = labels.epoch_score(["a", "c"], np.array([[0.6, 0.4], [0.5, 0.1]]))
    assert score == 0.75
    assert math.isnan(parts[1])
    values = _head(ValueTable({"a": 1.0, "b": 2.0}), {})
    assert values.epoch_score(["a", "a"], np.array([[1.0], [2.0]]))[1] == 0
    assert values.epoch_score(["a", "b"], np.array([[1.0], [2.0]]))[1] == 1
