from __future__ import annotations

import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from onehull.errors import ArtifactError, DataError
from onehull.evaluate import Report, evaluate, report_table, write_report
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask, Task

TASKS: dict[str, Task] = {
    "click": BinaryTask(kind="binary", label="click"),
    "like": BinaryTask(kind="binary", label="like", observed_when="click"),
    "share": BinaryTask(kind="binary", label="share"),
    "watch": RegressionTask(kind="regression", label="watch"),
    "rating": MulticlassTask(kind="multiclass", label="rating", classes=3),
}


def _world(rows: int = 2000, seed: int = 0) -> tuple[pl.DataFrame, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows with missing labels, good predictions, and predictions that are better for watch and worse for click."""
    random = np.random.default_rng(seed)
    z = random.normal(size=rows)
    click = (random.random(rows) < 1 / (1 + np.exp(-z))).astype(float)
    like = np.where(click == 1, random.random(rows) < 0.1, np.nan)
    watch = np.where(random.random(rows) < 0.7, np.exp(z) * 10, np.nan)
    rating = np.where(random.random(rows) < 0.3, random.integers(0, 3, rows), np.nan)
    frame = pl.DataFrame(
        {
            "user": [f"u{i}" for i in random.integers(0, rows // 10, rows)],
            "y.click": click,
            "y.like": pl.Series(like).fill_nan(None),
            "y.share": np.zeros(rows),
            "y.watch": pl.Series(watch).fill_nan(None),
            "y.rating": pl.Series(rating).fill_nan(None),
            "x.duration": np.exp(random.normal(size=rows)),
        }
    )

    def predict(click_noise: float, watch_noise: float) -> dict[str, np.ndarray]:
        return {
            "click": 1 / (1 + np.exp(-z - random.normal(0, click_noise, rows))),
            "like": random.random(rows),
            "share": np.full(rows, 0.01),
            "watch": np.exp(z) * 10 + random.normal(0, watch_noise, rows),
            "rating": random.dirichlet([1, 1, 1], rows),
        }

    return frame, predict(0.1, 3.0), predict(1.5, 1.0)


def _report(**changes: Any) -> Report:
    frame, predictions, baseline = _world()
    arguments: dict[str, Any] = {
        "split": "test",
        "name": "feed",
        "baseline": baseline,
        "duration_column": "duration",
        "history": [
            {"loss": 1.0, "click_loss": 0.7, "val_click_loss": 0.6},
            {"click_loss": 0.5, "val_click_loss": float("nan")},
        ],
        "costs": {
            "total": 100,
            "shared": 80,
            "by_task": dict.fromkeys(TASKS, 4),
            "independent": 420,
            "total_bytes": 400,
            "independent_bytes": 1680,
        },
        "simulated": "200 people <from> a seed",
    }
    return evaluate(TASKS, frame, predictions, **{**arguments, **changes})


def test_a_task_is_measured_on_the_rows_of_its_own_sample_space() -> None:
    frame, predictions, _ = _world()
    report = evaluate(TASKS, frame, predictions, split="test", name="feed")
    labels = frame["y.like"].to_numpy()
    present = ~np.isnan(labels)
    expected = roc_auc_score(labels[present], predictions["like"][present])
    assert report.tasks["like"].metrics["auc"] == pytest.approx(expected, abs=1e-12)
    assert report.tasks["like"].metrics["labelled"] == frame["y.click"].sum()
    assert (report.rows, report.users) == (len(frame), frame["user"].n_unique())


def test_the_order_of_the_tasks_changes_nothing() -> None:
    frame, predictions, baseline = _world()
    reversed_tasks = dict(reversed(TASKS.items()))
    first = evaluate(TASKS, frame, predictions, split="test", name="a", baseline=baseline)
    shuffled = {task: predictions[task] for task in sorted(predictions)}
    second = evaluate(reversed_tasks, frame, shuffled, split="test", name="a", baseline=baseline)
    assert first.tasks == second.tasks
    assert first.comparison is not None
    assert second.comparison is not None
    assert first.comparison.tasks == second.comparison.tasks
    assert first.comparison.delta_m == pytest.approx(second.comparison.delta_m)


def test_one_class_and_no_labels_are_undefined_not_half() -> None:
    frame, predictions, _ = _world(200)
    frame = frame.with_columns(pl.lit(None, pl.Float64).alias("y.like"), pl.lit(None, pl.Float64).alias("y.watch"))
    report = evaluate(TASKS, frame, predictions, split="test", name="feed", baseline=predictions)
    assert report.tasks["share"].metrics["auc"] is None
    assert report.tasks["share"].metrics["log_loss"] is not None
    assert report.tasks["share"].roc is None
    assert report.tasks["like"].metrics["labelled"] == 0
    assert report.tasks["like"].metrics["log_loss"] is None
    assert report.tasks["watch"].constant is None
    assert report.comparison is not None
    assert report.comparison.tasks["watch"].verdict == "undefined"


def test_a_regression_task_stands_beside_the_constant() -> None:
    frame, predictions, _ = _world()
    labels = frame["y.watch"].drop_nulls().to_numpy()
    constant = evaluate(TASKS, frame, predictions, split="test", name="feed").tasks["watch"].constant
    assert constant is not None
    assert constant.source == "split"
    assert constant.value == pytest.approx(labels.mean())
    assert constant.rmse == pytest.approx(labels.std())
    told = evaluate(TASKS, frame, predictions, split="test", name="feed", train_means={"watch": 5.0})
    constant = told.tasks["watch"].constant
    assert constant is not None
    assert (constant.value, constant.source) == (5.0, "train")
    assert constant.rmse == pytest.approx(np.sqrt(np.mean((labels - 5) ** 2)))


def test_deciles_of_the_duration_hold_means_of_both() -> None:
    bins = _report().tasks["watch"].by_duration
    frame, predictions, _ = _world()
    assert bins is not None
    kept = frame.with_columns(p=predictions["watch"]).drop_nulls("y.watch").sort("x.duration").head(bins.rows[0])
    assert bins.position[0] == pytest.approx(kept["x.duration"].mean(), rel=1e-4)
    assert bins.label[0] == pytest.approx(kept["y.watch"].mean(), rel=1e-4)
    assert bins.prediction[0] == pytest.approx(kept["p"].mean(), rel=1e-4)


def test_the_comparison_finds_gain_and_negative_transfer() -> None:
    comparison = _report().comparison
    assert comparison is not None
    assert comparison.resampled == "user"
    assert comparison.tasks["click"].verdict == "better"
    assert not comparison.tasks["click"].negative_transfer
    assert comparison.tasks["watch"].verdict == "worse"
    assert comparison.tasks["watch"].negative_transfer
    assert comparison.tasks["share"].verdict == "undefined"
    for difference in comparison.tasks.values():
        if difference.difference is not None:
            assert difference.low is not None
            assert difference.high is not None
            assert difference.low < difference.difference < difference.high
    assert comparison.delta_m is not None
    assert comparison.delta_m_low is not None
    assert comparison.delta_m_high is not None
    assert comparison.delta_m_low < comparison.delta_m < comparison.delta_m_high


def test_equal_models_show_no_difference_and_the_same_seed_the_same_intervals() -> None:
    frame, predictions, baseline = _world()
    same = evaluate(TASKS, frame, predictions, split="test", name="feed", baseline=predictions, resamples=20).comparison
    assert same is not None
    assert {d.difference for task, d in same.tasks.items() if task != "share"} == {0.0}
    assert not any(d.negative_transfer for d in same.tasks.values())
    runs = [
        evaluate(TASKS, frame, predictions, split="test", name="feed", baseline=baseline, resamples=20, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert runs[0].comparison == runs[1].comparison != runs[2].comparison


def test_resampling_users_is_wider_than_rows_where_users_differ() -> None:
    random = np.random.default_rng(0)
    users, each = 40, 50
    shift = np.repeat(random.normal(size=users), each)
    labels = (random.random(users * each) < 0.5).astype(float)
    # The gain of the model comes by user: some gain, others lose.
    predictions = labels * shift + random.normal(size=users * each)
    baseline = random.normal(size=users * each)
    by_user = pl.DataFrame({"user": np.repeat(np.arange(users), each).astype(str), "y.click": labels})
    widths = []
    for frame in (by_user, by_user.drop("user")):
        report = evaluate(
            {"click": TASKS["click"]},
            frame,
            {"click": predictions},
            split="test",
            name="a",
            baseline={"click": baseline},
        )
        assert report.comparison is not None
        difference = report.comparison.tasks["click"]
        assert difference.low is not None
        assert difference.high is not None
        widths.append(difference.high - difference.low)
    assert widths[0] > 1.5 * widths[1]


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        labels = random.normal(size=300)
        # Both models have errors of the same size, so the true difference is 0.
        first, second = (labels + random.normal(size=300) for _ in range(2))
        report = evaluate(
            {"watch": TASKS["watch"]},
            pl.DataFrame({"y.watch": labels}),
            {"watch": first},
            split="test",
            name="a",
            baseline={"watch": second},
            resamples=200,
        )
        assert report.comparison is not None
        covered += report.comparison.tasks["watch"].verdict == "no difference shown"
    assert 34 <= covered <= 40


def test_rows_without_a_user_stand_for_themselves() -> None:
    frame, predictions, baseline = _world(400)
    frame = frame.with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then("user").alias("user"))
    report = evaluate(TASKS, frame, predictions, split="test", name="feed", baseline=baseline, resamples=20)
    assert report.users == frame["user"].drop_nulls().n_unique()
    assert report.comparison is not None
    assert report.comparison.resampled == "user"
    alone = evaluate(TASKS, frame.drop("user"), predictions, split="test", name="feed", baseline=baseline, resamples=20)
    assert alone.users is None
    assert "gauc" not in alone.tasks["click"].metrics
    assert alone.comparison is not None
    assert alone.comparison.resampled == "row"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows, p: (rows.drop("y.like"), p), "rows must have the column 'y.like'"),
        (lambda rows, p: (rows, {k: v for k, v in p.items() if k != "watch"}), "Missing: 'watch'"),
        (lambda rows, p: (rows, {**p, "click": p["click"][:-1]}), "'click' must have one entry a row"),
        (lambda rows, p: (rows, {**p, "watch": p["watch"] * np.nan}), r"tasks\.watch: predictions must be finite"),
        (lambda rows, p: (rows.with_columns(pl.lit(2.0).alias("y.click")), p), r"tasks\.click: labels of a binary"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: Any, message: str) -> None:
    frame, predictions, _ = _world(100)
    rows, changed = change(frame, predictions)
    with pytest.raises(DataError, match=message):
        evaluate(TASKS, rows, changed, split="test", name="feed")


def test_an_unknown_duration_is_refused() -> None:
    with pytest.raises(DataError, match="duration_column must be a feature of the rows"):
        _report(duration_column="length")


def test_the_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    report = _report()
    data, _ = write_report(report, tmp_path / "evaluation")
    assert Report.model_validate_json(data.read_bytes()) == report
    assert report.history[1]["val_click_loss"] is None


class _Page(HTMLParser):
    """Every tag with its attributes, and whether tags are closed in order."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    text = write_report(_report(), tmp_path)[1].read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    names = {name for _, attributes in page.tags for name in attributes}
    assert "src" not in names
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "image"}
    links = [a.get("href") or a.get("xlink:href") for _, a in page.tags if "href" in a or "xlink:href" in a]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert all(link is not None and link[1:] in ids for link in links)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)


