"""The guard on samples tables: leaks of every kind are named with their figure, and noise never is."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onehull.errors import DataError
from onehull.events import assemble
from onehull.monitor import LeakReport, guard, refuse
from onehull.spec import Spec, load_spec, validate

ROOT = Path(__file__).parents[2]
ROWS = 4000
START = datetime(2026, 3, 1, tzinfo=UTC)
TASKS = {
    "click": {"kind": "binary", "label": "c"},
    "watch": {"kind": "regression", "label": "w"},
    "ending": {"kind": "multiclass", "label": "e", "classes": 3},
}


def spec_of(features: dict, tasks: dict | None = None, **sections: object) -> Spec:
    return load_spec(
        {
            "name": "guarded",
            "data": {
                "samples": "s.parquet",
                "user": "u",
                "time": "t",
                "split": {"by": "random", "validation": 0.1, "test": 0.1},
            },
            "features": features,
            "tasks": tasks or TASKS,
            **sections,
        }
    )


def labels(seed: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    click = (random.random(rows) < 0.2).astype(float)
    click[random.random(rows) < 0.1] = np.nan
    return {
        "click": click,
        "watch": random.exponential(30, rows),
        "ending": random.integers(3, size=rows).astype(float),
    }


def table(directory: Path, features: dict, found: dict, user: list | None = None) -> Path:
    """A samples table, three quarters of it for training."""
    rows = len(next(iter(found.values())))
    columns = {
        "sample": [str(n) for n in range(rows)],
        "split": ["test" if n % 4 == 3 else "train" for n in range(rows)],
        "time": [START + timedelta(minutes=n) for n in range(rows)],
        "user": user or [f"u{n % 97}" for n in range(rows)],
        "item": [None] * rows,
    }
    frame = pl.DataFrame(columns, schema_overrides={"item": pl.String})
    frame = frame.with_columns(pl.Series(f"x.{name}", values) for name, values in features.items())
    frame = frame.with_columns(
        pl.Series(f"y.{name}", values, dtype=pl.Float64, nan_to_null=True) for name, values in found.items()
    )
    frame.write_parquet(directory / "samples.parquet")
    return directory / "samples.parquet"


def found_in(directory: Path, kinds: dict, features: dict, found: dict, **sections: object) -> LeakReport:
    return guard(spec_of(kinds, **sections), table(directory, features, found))  # type: ignore[arg-type]


def all_of(kind: str, names: Iterable[str]) -> dict:
    return {name: {"kind": kind} for name in names}


def named(report: LeakReport) -> set[tuple[str, str | None]]:
    return {(finding.feature, finding.task) for finding in report.leaks}


def test_copies_functions_and_noisy_copies_of_a_label_are_leaks(tmp_path: Path):
    y = labels(0)
    random = np.random.default_rng(1)
    flipped = np.where(random.random(ROWS) < 0.005, 1 - y["click"], y["click"])
    features = {
        "copy": y["click"],
        "less": -3 * y["click"] + random.normal(size=ROWS) / 10,
        "noisy": flipped,
        "text": [None if np.isnan(one) else f"{one:.0f}" for one in flipped],
        "seconds": y["watch"] ** 2,
        "kind": [f"{one:.0f}" for one in y["ending"]],
        "tags": [["a", "b"] + (["end"] if one == 2 else []) for one in y["ending"]],
        "vector": [[0.5, float(one > 0)] for one in y["ending"]],
    }
    kinds = all_of("numeric", ["copy", "less", "noisy", "seconds"]) | {
        "text": {"kind": "categorical"},
        "kind": {"kind": "categorical"},
        "tags": {"kind": "list"},
        "vector": {"kind": "vector", "size": 2},
    }
    report = found_in(tmp_path, kinds, features, y)
    assert named(report) == {
        ("copy", "click"),
        ("less", "click"),
        ("noisy", "click"),
        ("text", "click"),
        ("seconds", "watch"),
        ("kind", "ending"),
        ("tags", "ending"),
        ("vector", "ending"),
    }
    figures = {finding.feature: finding for finding in report.leaks}
    assert figures["copy"].figure == pytest.approx(1.0)
    assert figures["seconds"].sign == "correlation"
    assert 0.98 < figures["noisy"].figure < 1.0


def test_a_feature_that_is_not_ordered_as_its_label_is_caught_by_information(tmp_path: Path):
    y = labels(2)
    random = np.random.default_rng(3)
    band = np.where(
        y["click"] == 1, random.uniform(-1, 1, ROWS), random.choice([-1, 1], ROWS) * random.uniform(1, 3, ROWS)
    )
    report = found_in(tmp_path, {"band": {"kind": "numeric"}}, {"band": band}, y)
    (finding,) = report.leaks
    assert (finding.sign, finding.task) == ("information", "click")
    assert finding.figure > 0.9


def test_a_feature_that_is_missing_for_one_class_is_a_leak(tmp_path: Path):
    y = labels(4)
    random = np.random.default_rng(5)
    value = np.where((y["click"] == 1) | (random.random(ROWS) < 0.2), random.normal(size=ROWS), np.nan)
    some = np.where((y["click"] == 1) | (random.random(ROWS) < 0.7), random.normal(size=ROWS), np.nan)
    chance = np.where(random.random(ROWS) < 0.5, random.normal(size=ROWS), np.nan)
    columns = {
        name: [None if np.isnan(one) else float(one) for one in values]
        for name, values in (("value", value), ("some", some), ("chance", chance))
    }
    report = found_in(tmp_path, all_of("numeric", columns), columns, y)
    missing = {finding.feature: finding for finding in report.findings}
    assert set(missing) == {"value", "some"}
    assert (missing["value"].level, missing["value"].sign) == ("leak", "missing")
    assert missing["value"].figure == pytest.approx(0.8, abs=0.05)
    assert "missing in 79.8% of a class of task click, else in 0.0%" in missing["value"].text
    assert missing["some"].level == "suspicious"


def test_an_error_names_feature_rule_figure_and_remedy(tmp_path: Path):
    y = labels(6)
    report = found_in(tmp_path, {"copy": {"kind": "numeric"}}, {"copy": y["click"]}, y)
    with pytest.raises(DataError) as raised:
        refuse(report, "feed.yaml")
    text = str(raised.value)
    assert text.startswith("feed.yaml: features.copy must not tell a label by itself: AUC 1.0000 for task click on ")
    assert "leakage.allowed" in text
    assert "leakage.auc" in text


def test_an_allowed_feature_is_reported_and_not_refused(tmp_path: Path):
    y = labels(7)
    report = found_in(tmp_path, {"copy": {"kind": "numeric"}}, {"copy": y["click"]}, y, leakage={"allowed": ["copy"]})
    refuse(report, "feed.yaml")
    assert [finding.level for finding in report.findings] == ["allowed"]
    assert "Allowed by leakage.allowed" in report.warnings[0]


def test_only_a_feature_can_be_allowed():
    document = json.loads(spec_of({"age": {"kind": "numeric"}}).model_dump_json())
    _, faults = validate({**document, "leakage": {"allowed": ["agee"]}})
    assert [fault.place for fault in faults] == ["leakage.allowed"]
    assert "Did you mean 'age'?" in str(faults[0])


def test_a_warning_comes_before_a_refusal():
    document = json.loads(spec_of({"age": {"kind": "numeric"}}).model_dump_json())
    _, faults = validate({**document, "leakage": {"auc": 0.8, "suspicious_auc": 0.9}})
    assert "leakage.suspicious_auc" in str(faults[0])


def test_the_id_of_the_user_is_no_leak_and_another_id_is(tmp_path: Path):
    y = labels(8)
    # A user who always clicks, or never does.
    user = [f"{'yes' if one == 1 else 'no'}{n % 40}" for n, one in enumerate(y["click"])]
    kinds = {"u": {"kind": "categorical"}, "account": {"kind": "categorical"}}
    report = guard(spec_of(kinds), table(tmp_path, {"u": user, "account": user}, y, user))
    assert named(report) == {("account", "click")}
    assert {score.feature for score in report.scores if score.entity_id} == {"u"}


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_never_found(tmp_path: Path, seed: int):
    random = np.random.default_rng(100 + seed)
    rows = 400 if seed % 2 else ROWS
    y = labels(seed, rows)
    y["watch"] *= random.random(rows) < 0.3
    gone = random.random(rows) < 0.4
    features = {
        "number": random.standard_cauchy(rows),
        "count": random.poisson(1, rows).astype(float),
        "few": [f"f{n}" for n in random.integers(4, size=rows)],
        "many": [f"m{n}" for n in random.integers(rows, size=rows)],
        "gone": [None if lost else 1.0 for lost in gone],
        "tags": [[f"t{t}" for t in random.integers(300, size=n)] for n in random.integers(0, 5, size=rows)],
        "vector": random.normal(size=(rows, 8)).astype(np.float32).tolist(),
    }
    kinds = {
        "number": {"kind": "numeric"},
        "count": {"kind": "numeric"},
        "few": {"kind": "categorical"},
        "many": {"kind": "categorical"},
        "gone": {"kind": "numeric"},
        "tags": {"kind": "list"},
        "vector": {"kind": "vector", "size": 8},
    }
    report = found_in(tmp_path, kinds, features, y)
    assert not report.findings
    assert len(report.scores) == len(kinds) * len(TASKS)


def test_a_task_with_too_few_rows_of_a_class_is_said_and_not_measured(tmp_path: Path):
    y = labels(9)
    y["click"][:] = 0
    y["click"][:25] = 1
    report = found_in(tmp_path, {"copy": {"kind": "numeric"}}, {"copy": y["click"]}, y)
    assert not report.findings
    assert any("task click" in note for note in report.notes)
    assert {score.task for score in report.scores} == {"watch", "ending"}


def test_a_large_table_is_sampled_the_same_way_each_time(tmp_path: Path):
    y = labels(10)
    path = table(tmp_path, {"number": np.arange(ROWS, dtype=float)}, y)
    spec = spec_of({"number": {"kind": "numeric"}}, leakage={"rows": 1000})
    report = guard(spec, path)
    assert (report.rows, report.training_rows) == (1000, ROWS * 3 // 4)
    assert guard(spec, path) == report


@pytest.mark.parametrize(
    ("unit", "late", "level"), [("s", 0.3, "leak"), ("ms", 0.3, "leak"), ("s", 0.002, "suspicious")]
)
def test_a_moment_after_the_impression_is_newer(tmp_path: Path, unit: str, late: float, level: str):
    random = np.random.default_rng(1100)
    shift = np.where(random.random(ROWS) < late, 1, -1) * random.integers(60, 86_400, size=ROWS)
    shown = np.array([(START + timedelta(minutes=n)).timestamp() for n in range(ROWS)])
    scale = {"s": 1, "ms": 1000}[unit]
    features = {"seen": (shown + shift) * scale, "sent": shown * scale, "views": shift + 1e6}
    report = found_in(tmp_path, all_of("numeric", features), features, labels(11))
    (finding,) = report.findings
    assert (finding.feature, finding.sign, finding.level) == ("seen", "newer", level)
    assert finding.figure == pytest.approx(late, abs=0.05)


def test_a_moment_as_text_is_read(tmp_path: Path):
    shown = [START + timedelta(minutes=n) for n in range(ROWS)]
    features = {
        "updated": [(one + timedelta(hours=2)).isoformat() for one in shown],
        "day": [one.date().isoformat() for one in shown],
        "name": [f"video {n % 50}" for n in range(ROWS)],
    }
    report = found_in(tmp_path, all_of("categorical", features), features, labels(12))
    assert [(finding.feature, finding.level) for finding in report.findings] == [("updated", "leak")]
    assert "must not be newer than its impression" in str(report.leaks[0].fault())


def test_values_from_before_a_history_begins_are_newer_than_their_impression(tmp_path: Path):
    user = [f"u{n % 50}" for n in range(ROWS)]
    y = labels(13)
    raw = pl.DataFrame({"u": user, "t": [START + timedelta(minutes=n) for n in range(ROWS)], "c": y["click"]})
    raw.write_parquet(tmp_path / "s.parquet")
    joined = START + timedelta(minutes=2000)
    people = pl.DataFrame(
        {"id": [f"u{n}" for n in range(50)], "age": [20.0 + n % 7 for n in range(50)], "at": [joined] * 50}
    )
    people.write_parquet(tmp_path / "users.parquet")
    tables = {"user": {"path": "users.parquet", "key": "id", "time": "at"}}
    document = json.loads(spec_of({"age": {"kind": "numeric"}}, {"click": TASKS["click"]}).model_dump_json())
    document["data"] |= {"tables": tables, "split": {"by": "time", "validation": "1h", "test": "1h"}}
    spec = load_spec(document)
    assemble(spec, tmp_path, tmp_path / "out")
    assert not guard(spec, tmp_path / "out" / "samples.parquet", tmp_path).findings
    # A join that does not look at the time.
    wrong = table(tmp_path, {"age": [20.0 + n % 50 % 7 for n in range(ROWS)]}, {"click": y["click"]}, user)
    (finding,) = guard(spec, wrong, tmp_path).leaks
    assert (finding.feature, finding.sign) == ("age", "newer")
    assert "data.tables.user" in finding.text


def test_a_snapshot_of_unknown_age_is_a_note(tmp_path: Path):
    people = pl.DataFrame({"id": ["u1"], "age": [30.0]})
    people.write_parquet(tmp_path / "users.parquet")
    y = labels(14)
    document = json.loads(spec_of({"age": {"kind": "numeric"}}).model_dump_json())
    document["data"]["tables"] = {"user": {"path": "users.parquet", "key": "id"}}
    report = guard(load_spec(document), table(tmp_path, {"age": [30.0] * ROWS}, y), tmp_path)
    assert not report.findings
    assert "data.tables.user is a snapshot of unknown age" in report.notes[0]


def kuairand_spec(**extra: dict) -> Spec:
    spec = load_spec(ROOT / "recipes" / "kuairand.yaml")
    document = json.loads(spec.model_dump_json())
    document["tasks"].pop("watch")
    document["fusion"] = {}
    document["features"] = {name: document["features"][name] for name in ("user_id", "video_id", "tab")} | extra
    return load_spec(document)


def test_play_time_as_an_input_is_refused_on_kuairand(kuairand: Path, tmp_path: Path):
    spec = kuairand_spec(played={"kind": "numeric", "column": "play_time_ms"})
    assemble(spec, kuairand, tmp_path)
    report = guard(spec, tmp_path / "samples.parquet", kuairand)
    assert named(report) == {("played", "long_view")}
    (finding,) = report.leaks
    assert finding.figure == pytest.approx(0.994, abs=0.001)
    with pytest.raises(DataError, match=r"features\.played must not tell a label by itself: AUC 0\.99"):
        refuse(report, "kuairand.yaml")
    # The click is told nearly as well; that is a warning.
    assert any("features.played" in text and "click" in text for text in report.warnings)


@pytest.mark.parametrize(
    ("recipe", "data", "warned"),
    [
        ("kuairand", "kuairand", set()),
        # What the table says of the household holds the words "never married", or "child".
        ("census_income", "census", {"age", "tax_filer_stat", "det_hh_fam_stat", "det_hh_summ"}),
    ],
)
def test_recipes_pass_the_guard(recipe: str, data: str, warned: set, tmp_path: Path, request: pytest.FixtureRequest):
    directory = request.getfixturevalue(data)
    spec = load_spec(ROOT / "recipes" / f"{recipe}.yaml")
    assemble(spec, directory, tmp_path)
    report = guard(spec, tmp_path / "samples.parquet", directory)
    refuse(report, recipe)
    assert {finding.feature for finding in report.findings} == warned
