"""What the data lack is told at once, with the place in the spec and the nearest known name."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from onehull.errors import DataError, SpecError
from onehull.events import assemble, data_faults, feature_sources
from onehull.spec import load_spec


def spec(data: dict[str, Any], tasks: dict[str, Any] | None = None, **more: Any):
    document = {
        "name": "test",
        "features": {"age": {"kind": "numeric"}},
        "tasks": tasks or {"click": {"kind": "binary", "label": "is_click"}},
        **more,
    }
    data.setdefault("split", {"by": "column", "column": "day", "validation": [1], "test": [2]})
    return load_spec({**document, "data": data})


def write_samples(directory: Path, **columns: Any) -> None:
    base = {"day": [0, 1, 2], "is_click": [0, 1, 0], "age": [1, 2, 3], "user": [1, 2, 3]}
    pl.DataFrame({**base, **columns}).write_parquet(directory / "samples.parquet")


def test_a_complete_data_directory_has_no_fault(tmp_path: Path):
    write_samples(tmp_path)
    assert data_faults(spec({"samples": "samples.parquet"}), tmp_path) == []


def test_every_absent_file_is_named_with_the_nearest_one(tmp_path: Path):
    write_samples(tmp_path)
    tables = {"user": {"path": "users.parquet", "key": "u"}}
    faults = data_faults(spec({"samples": "sample.parquet", "user": "user", "tables": tables}), tmp_path)
    assert [fault.place for fault in faults] == ["data.samples", "data.tables.user.path"]
    assert "Did you mean 'samples.parquet'?" in str(faults[0])
    faults = data_faults(spec({"samples": "samples.parquet"}), tmp_path / "nowhere")
    assert [fault.place for fault in faults] == ["data.samples"]


def test_every_absent_column_is_named_with_the_nearest_one_and_nothing_is_written(tmp_path: Path):
    write_samples(tmp_path)
    pl.DataFrame({"uid": [1], "city": ["a"]}).write_parquet(tmp_path / "users.parquet")
    document = spec(
        {
            "samples": "samples.parquet",
            "user": "usr",
            "time": "when",
            "tables": {"user": {"path": "users.parquet", "key": "id"}},
            "split": {"by": "column", "column": "days", "validation": [1], "test": [2]},
        },
        {"click": {"kind": "binary", "label": "is_clik"}},
        features={"cty": {"kind": "categorical"}, "years": {"kind": "numeric", "column": "agee"}},
        serving={"display": {"title": "title"}},
    )
    faults = {fault.place: str(fault) for fault in data_faults(document, tmp_path)}
    assert sorted(faults) == [
        "data.split.column",
        "data.tables.user.key",
        "data.time",
        "data.user",
        "features.cty",
        "features.years.column",
        "serving.display.title",
        "tasks.click.label",
    ]
    for place, name in {
        "data.user": "user",
        "data.split.column": "day",
        "features.cty": "city",
        "features.years.column": "age",
        "tasks.click.label": "is_click",
    }.items():
        assert f"Did you mean {name!r}?" in faults[place]
    with pytest.raises(SpecError, match="8 faults"):
        assemble(document, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SpecError, match=r"features\.cty"):
        feature_sources(document, tmp_path)


def test_a_column_of_the_wrong_type_is_a_fault(tmp_path: Path):
    write_samples(tmp_path, word=["a", "b", "c"], text=["0", "1", "0"], lists=[[1], [2], [3]])
    document = spec(
        {"samples": "samples.parquet", "user": "user", "time": "word"},
        {"click": {"kind": "binary", "label": "text"}},
        features={
            "number": {"kind": "numeric", "column": "word"},
            "one": {"kind": "categorical", "column": "lists"},
            "many": {"kind": "list", "column": "day"},
            "who": {"kind": "numeric", "column": "user"},
        },
    )
    faults = {fault.place: fault.rule for fault in data_faults(document, tmp_path)}
    assert faults == {
        "data.time": "names column 'word', which must hold numbers where data.time_unit is s",
        "tasks.click.label": "names column 'text', which must hold numbers or booleans",
        "features.number.column": "reads column 'word', which must hold numbers",
        "features.one.column": "reads column 'lists', which must hold one value a row, not lists",
        "features.many.column": "reads column 'day', which must hold lists (or text, with a separator)",
        "features.who.column": "reads an id, which must be a categorical feature",
    }


def test_a_second_file_must_have_the_columns_of_the_first(tmp_path: Path):
    write_samples(tmp_path)
    pl.DataFrame({"is_click": [0], "agee": [1]}).write_parquet(tmp_path / "holdout.parquet")
    split = {"by": "random", "validation": 0.5, "test": 0.5}
    faults = data_faults(spec({"samples": "samples.parquet", "holdout": "holdout.parquet", "split": split}), tmp_path)
    assert [(fault.place, fault.value) for fault in faults] == [("data.holdout", "age")]


def test_a_table_that_cannot_be_read_is_the_owners_to_repair(tmp_path: Path):
    (tmp_path / "samples.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"samples\.parquet cannot be read"):
        data_faults(spec({"samples": "samples.parquet"}), tmp_path)
    (tmp_path / "samples.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"must end in one of \.parquet"):
        data_faults(spec({"samples": "samples.xlsx"}), tmp_path)


EVENTS = {"impressions": "i*.jsonl", "feedback": "f*.jsonl"}
CLICK = {"click": {"kind": "binary", "event": "click", "window": "1m"}}


def write_log(directory: Path, context: dict[str, Any] | None) -> None:
    event = {"event": "impression", "id": "1", "time": 5, "user": "u", "item": "v", "context": context}
    (directory / "i.jsonl").write_text("broken\n" + (json.dumps(event) + "\n" if context is not None else ""))
    (directory / "f.jsonl").write_text("")


def test_context_is_found_in_the_first_impressions(tmp_path: Path):
    write_log(tmp_path, {"hour": 1, "day": 1})
    pl.DataFrame({"user": ["u"], "age": [1], "hour": [2]}).write_parquet(tmp_path / "users.parquet")
    tables = {"user": {"path": "users.parquet", "key": "user"}}
    features = {
        "age": {"kind": "numeric"},
        "hour": {"kind": "categorical"},
        "who": {"kind": "categorical", "column": "user"},
        "what": {"kind": "categorical", "column": "item"},
    }
    document = spec({"events": EVENTS, "tables": tables}, CLICK, features=features)
    assert data_faults(document, tmp_path) == []
    assert feature_sources(document, tmp_path) == {"age": "user", "hour": "context", "who": "user", "what": "item"}


def test_a_context_field_that_no_impression_has_is_a_fault(tmp_path: Path):
    write_log(tmp_path, {"hour": 1})
    document = spec({"events": EVENTS}, CLICK, features={"our": {"kind": "categorical"}})
    faults = {fault.place: str(fault) for fault in data_faults(document, tmp_path)}
    assert sorted(faults) == ["data.split.column", "features.our"]
    assert "Did you mean 'hour'?" in faults["features.our"]


def test_an_empty_log_is_not_blamed_on_the_spec(tmp_path: Path):
    write_log(tmp_path, None)
    document = spec({"events": EVENTS}, CLICK)
    assert data_faults(document, tmp_path) == []
    with pytest.raises(DataError, match=r"no usable impression in 1 lines of 2 files.*i\.jsonl, line 1"):
        assemble(document, tmp_path, tmp_path / "out")


def test_an_event_log_cannot_be_split_by_files(tmp_path: Path):
    split = {"by": "files", "validation": "v", "test": "t"}
    with pytest.raises(SpecError, match=r"data\.split\.by must be time, column or random for an event log"):
        spec({"events": EVENTS, "split": split}, CLICK)
