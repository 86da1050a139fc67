"""Labels that come late: which rows leave a stream, when, and with what label; and the weights that correct for it."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from onehull.errors import SpecError
from onehull.events import assemble
from onehull.events.stream import Stream
from onehull.spec import Spec, load_spec
from tests.unit.test_events_stream import BEGIN, document, segments, write

HOUR = 3600.0
FNW, ES_DFM, DEFER = {"kind": "fnw"}, {"kind": "es_dfm", "wait": "30m"}, {"kind": "defer", "wait": "30m"}


def spec(late: dict | None, lateness: str = "5m", **buy: Any) -> Spec:
    described = document(lateness)
    task: dict = {"kind": "binary", "event": "buy", "window": "6h", **buy}
    described["tasks"] = {
        "click": {"kind": "binary", "event": "click", "window": "20m"},
        "buy": {**task, **({"late": late} if late else {})},
    }
    return load_spec(described)


def shown(number: int, hours: float, part: int = 0) -> dict:
    context = {"part": part, "hour": 1}
    return {"event": "impression", "id": f"i{number}", "time": BEGIN + hours * HOUR, "user": "u", "context": context}


def event(kind: str, number: int, hours: float) -> dict:
    return {"event": kind, "id": f"{kind}{number}", "impression": f"i{number}", "time": BEGIN + hours * HOUR}


def log() -> list[dict]:
    """i0 never buys, i1 buys after 12 minutes, i2 after 2 hours, i3 after 9 (outside its window); then time goes on."""
    told = [*(shown(n, 0.0) for n in range(4)), event("click", 0, 0.1)]
    told += [event("buy", 1, 0.2), event("buy", 2, 2.0), event("buy", 3, 9.0)]
    later = [shown(n, n / 4.0, part=1 + n % 2) for n in range(40, 100)]
    return sorted([*told, *later], key=lambda one: one["time"])


def rows_of(late: dict | None, tmp_path: Path, steps: int = 1) -> tuple[pl.DataFrame, Stream]:
    path = write(tmp_path / "data" / "feed.jsonl", log())
    stream = Stream(spec(late), path.parent, tmp_path / "stream", "key", step_rows=steps)
    report = assemble(spec(late), path.parent, tmp_path / "out", stream=stream)
    assert report.log is not None
    assert report.log.accounted == report.log.lines
    assert report.outside_split == 0
    return pl.read_parquet(tmp_path / "out" / "samples.parquet"), stream


def told_of(samples: pl.DataFrame, number: int) -> list[tuple]:
    """(repeats, click, buy) of each row of an impression, in the order in which they left."""
    return samples.filter(pl.col("sample") == f"i{number}").select("repeats", "y.click", "y.buy").rows()


def test_a_fake_negative_leaves_at_once_and_again_when_the_event_comes(tmp_path: Path) -> None:
    samples, _ = rows_of(FNW, tmp_path)
    assert told_of(samples, 0) == [(None, 1.0, 0.0)]
    assert told_of(samples, 1) == [(None, 0.0, 0.0), ("buy", None, 1.0)]
    assert told_of(samples, 2) == [(None, 0.0, 0.0), ("buy", None, 1.0)]
    assert told_of(samples, 3) == [(None, 0.0, 0.0)]


def test_after_a_wait_what_has_come_is_told_at_once(tmp_path: Path) -> None:
    samples, _ = rows_of(ES_DFM, tmp_path)
    assert told_of(samples, 0) == [(None, 1.0, 0.0)]
    assert told_of(samples, 1) == [(None, 0.0, 1.0)]
    assert told_of(samples, 2) == [(None, 0.0, 0.0), ("buy", None, 1.0)]
    assert told_of(samples, 3) == [(None, 0.0, 0.0)]


def test_defer_tells_every_sample_twice(tmp_path: Path) -> None:
    samples, _ = rows_of(DEFER, tmp_path)
    assert told_of(samples, 0) == [(None, 1.0, 0.0), ("buy", None, 0.0)]
    assert told_of(samples, 1) == [(None, 0.0, 1.0), ("buy", None, 1.0)]
    assert told_of(samples, 2) == [(None, 0.0, 0.0), ("buy", None, 1.0)]
    assert told_of(samples, 3) == [(None, 0.0, 0.0), ("buy", None, 0.0)]


@pytest.mark.parametrize("late", [FNW, ES_DFM, DEFER], ids=lambda late: late["kind"])
def test_the_rows_do_not_depend_on_when_windows_are_closed(late: dict, tmp_path: Path) -> None:
    fine, coarse = (
        rows_of(late, tmp_path / str(steps), steps)[0].sort("sample", "repeats", "y.buy") for steps in (1, 10_000)
    )
    assert fine.drop("split").equals(coarse.drop("split"))


@pytest.mark.parametrize("late", [FNW, ES_DFM, DEFER], ids=lambda late: late["kind"])
def test_rows_leave_early_and_validation_sees_final_labels_only(late: dict, tmp_path: Path) -> None:
    data = tmp_path / "data"
    bought = [event("buy", n, n / 4.0 + 1.0) for n in range(40, 100)]
    write(data / "feed.jsonl", sorted([*log(), *bought], key=lambda one: one["time"]))
    stream = Stream(spec(late), data, tmp_path / "stream", "key", step_rows=20)
    assemble(spec(late), data, tmp_path / "out", stream=stream)
    gone = pl.read_parquet(stream.sample_files())
    newest = gone.filter(pl.col("repeats").is_null()).select(pl.col("time").cast(pl.Int64).max()).item()
    oldest_held = stream.windows.impressions.select(pl.col("moment").min()).item()
    assert oldest_held < newest  # it has left and is held all the same
    judged = pl.read_parquet(tmp_path / "out" / "samples.parquet").filter(pl.col("split") != "train")
    assert judged["repeats"].null_count() == len(judged) == judged["sample"].n_unique()
    waiting = tmp_path / "waiting"
    assemble(spec(None), data, waiting, stream=Stream(spec(None), data, tmp_path / "other", "key"))
    final = pl.read_parquet(waiting / "samples.parquet").filter(pl.col("split") != "train")
    assert judged.sort("sample")["y.buy"].to_list() == final.sort("sample")["y.buy"].to_list()
    assert judged["y.buy"].null_count() > 0


def test_a_restart_between_two_rows_of_a_sample_tells_none_twice(tmp_path: Path) -> None:
    told = log()
    data, directory = tmp_path / "data", tmp_path / "stream"
    for step in range(1, 9):
        write(data / "feed.jsonl", told[: len(told) * step // 8])
        Stream(spec(DEFER), data, directory, "key", step_rows=3).run()
    stream = Stream(spec(DEFER), data, directory, "key")
    assemble(spec(DEFER), data, tmp_path / "out", stream=stream)
    samples = pl.read_parquet(tmp_path / "out" / "samples.parquet")
    assert [told_of(samples, n)[-1][2] for n in range(4)] == [0.0, 1.0, 1.0, 0.0]
    assert all(len(told_of(samples, n)) == 2 for n in range(4))


@pytest.mark.parametrize(
    ("late", "changed", "place"),
    [
        ({"kind": "es_dfm", "wait": "6h"}, {}, "tasks.buy.late.wait must be shorter"),
        ({"kind": "es_dfm"}, {}, "tasks.buy.late.wait is required"),
        (FNW, {"observed_when": "click"}, "tasks.buy.late does not go with observed_when"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(late: dict, changed: dict, place: str) -> None:
    with pytest.raises(SpecError, match=place):
        spec(late, **changed)


def test_late_labels_need_a_stream() -> None:
    described = document(None)
    described["tasks"] = {"buy": {"kind": "binary", "event": "buy", "window": "6h", "late": FNW}}
    with pytest.raises(SpecError, match=r"data\.events\.lateness must be given"):
        load_spec(described)


@pytest.mark.parametrize("kind", ["fnw", "es_dfm", "defer"])
@pytest.mark.parametrize(("p", "share"), [(0.02, 0.7), (0.3, 0.4), (0.6, 1.0)])
def test_weighted_shares_of_the_stream_are_those_of_the_truth(kind: Any, p: float, share: float) -> None:
    """At the true p the weighted stream has ones and zeros in the ratio p : 1 − p, so that p is where it rests."""
    from onehull.model.late_labels import stream_weights

    d = p if kind == "fnw" else share * p
    if kind == "defer":  # first rows: p − d positives; second rows: p
        positives, negatives = (2 * p - d) / 2, (2 * (1 - p) + d) / 2
    else:  # first rows: p − d positives and the rest negatives; d positives again
        positives, negatives = p, 1 - p + d
    positive, negative = stream_weights(kind, p, d)
    assert positives * positive / (negatives * negative) == pytest.approx(p / (1 - p))


def test_the_loss_is_the_weighted_cross_entropy_and_no_gradient_flows_through_the_weights() -> None:
    import tensorflow as tf

    from onehull.model.late_labels import LateCrossentropy, stream_weights

    loss = LateCrossentropy("defer", 0.5, reduction="none")
    labels, p = tf.constant([[1.0], [0.0]]), tf.Variable([[0.2], [0.3]])
    with tf.GradientTape() as tape:
        values = loss(labels, p)
    positive, _ = stream_weights("defer", 0.2, 0.1)
    _, negative = stream_weights("defer", 0.3, 0.15)
    np.testing.assert_allclose(values, [-positive * np.log(0.2), -negative * np.log(0.7)], rtol=1e-5)
    gradient = tape.gradient(values, p)
    np.testing.assert_allclose(gradient, [[-positive / 0.2], [negative / 0.7]], rtol=1e-4)


def test_the_share_of_late_positives_is_measured_on_training_rows(tmp_path: Path) -> None:
    from onehull.records.write import _late_share

    data = tmp_path / "data"
    early, late = range(30), range(30, 40)
    told = [*(shown(n, n / 100) for n in range(100)), *(event("buy", n, n / 100 + 0.2) for n in early)]
    told += [
        *(event("buy", n, n / 100 + 3) for n in late),
        *(shown(n, 10 + n / 20, 1 + n % 2) for n in range(200, 300)),
    ]
    segments(data, sorted(told, key=lambda one: one["time"]), 1000, partitions=1)
    for described in (ES_DFM, DEFER):
        out = tmp_path / described["kind"]
        stream = Stream(spec(described), data, out / "stream", "key")
        assemble(spec(described), data, out, stream=stream)
        table = pl.scan_parquet(out / "samples.parquet")
        assert _late_share(table, "buy") == pytest.approx(10 / 40)
        assert _late_share(table, "click") is None


def test_final_labels_are_not_corrected() -> None:
    """A log that was joined at once has final labels, whatever the spec says of late ones."""
    from onehull.model.build import loss
    from onehull.model.late_labels import LateCrossentropy

    task = spec(FNW).tasks["buy"]
    assert loss(task) == "binary_crossentropy"
    assert isinstance(loss(task, 0.5), LateCrossentropy)
