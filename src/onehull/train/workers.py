"""Training on several machines: one process each, found through TF_CONFIG, that decide everything together.

TF_CONFIG is the JSON by which TensorFlow, Kubeflow and others tell a process who is in its cluster:
``{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, "task": {"type": "worker", "index": 0}}``. Every worker
has all weights and takes in its rows of each batch; gradients are summed over all of them, so that their weights stay
equal. Worker 0 writes, the others read what it has written: the output directory must be on a file system that all of
them see.

Shapes: ``W`` workers, ``N`` numbers.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.errors import ArtifactError, suggest
from onehull.train.rendezvous import Cluster, meet

CLUSTER, TIMEOUT = "TF_CONFIG", "ONEHULL_WORKER_TIMEOUT_SECONDS"
_TIMEOUT_SECONDS = 300.0
_HEARTBEAT_SECONDS, _LEAVING_SECONDS = 60, 10
_GRACE_SECONDS = 2.0
"""What every worker finds out for itself, such as a loss that is not finite, is reported before the first one that
stops for it is missed."""
_NEWS_SECONDS = 30.0
_JOBS = ("chief", "worker")
_PIECE = 256


class Workers:
    """All processes of a training, seen from one of them; a process alone is a training with one worker.

    Each method but the properties must be called by all workers, in the same order.

    Args:
        strategy: that the model was built in.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        cluster = _cluster_of(strategy)
        self.count, self.index = cluster or (1, 0)
        self._strategy = strategy
        self._gather = tf.function(self._gathering, autograph=False)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each question whether any worker says yes: what a clock or a signal says differs from one to another."""
        if self.count == 1:
            return flags
        numbers_WN = self._gathered(np.array(flags, np.int32))
        return tuple(bool(found) for found in (numbers_WN != 0).any(axis=0).tolist())

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What worker 0 makes; the others do not make it.

        Args:
            make: gives what JSON can hold.
        """
        if self.count == 1:
            return make()
        text = json.dumps(make()).encode() if self.is_first else b""
        size = int(self._gathered(np.array([len(text)], np.int32))[0, 0])
        numbers = np.zeros(size, np.int32)
        numbers[: len(text)] = np.frombuffer(text, np.uint8)
        return json.loads(bytes(self._gathered(numbers)[0].astype(np.uint8)))

    def check_same(self, what: str, mine: Any) -> None:
        """Checks that all workers begin with the same.

        Args:
            what: its name, for the message.
            mine: what this worker has, in the form of JSON.

        Raises:
            ArtifactError: a worker has something else than worker 0; all workers raise it.
        """
        first = self.from_first(lambda: mine)
        (differs,) = self.any(first != json.loads(json.dumps(mine)))
        if differs:
            remedy = "All must run the same command and see the same files; then start all of them again."
            raise ArtifactError(f"{what} must be the same for all workers. Worker {self.index} has {mine}, worker 0 "
                                f"has {first}. {remedy}")  # fmt: skip

    def _gathered(self, numbers_N: np.ndarray) -> np.ndarray:
        """The numbers of all workers, ``(W, N)``; exchanged in pieces of one size, so that it is traced once."""
        padded = np.pad(numbers_N, (0, -len(numbers_N) % _PIECE))
        results = [self._gather(tf.constant(piece)) for piece in padded.reshape(-1, _PIECE)]
        pieces = [self._strategy.experimental_local_results(result)[0].numpy() for result in results]
        return np.concatenate(pieces, axis=1)[:, : len(numbers_N)]

    def _gathering(self, numbers_N: tf.Tensor) -> Any:
        local = self._strategy.num_replicas_in_sync // self.count

        def of_replica() -> Any:
            context = tf.distribute.get_replica_context()
            speaks = tf.equal(context.replica_id_in_sync_group, self.index * local)
            row_W = tf.one_hot(self.index, self.count, dtype=tf.int32) * tf.cast(speaks, tf.int32)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, row_W[:, tf.newaxis] * numbers_N)

        return self._strategy.run(of_replica)


