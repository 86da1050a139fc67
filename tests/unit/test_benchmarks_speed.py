import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import scaling, train_speed
from benchmarks.peers import contestants, conversation, environments
from benchmarks.peers.task import BATCH, FEATURES, NUMBERS, Task, draw
from benchmarks.peers.worker import Worker, WorkerError


def test_drawn_data_is_the_same_for_every_contestant(tmp_path: Path):
    task = draw(rows=50, batches=2, tasks=3)

    task.save(tmp_path)
    loaded = Task.load(tmp_path, 50)

    assert loaded.ids_NBF.shape == (2, BATCH, FEATURES)
    assert loaded.numbers_NBD.shape == (2, BATCH, NUMBERS)
    assert loaded.labels_NBT.shape == (2, BATCH, 3)
    assert loaded.ids_NBF.dtype == np.int32
    assert loaded.ids_NBF.min() >= 0
    assert loaded.ids_NBF.max() < 50
    np.testing.assert_array_equal(loaded.ids_NBF, draw(rows=50, batches=2, tasks=3).ids_NBF)
    assert not np.array_equal(loaded.ids_NBF[0], loaded.ids_NBF[1])


def test_drawn_ids_follow_a_power_law_whose_head_is_anywhere():
    ids_NBF = draw(rows=1000, batches=1, tasks=1).ids_NBF

    counts_FR = np.stack([np.bincount(ids_NBF[0, :, feature], minlength=1000) for feature in range(FEATURES)])
    shares_F = counts_FR.max(axis=1) / BATCH

    # One in five of a Zipf law of exponent 1.2 is the first, or the last that stands for all beyond 1,000.
    assert np.all((shares_F > 0.12) & (shares_F < 0.3))
    assert len(set(counts_FR.argmax(axis=1))) > FEATURES / 2


def test_worker_answers_through_its_own_pipe_whatever_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    draw(rows=10, batches=1, tasks=1).save(tmp_path)
    read, write = os.pipe()
    lines = [{"data": str(tmp_path), "rows": 10}, {"steps": 4}]
    monkeypatch.setattr(sys, "argv", ["worker", str(write)])
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(line) + "\n" for line in lines)))
    closed = []

    def build(task: Task, first: object) -> conversation.Contestant:
        sys.stdout.write("a framework prints")
        return conversation.Contestant(
            lambda steps: (steps * 0.5, 0.25), f"{task.rows} rows", ("numpy",), lambda: closed.append(True)
        )

    conversation.answer(build)

    with os.fdopen(read) as answers:
        ready, measured = [json.loads(line) for line in answers]
    assert ready == {"versions": {"numpy": np.__version__}, "settings": "10 rows"}
    assert measured["seconds"] == 2.0
    assert measured["loss"] == 0.25
    assert measured["peak_bytes"] > 10 << 20
    assert closed


def test_worker_that_dies_leaves_its_last_words(tmp_path: Path):
    worker = Worker(Path(sys.executable), "benchmarks.no_such_worker", {}, tmp_path / "log", keep_pages=False)

    with pytest.raises(WorkerError, match="no_such_worker"):
        worker.hear()


def test_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    (tmp_path / "nothing.txt").write_text("")

    python = environments.python_of("nothing")
    made = python.stat().st_ctime_ns
    again = environments.python_of("nothing")

    assert python == again == tmp_path / "made" / "nothing" / "bin" / "python"
    assert again.stat().st_ctime_ns == made
    with pytest.raises(FileNotFoundError, match="unknown"):
        environments.python_of("unknown")


def test_requirements_of_peers_are_pinned():
    for entry in contestants.PEERS:
        if entry.environment is not None:
            lines = (environments.REQUIREMENTS / f"{entry.environment}.txt").read_text().splitlines()
            assert lines
            assert all("==" in line for line in lines)


def figures(step_ms: float, peak_bytes: int) -> contestants.Figures:
    return contestants.Figures([step_ms, step_ms, 100 * step_ms], peak_bytes, 0.5, {}, "")


def test_ratios_are_taken_against_the_best_peer_in_each_respect():
    at_small = {
        "onehull": figures(10, 5),
        "onehull_float32": figures(20, 5),
        "keras_fit": figures(50, 5),
        "deepctr": figures(40, 5),
        "torch_rechub": figures(60, 5),
        "keras_fit_bfloat16": figures(15, 5),
    }
    at_large = {
        "onehull": figures(10, 30),
        "keras_fit": figures(800, 100),
        "deepctr": figures(900, 60),
        "torch_rechub": figures(700, 90),
        "keras_fit_as_it_comes": figures(1500, 50),
        "deepctr_as_it_comes": figures(1600, 60),
        "torch_rechub_as_it_comes": figures(1400, 90),
    }

    ratios = train_speed.ratios(at_small, at_large)

    assert ratios["small_vs_best_peer"] == 4.0
    assert ratios["small_float32_vs_best_peer"] == 2.0
    assert ratios["large_vs_best_peer"] == 70.0
    assert ratios["memory_vs_best_peer"] == 0.5
    assert ratios["small_vs_keras_fit_bfloat16"] == 1.5
    assert ratios["large_vs_best_peer_as_it_comes"] == 140.0
    assert ratios["best_peer"] == {
        "small": "deepctr",
        "large": "torch_rechub",
        "large_as_it_comes": "torch_rechub_as_it_comes",
        "memory": "deepctr",
    }
    tuned_only = {name: one for name, one in at_large.items() if not name.endswith("as_it_comes")}
    assert "large_vs_best_peer_as_it_comes" not in train_speed.ratios(at_small, tuned_only)


def test_figures_of_a_contestant_are_medians_of_its_turns():
    answers = [{"seconds": s, "loss": 0.1, "peak_bytes": b} for s, b in ((0.2, 7), (0.4, 9), (9.0, 8))]

    found = contestants.figures({"versions": {"keras": "3"}, "settings": "fit"}, answers, steps=10)

    assert found.step_ms == pytest.approx([20.0, 40.0, 900.0])
    assert found.median_ms == pytest.approx(40.0)
    assert found.peak_bytes == 9


def test_exponent_is_the_slope_of_the_logarithms():
    assert scaling.exponent({10: 7.0, 100: 7.0, 1000: 7.0}) == pytest.approx(0.0)
    assert scaling.exponent({1: 3.0, 2: 6.0, 8: 24.0}) == pytest.approx(1.0)
    assert scaling.exponent({1: 3.0, 4: 6.0, 16: 12.0}) == pytest.approx(0.5)


@pytest.mark.parametrize("benchmark", [scaling, train_speed])
def test_figures_of_the_page_are_those_of_the_result_file(benchmark):
    name = benchmark.__name__.rpartition(".")[2]
    result = json.loads((benchmark.ROOT / "benchmarks" / "results" / f"{name}.json").read_text())

    page = (benchmark.ROOT / "docs" / "explanation" / "speed.md").read_text()

    assert benchmark.markdown(result) in page, f"run: python -m benchmarks.{name} --save … --docs"
