"""A spec: every fault at once, each with place, rule, value and remedy."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from onehull.errors import DataError, SpecError
from onehull.spec import Spec, dump_spec, load_spec, validate

VALID: dict[str, Any] = {
    "name": "small",
    "data": {"samples": "a.parquet", "split": {"by": "column", "column": "d", "validation": [1], "test": [2]}},
    "features": {"user_id": {"kind": "categorical"}, "age": {"kind": "numeric"}},
    "tasks": {
        "click": {"kind": "binary", "label": "is_click"},
        "watch": {"kind": "regression", "label": "seconds", "observed_when": "click"},
    },
}

TEN_FAULTS = """\
name: bad
data:
  samples: a.parquet
  usr: x
  split: {by: column, column: date, validation: [3], test: [3, 4]}
features:
  user_id: {kind: categorial}
  is_like: {kind: numeric, transfrm: log1p}
  age: {kind: numeric, buckets: 1}
tasks:
  click: {kind: binary, label: is_click, observed_when: clik}
  like: {kind: binary, label: is_like}
model: {dropout: 1.5, sharing_depth: 9}
balance: {kind: static, weights: {lik: 2}}
training: {epochs: 0}
"""


def changed(**sections):
    return {**VALID, **sections}


def messages(document):
    return [str(fault) for fault in validate(document)[1]]


def test_a_spec_with_ten_faults_gives_ten_messages(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text(TEN_FAULTS.replace("dropout: 1.5, ", ""))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    found = [str(fault) for fault in caught.value.faults]
    expected = [
        "line 4: data.usr is not a known key. Received 'x'.",
        "line 7: features.user_id.kind is not a known kind. Received 'categorial'.",
        "line 8: features.is_like.transfrm is not a known key. Received 'log1p'.",
        "line 9: features.age.buckets must be greater than or equal to 2. Received 1.",
        "line 13: model.sharing_depth must be at most 3",
        "line 15: training.epochs must be greater than or equal to 1. Received 0.",
        "line 5: data.split.test must not overlap data.split.validation. Received ['3'].",
        "line 11: tasks.click.observed_when must name a task. Received 'clik'.",
        "line 8: features.is_like must not read a label: tasks.like.label is this column. Received 'is_like'.",
        "line 14: balance.weights.lik must name a task. Received 'lik'.",
    ]
    assert len(found) == len(expected) == 10
    for message, start in zip(found, expected, strict=True):
        assert message.startswith(start)


def test_a_misspelt_name_comes_with_the_right_one():
    assert any("Did you mean 'user'?" in m for m in messages(changed(data={**VALID["data"], "usr": "u"})))
    kinds = messages(changed(features={"a": {"kind": "categorial"}}))
    assert any("Did you mean 'categorical'?" in m for m in kinds)


def test_a_label_among_the_features_is_refused():
    faults = messages(changed(features={"clicked": {"kind": "numeric", "column": "is_click"}}))
    assert len(faults) == 1
    assert "tasks.click.label" in faults[0]


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ({"by": "column", "column": "d", "validation": [1, 2], "test": [2]}, "data.split.test"),
        ({"by": "column", "column": "d", "train": [1], "validation": [1], "test": [2]}, "data.split.validation"),
        ({"by": "files", "validation": "v.parquet", "test": "./v.parquet"}, "data.split.test"),
        ({"by": "files", "validation": "a.parquet", "test": "t.parquet"}, "data.split.validation"),
        ({"by": "random", "validation": 0.5, "test": 0.6}, "data.split"),
    ],
)
def test_validation_and_test_that_overlap_are_refused(split, part):
    # Choosing a model on the data that it is reported on is the defect of MTReclib and its kin (early stop on test).
    spec, faults = validate(changed(data={"samples": "a.parquet", "split": split}))
    assert spec is None or faults
    assert [fault for fault in faults if fault.place == part]


def test_exactly_one_source_of_samples():
    split = {"by": "time", "validation": "1d", "test": "1d"}
    both = {"events": {"impressions": "i", "feedback": "f"}, "samples": "a.parquet", "split": split}
    assert any("exactly one of events and samples" in m for m in messages(changed(data=both)))
    assert any("exactly one of events and samples" in m for m in messages(changed(data={"split": split, "time": "t"})))


def test_tasks_of_an_event_log_need_an_event_and_a_window():
    data = {"events": {"impressions": "i", "feedback": "f"}, "split": {"by": "time", "validation": "1d", "test": "1d"}}
    faults = messages(changed(data=data, tasks={"watch": {"kind": "regression"}}))
    assert [m.split(" ")[0] for m in faults] == ["tasks.watch.event", "tasks.watch.window", "tasks.watch.value"]


def test_a_sample_space_cannot_lead_back_to_itself():
    tasks = {
        "a": {"kind": "binary", "label": "a", "observed_when": "b"},
        "b": {"kind": "binary", "label": "b", "observed_when": "a"},
    }
    assert all("must not lead back" in m for m in messages(changed(tasks=tasks)))
    assert len(messages(changed(tasks=tasks))) == 2


def test_a_regression_task_is_no_sample_space():
    tasks = {**VALID["tasks"], "like": {"kind": "binary", "label": "l", "observed_when": "watch"}}
    assert messages(changed(tasks=tasks)) == ["tasks.like.observed_when must name a binary task. Received 'watch'."]


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan"), "much"])
def test_a_weight_is_a_finite_number_that_is_not_negative(weight):
    assert messages(changed(balance={"kind": "static", "weights": {"click": weight}}))


def test_all_weights_zero_would_train_nothing():
    assert messages(changed(balance={"kind": "static", "weights": {"click": 0, "watch": 0}}))


@pytest.mark.parametrize("window", ["0m", "-1h", "soon", 30, "1y"])
def test_a_duration_is_a_number_and_a_unit(window):
    tasks = {"click": {"kind": "binary", "label": "is_click", "window": window}}
    assert "duration such as" in messages(changed(tasks=tasks))[0]


def test_the_same_key_twice_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(SpecError, match="line 2"):
        load_spec(path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", ""])
def test_a_document_that_is_no_mapping_is_refused(tmp_path: Path, text):
    path = tmp_path / "list.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match="must be a mapping"):
        load_spec(path)


def test_broken_yaml_names_its_line(tmp_path: Path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: a\ndata: {split: [\n")
    with pytest.raises(SpecError, match="line"):
        load_spec(path)


def test_an_absent_file_is_no_fault_of_the_spec(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent\.yaml"):
        load_spec(tmp_path / "absent.yaml")


def test_a_spec_is_frozen():
    spec = load_spec(VALID)
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"


def test_python_objects_and_yaml_say_the_same(tmp_path: Path):
    spec = load_spec(VALID)
    path = tmp_path / "spec.json"
    path.write_text(dump_spec(spec))
    assert load_spec(path) == spec
    assert Spec(**json.loads(dump_spec(spec))) == spec