def test_the_page_shows_every_task_and_says_that_data_are_simulated(tmp_path: Path) -> None:
    text = write_report(_report(), tmp_path)[1].read_text(encoding="utf-8")
    assert "Simulated data." in text
    assert "200 people &lt;from&gt; a seed" in text
    assert '<strong class="worse">Negative transfer:</strong> watch is worse than alone.' in text
    for task in TASKS:
        assert f"<h2>{task}</h2>" in text
    # Two ROC curves (share has none), four calibrations, one duration, one loss, the forest and the parameters.
    assert text.count("<svg ") == 2 + 4 + 1 + 1 + 2
    bare = _report(simulated=None, baseline=None, costs=None, history=(), duration_column=None)
    text = write_report(bare, tmp_path)[1].read_text(encoding="utf-8")
    assert "Simulated data." not in text
    assert "Sharing" not in text
    assert text.count("<svg ") == 2 + 4


def test_colours_come_from_the_page_so_that_it_has_a_dark_side(tmp_path: Path) -> None:
    text = write_report(_report(), tmp_path)[1].read_text(encoding="utf-8")
    drawings = "".join(re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL))
    assert "var(--first)" in drawings
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)
    assert "prefers-color-scheme: dark" in text


def test_names_from_outside_are_text_and_never_markup(tmp_path: Path) -> None:
    frame, predictions, baseline = _world(100)
    task = '<b>"&$x$'
    rows = frame.rename({"y.click": f"y.{task}"})
    report = evaluate(
        {task: TASKS["click"]},
        rows,
        {task: predictions["click"]},
        split="test",
        name="<script>alert(1)</script>",
        baseline={task: baseline["click"]},
    )
    page = _Page(write_report(report, tmp_path)[1].read_text(encoding="utf-8"))
    assert not {tag for tag, _ in page.tags} & {"script", "b"}


