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
from importlib.metadata import version
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
_START_SECONDS = 60
_FLINK = "1.20"


@pytest.fixture
def job_server(tmp_path: Path) -> Iterator[str]:
    """Beam's own job server, in a process of its own: the way that pipelines go to Flink and to Spark."""
    (port,) = free_ports(1)
    module = "apache_beam.runners.portability.local_job_service_main"
    with (tmp_path / "job-server.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", module, "-p", str(port)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + _START_SECONDS
        while not _answers(port):
            assert time.monotonic() < end
            assert process.poll() is None, (tmp_path / "job-server.log").read_text()
            time.sleep(0.2)
        yield f"--runner=PortableRunner --job_endpoint=localhost:{port} --environment_type=LOOPBACK"
    finally:
        process.terminate()
        process.wait()


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
def flink_job_server(tmp_path: Path) -> Path:
    """Beam's job server for Flink, with a Flink of its own inside; Maven fetches it."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        pytest.skip(
            f"{' and '.join(missing)} not on the PATH: Beam's job server for Flink needs Java, and Maven to fetch it"
        )
    artifact = f"org.apache.beam:beam-runners-flink-{_FLINK}-job-server:{version('apache-beam')}"
    fetch = [
        "mvn",
        "--quiet",
        "--batch-mode",
        "dependency:copy",
        f"-Dartifact={artifact}",
        f"-DoutputDirectory={tmp_path}",
    ]
    if subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip(f"Maven serves no {artifact}")
    return next(tmp_path.glob("*.jar"))


def test_flink(flink_job_server: Path, tmp_path: Path):
    options = f"--runner=FlinkRunner --flink_master=[auto] --flink_job_server_jar={flink_job_server} --parallelism=2"
    compare(f"{options} --environment_type=LOOPBACK", tmp_path)


def test_the_runner_that_the_environment_names(tmp_path: Path):
    options = os.environ.get("ONEHULL_BEAM_OPTIONS")
    if not options:
        pytest.skip("ONEHULL_BEAM_OPTIONS names no runner, for example --runner=FlinkRunner --flink_master=host:8081")
    compare(options, tmp_path)