@contextmanager
def joined_workers() -> Iterator[tf.distribute.Strategy]:
    """The strategy of a training: over the cluster that TF_CONFIG names, over several GPUs, or the current one.

    Waits until all workers are there, `ONEHULL_WORKER_TIMEOUT_SECONDS` long. Must be entered before TensorFlow has
    done anything else in this process.

    Raises:
        ArtifactError: TF_CONFIG is not valid; a worker does not come, or has gone while the others were training. It
            names the worker.
    """
    cluster = cluster_from_environment()
    if cluster is None:
        gpus = tf.config.list_physical_devices("GPU") if not tf.distribute.has_strategy() else []
        yield tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
        return
    seconds = _timeout_seconds()
    connections = meet(cluster, seconds)
    strategy = _strategy(cluster, seconds)

    def abort(worker: int) -> None:
        time.sleep(_GRACE_SECONDS)
        _abort_exchange(f"{cluster.named([worker])} has gone")

    connections.watch(abort)
    try:
        yield strategy
    except tf.errors.OpError as error:
        lost = connections.wait_for_loss(_NEWS_SECONDS)
        connections.close(ended=False)
        if not lost:
            raise
        traceback.clear_frames(error.__traceback__)  # TensorFlow's thread pools in them would complain at exit
        rule = f"{cluster.named(lost)} has gone in the middle of the training"
        remedy = "The last checkpoint is good. Run the same command again on all workers: they continue there."
        raise ArtifactError(f"{rule}. {remedy}") from error
    except BaseException:
        connections.close(ended=False)  # the others would wait for what this one was to exchange with them
        raise
    connections.close(ended=True)


def cluster_from_environment(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that TF_CONFIG names; None where it names none, or this process alone.

    Raises:
        ArtifactError: it is not valid.
    """
    text = environment.get(CLUSTER, "")
    if not text.strip():
        return None
    try:
        document = json.loads(text)
        jobs = {job: list(map(str, addresses)) for job, addresses in document.get("cluster", {}).items()}
        task = document.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"TF_CONFIG must hold JSON with cluster and task: {error}. Received {text!r}.") from error
    other = [job for job in jobs if job not in _JOBS]
    if other or (jobs and kind not in jobs):
        wrong = other[0] if other else kind
        raise ArtifactError(f"TF_CONFIG must name workers only, and this task among them. Received {wrong!r} in "
                            f"{text!r}. {suggest(wrong, _JOBS)}")  # fmt: skip
    jobs = {job: jobs[job] for job in _JOBS if jobs.get(job)}
    addresses = [address for job in jobs.values() for address in job]
    if len(addresses) <= 1:
        return None
    if not 0 <= index < len(jobs[kind]):
        rule = f"TF_CONFIG: task.index must be from 0 to {len(jobs[kind]) - 1}, the tasks of {kind!r}"
        raise ArtifactError(f"{rule}. Received {index}.")
    for address in addresses:
        if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdigit():
            raise ArtifactError(f"TF_CONFIG: an address must be host:port. Received {address!r}.")
    before = len(jobs.get("chief", [])) if kind == "worker" else 0
    return Cluster(tuple(addresses), before + index, {job: len(found) for job, found in jobs.items()})


def _timeout_seconds() -> float:
    text = os.environ.get(TIMEOUT, str(_TIMEOUT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ArtifactError(f"{TIMEOUT} must be a number of seconds above 0. Received {text!r}.")
    return seconds


def _strategy(cluster: Cluster, seconds: float) -> tf.distribute.Strategy:
    """TensorFlow's strategy over the workers.

    Raises:
        ArtifactError: TensorFlow has been used before.
    """
    from tensorflow.python.eager import context

    state = context.context()
    if state._context_handle is not None:
        rule = "a process that joins the workers of TF_CONFIG must not have used TensorFlow before"
        raise ArtifactError(f"{rule}. Train in a process of its own: onehull train")
    _configure_coordination(state, cluster, seconds)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    state.ensure_initialized()  # now, while all are here, and not at the first operation of each
    return strategy


def _configure_coordination(state: Any, cluster: Cluster, seconds: float) -> None:
    """Sets TensorFlow's own watch over the workers; its defaults wait an hour, and give up a slow machine at once."""
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2

    jobs = [coordination_config_pb2.CoordinatedJob(name=job, num_tasks=n) for job, n in cluster.jobs.items()]
    leader = next(iter(cluster.jobs))
    state.configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{leader}/replica:0/task:0",
        coordinated_jobs=jobs,
        cluster_register_timeout_in_ms=int(1000 * seconds),
        heartbeat_timeout_in_ms=1000 * _HEARTBEAT_SECONDS,
        shutdown_barrier_timeout_in_ms=1000 * _LEAVING_SECONDS,
    )


def _abort_exchange(message: str) -> None:
    """Ends what TensorFlow waits for in C++; what it would exchange from now on fails at once."""
    from tensorflow.python.eager import context

    context.context().abort_collective_ops(tf.errors.UNAVAILABLE, message)


def _cluster_of(strategy: tf.distribute.Strategy) -> tuple[int, int] | None:
    """Number of workers of a strategy, and which of them this process is; None for one process."""
    if not strategy.extended._in_multi_worker_mode():
        return None
    extended = strategy.extended
    return int(extended._num_workers), int(extended._id_in_cluster)