EXPERTS: dict[str, Any] = {
    "rows": 8192,
    "gates": [
        {
            "task": task,
            "level": level,
            "experts": [f"{task}_1", "shared_<1>"],
            "mean_weights": [0.997, 0.003],
            "entropy_nats": 0.02,
            "entropy_share": 0.029,
            "mean_largest": 0.997,
        }
        for level in (1, 2)
        for task in ("click", "watch")
    ],
    "experts": [
        {
            "expert": name,
            "level": 1,
            "units": 64,
            "dead": 0.25,
            "zeros": 0.5,
            "largest_weight": weight,
            "collapsed": weight == 0.003,
        }
        for name, weight in (("click_1", 0.997), ("shared_<1>", 0.003), ("alone_1", None))
    ],
    "collapsed": ["shared_<1> (level 1)"],
    "polarised": ["click (level 1)"],
}


def test_a_model_with_gates_has_a_section_on_its_experts_with_a_drawing_for_each_level(tmp_path: Path) -> None:
    report = _report(experts=EXPERTS, history=(), baseline=None, costs=None)
    data, page = write_report(report, tmp_path)
    assert Report.model_validate_json(data.read_bytes()) == report
    text = page.read_text(encoding="utf-8")
    assert _Page(text).open == []
    section = re.search(r"<h2>Experts</h2>.*?</section>", text, flags=re.DOTALL)
    assert section is not None
    assert section[0].count("<svg ") == 2
    assert '<strong class="worse">Collapsed:</strong> shared_&lt;1&gt; (level 1).' in section[0]
    assert '<strong class="worse">Polarised gates:</strong> click (level 1).' in section[0]
    assert "Means over 8,192 rows of the validation part." in section[0]
    assert "<1>" not in section[0]
    assert "no gate" in section[0]
    without = write_report(_report(history=(), baseline=None, costs=None), tmp_path)[1]
    assert "<h2>Experts</h2>" not in without.read_text(encoding="utf-8")


