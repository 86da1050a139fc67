"""Several workers: who they are, how they meet, and what is left when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onehull.errors import ArtifactError
from onehull.pipeline import Project, assemble, prepare, train
from onehull.train.checkpoint import checkpoint_files
from onehull.train.rendezvous import Cluster, Line, meet
from onehull.train.workers import Workers, cluster_from_environment

ROOT = Path(__file__).parents[2]


def config(task, **cluster):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def test_the_cluster_is_what_tf_config_says():
    found = cluster_from_environment(config({"type": "worker", "index": 1}, worker=["a:1", "b:2"]))
    assert found == Cluster(("a:1", "b:2"), 1, {"worker": 2})
    assert found.named([1]) == "worker 1 at b:2"
    chief = cluster_from_environment(config({"type": "worker", "index": 0}, worker=["b:2"], chief=["a:1"]))
    assert chief == Cluster(("a:1", "b:2"), 1, {"chief": 1, "worker": 1})


@pytest.mark.parametrize("environment", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"},
                                         config({"type": "worker", "index": 0}, worker=["a:1"])])  # fmt: skip
def test_a_process_alone_has_no_cluster(environment):
    assert cluster_from_environment(environment) is None


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"TF_CONFIG": "worker"}, "must hold JSON with cluster and task"),
        ({"TF_CONFIG": "[]"}, "must hold JSON with cluster and task"),
        (config({"type": "worker", "index": 2}, worker=["a:1", "b:2"]), "task.index must be from 0 to 1"),
        (config({"type": "ps", "index": 0}, worker=["a:1"], ps=["b:2"]), "must name workers only"),
        (config({"type": "wroker", "index": 0}, worker=["a:1", "b:2"]), "Did you mean 'worker'"),
        (config({"type": "worker", "index": 0}, worker=["a", "b:2"]), "must be host:port. Received 'a'"),
    ],
)
def test_a_cluster_that_is_not_valid_is_refused(environment, text):
    with pytest.raises(ArtifactError, match=text):
        cluster_from_environment(environment)


def test_a_process_alone_agrees_with_itself():
    import tensorflow as tf

    workers = Workers(tf.distribute.get_strategy())
    assert (workers.count, workers.is_first) == (1, True)
    assert workers.any(True, False) == (True, False)
    assert workers.from_first(lambda: {"loss": 0.5}) == {"loss": 0.5}
    workers.check_same("the place", [1, 2])


def cluster_of(count, index=0):
    ports = []
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [first.getsockname()[1], second.getsockname()[1], 1][:count]
    return [Cluster(tuple(f"127.0.0.1:{port}" for port in ports), i, {"worker": count}) for i in range(count)]


def in_threads(*calls):
    """What each call returns or raises."""
    found: list[object] = [None] * len(calls)

    def run(index, call):
        try:
            found[index] = call()
        except ArtifactError as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=(index, call)) for index, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_workers_meet_and_hear_of_each_other():
    first, second = cluster_of(2)
    here, there = in_threads(lambda: meet(first, 20), lambda: meet(second, 20))
    heard = threading.Event()
    here.watch(lambda worker: heard.set() if worker == 1 else None)
    there.close(ended=False)
    assert heard.wait(10)
    assert here.wait_for_loss(1) == {1}
    here.close(ended=True)


def test_a_worker_that_has_ended_is_not_missed():
    first, second = cluster_of(2)
    here, there = in_threads(lambda: meet(first, 20), lambda: meet(second, 20))
    here.watch(lambda _: None)
    there.close(ended=True)
    assert here.wait_for_loss(0.5) == set()
    here.close(ended=True)


def test_a_worker_that_never_comes_is_named_to_all():
    first, second, third = cluster_of(3)
    errors = in_threads(lambda: meet(first, 1.0), lambda: meet(second, 20))
    for error in errors:
        assert str(error).startswith(f"worker 2 at {third.addresses[2]} must come within")
    alone = in_threads(lambda: meet(second, 0.6))
    assert "worker 0 at" in str(alone[0])


def test_workers_of_another_cluster_are_told_so():
    first, second = cluster_of(2)
    other = Cluster((second.addresses[0], "elsewhere:9"), 1, {"worker": 2})
    _, error = in_threads(lambda: meet(first, 1.5), lambda: meet(other, 20))
    assert "TF_CONFIG of worker 1 must name the workers that worker 0 names" in str(error)


def test_whoever_else_connects_is_ignored():
    first, second = cluster_of(2)

    def stranger():
        with suppress(OSError):
            time.sleep(0.2)
            address = first.addresses[0].rpartition(":")
            line = Line(socket.create_connection((address[0], int(address[2])), timeout=5))
            line.say("PRI", "*", "HTTP/2.0")
            assert line.hear(5) == []
            line.close()

    def late():
        time.sleep(0.5)
        return meet(second, 20)

    here, there, _ = in_threads(lambda: meet(first, 20), late, stranger)
    for met in (here, there):
        met.close(ended=True)


def test_a_port_that_is_in_use_is_named():
    first, _ = cluster_of(2)
    with (
        socket.create_server(("", int(first.addresses[0].rpartition(":")[2]))),
        pytest.raises(ArtifactError, match="must be free"),
    ):
        meet(first, 0.3)


SPEC = {
    "name": "tiny",
    "data": {"samples": "samples.parquet", "user": "user", "split": {"by": "column", "column": "part",
                                                                      "validation": [1], "test": [2]}},
    "features": {"user": {"kind": "categorical", "min_count": 1}, "age": {"kind": "numeric"}},
    "tasks": {"click": {"kind": "binary", "label": "clicked"},
              "watch": {"kind": "regression", "label": "seconds", "transform": "log1p"}},
    "model": {"embedding_dim": 4, "bottom": [8], "tower": [4], "dropout": 0.0},
    "balance": {"kind": "pcgrad", "weights": {"watch": 0.5}},
    "training": {"epochs": 6, "batch_size": 31, "patience": 99, "learning_rate": 0.01, "tensorboard": False},
    "leakage": {"allowed": ["age"]},  # the seconds are made of it
}  # fmt: skip


def project(directory: Path) -> Project:
    """Samples with missing labels, and a last batch of 1 row."""
    rng = np.random.default_rng(0)
    count = 404
    user, age = rng.integers(0, 9, count), rng.normal(size=count)
    there = rng.uniform(size=(2, count)) > 0.3
    clicked = (age + rng.normal(size=count) > 0).astype(float)
    columns = {
        "user": [f"u{value}" for value in user],
        "age": age,
        "part": [0] * (count - 200) + [1] * 100 + [2] * 100,
        "clicked": [value if ok else None for value, ok in zip(clicked, there[0], strict=True)],
        "seconds": [value if ok else None for value, ok in zip(np.exp(age), there[1], strict=True)],
    }
    directory.mkdir()
    pl.DataFrame(columns).write_parquet(directory / "samples.parquet")
    (directory / "tiny.yaml").write_text(json.dumps(SPEC))
    made = Project.open(directory / "tiny.yaml", data=directory, out=directory / "out")
    assemble(made)
    prepare(made)
    return made


def train_with_workers(made: Project) -> subprocess.Popen[str]:
    arguments = ["train", made.source, "--data", str(made.data), "--out", str(made.out), "--workers", "2"]
    return subprocess.Popen([sys.executable, "-m", "onehull", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def children(process: subprocess.Popen[str]) -> dict[int, int]:
    """Process numbers of the workers, by their number."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid:
                variables = (entry / "environ").read_text().split("\0")
                text = next(v for v in variables if v.startswith("TF_CONFIG="))
                found[json.loads(text.partition("=")[2])["task"]["index"]] = int(entry.name)
    return found


def weights(made: Project, kinds=("model", "optimizer", "embedding_optimizer", "state")) -> dict[str, np.ndarray]:
    with np.load(checkpoint_files(made.training / "checkpoints")[-1]) as archive:
        return {name: archive[name] for name in archive.files if name.partition("/")[0] in kinds}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_a_worker_is_killed_and_the_same_command_ends_in_the_weights_of_one_process(tmp_path):
    alone, together = project(tmp_path / "alone"), project(tmp_path / "together")
    train(alone)
    process = train_with_workers(together)
    partial = together.training.with_name(".training.partial") / "checkpoints"
    while not checkpoint_files(partial):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    workers = children(process)
    os.kill(workers[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 137
    assert "has gone in the middle of the training. The last checkpoint is good." in errors
    assert "worker 1 has ended with SIGKILL." in errors
    again = train_with_workers(together)
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    assert "epoch 1/6" not in errors  # it went on
    found = weights(together)
    for name, value in weights(alone).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
