"""Other runners than the one in this process: worker processes, a job server, and whatever runner one names.

What a pipeline carries must survive the way to another process, and nothing may depend on what this one holds.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("tensorflow_transform", reason='tensorflow-transform is not installed: pip install "onehull[beam]"')

from onehull.beam.analyze import measure_on_beam
from onehull.beam.assemble import assemble_on_beam
from onehull.events import assemble
from onehull.features import measure
from onehull.pipeline.launch import free_ports
from onehull.spec import load_spec
from onehull.world import ensure_world

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
_FETCH_SECONDS = 300
"""The first start on a machine fetches the jars."""


@contextmanager
def serving(command: list[str], port: int, log: Path, seconds: float = 60) -> Iterator[None]:
    """A process that listens at a port."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        end = time.monotonic() + seconds
        while not _answers(port):
            assert time.monotonic() < end
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def job_server(tmp_path: Path) -> Iterator[str]:
    """Beam's own job server, in a process of its own: the way that pipelines go to Flink and to Spark."""
    (port,) = free_ports(1)
    module = "apache_beam.runners.portability.local_job_service_main"
    with serving([sys.executable, "-m", module, "-p", str(port)], port, tmp_path / "job-server.log"):
        yield f"--runner=PortableRunner --job_endpoint=localhost:{port} --environment_type=LOOPBACK"


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("localhost", port)) == 0


def compare(options: str, directory: Path) -> None:
    """Assembles and analyses a small world on a runner and here."""
    spec, world = load_spec(ROOT / "recipes" / "video_feed.yaml"), directory / "world"
    ensure_world(world, users=30, items=20, days=4, seed=0)
    assert assemble_on_beam(spec, world, directory / "beam", options) == assemble(spec, world, directory / "local")
    samples = directory / "local" / "samples.parquet"
    assert_frame_equal(pl.read_parquet(directory / "beam" / "samples.parquet"), pl.read_parquet(samples))
    found = measure_on_beam(spec.features, samples, directory / "workspace", options)
    expected = measure(spec.features, pl.scan_parquet(samples))
    assert found.transform.inputs == expected.transform.inputs
    assert {name: table.rows() for name, table in found.counts.tables.items()} == {
        name: table.rows() for name, table in expected.counts.tables.items()
    }


def test_two_worker_processes(tmp_path: Path):
    compare("--direct_running_mode=multi_processing --direct_num_workers=2", tmp_path)


def test_a_job_server(job_server: str, tmp_path: Path):
    compare(job_server, tmp_path)


@pytest.fixture
def flink(tmp_path: Path) -> Iterator[str]:
    """Beam's job server for Flink, with a Flink of its own inside; Maven fetches it."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on the PATH: Beam's job server for Flink needs Java 17, and Maven")
    (port,) = free_ports(1)
    command = [str(ROOT / "scripts" / "flink" / "run"), str(tmp_path / "flink"), str(port)]
    with serving(command, port, tmp_path / "flink.log", _FETCH_SECONDS):
        yield f"--runner=PortableRunner --job_endpoint=localhost:{port} --environment_type=LOOPBACK --parallelism=2"


# Beam's workers say so when a job server hangs up at a job's end, in threads of their own.
@pytest.mark.filterwarnings("ignore:(?s).*Multiplexer hanging up:pytest.PytestUnhandledThreadExceptionWarning")
def test_flink(flink: str, tmp_path: Path):
    compare(flink, tmp_path)
    log = (tmp_path / "flink.log").read_text()
    assert "org.apache.flink.runtime" in log


def test_the_runner_that_the_environment_names(tmp_path: Path):
    options = os.environ.get("ONEHULL_BEAM_OPTIONS")
    if not options:
        pytest.skip("ONEHULL_BEAM_OPTIONS names no runner, for example --runner=FlinkRunner --flink_master=host:8081")
    compare(options, tmp_path)