CONFLICTS = {
    "tasks": ["click", "<like>", "watch"],
    "by_epoch": [
        [[1.0, -0.4, 0.2], [-0.4, 1.0, None], [0.2, None, 1.0]],
        [[1.0, -0.2, 0.4], [-0.2, 1.0, None], [0.4, None, 1.0]],
    ],
}


def test_a_training_that_compared_gradients_shows_which_tasks_are_in_conflict(tmp_path: Path) -> None:
    report = _report(conflicts=CONFLICTS, history=(), baseline=None, costs=None)
    assert report.conflicts is not None
    assert [pair[:2] for pair in report.conflicts.pairs()] == [("click", "<like>"), ("click", "watch")]
    assert [pair[2] for pair in report.conflicts.pairs()] == pytest.approx([-0.3, 0.3])
    data, page = write_report(report, tmp_path)
    assert Report.model_validate_json(data.read_bytes()) == report
    text = page.read_text(encoding="utf-8")
    assert _Page(text).open == []
    section = re.search(r"<h2>Conflicts between tasks</h2>.*?</section>", text, flags=re.DOTALL)
    assert section is not None
    assert section[0].count("<svg ") == 2
    assert "click and &lt;like&gt; (−0.30)." in section[0]
    assert "<like>" not in section[0]


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(_report(), tmp_path / "first")
    second = write_report(_report(), tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_report_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    report = _report()
    data, page = write_report(report, tmp_path)
    before = (data.read_bytes(), page.read_bytes())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) // 2, limits[1]))
    try:
        with pytest.raises(ArtifactError, match=r"report\.json cannot be written.*What stood there before is intact"):
            write_report(report.model_copy(update={"name": "other"}), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (data.read_bytes(), page.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_report(_report(history=(), costs=None, baseline=None), tmp_path / "file" / "evaluation")


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_fits_and_names_every_task(width: int) -> None:
    screen = Console(width=width, file=StringIO())
    report = _report()
    screen.print(report_table(report))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "feed on test: 2,000 rows" in text
    assert "Simulated data: 200 people <from> a seed" in text
    assert f"{report.tasks['click'].metrics['auc']:.4f}" in text
    for task in TASKS:
        assert re.search(rf"^{task} .*\d", text, flags=re.MULTILINE)
    assert re.search(r"^watch RMSE .* worse", text, flags=re.MULTILINE)
    assert "n/a" in text


def test_the_room_loads_matplotlib_only_to_draw() -> None:
    code = "import sys, onehull.evaluate; assert not {'matplotlib', 'tensorflow', 'keras', 'jinja2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
