"""`onehull features`: from a spec to values online, in messages, and through a full disk and a kill."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from onehull.cli.app import EXIT_ERROR, build_app
from onehull.store import StoredUsers
from tests.redis_server import needs_feast

pytestmark = [needs_feast, pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]

SPEC = """
name: shop
data:
  samples: samples.csv
  user: user
  tables: {user: {path: users.parquet, key: user}}
  split: {by: column, column: day, validation: [1], test: [2]}
features: {city: {kind: categorical}, age: {kind: numeric}}
tasks: {click: {kind: binary, label: is_click}}
"""


def write_users(directory: Path, count: int, city: str) -> None:
    frame = {"user": [f"u{n}" for n in range(count)], "city": [city] * count, "age": [float(n) for n in range(count)]}
    pl.DataFrame(frame).write_parquet(directory / "users.parquet")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(SPEC)
    (tmp_path / "samples.csv").write_text("user,day,is_click\nu1,0,1\nu1,1,0\nu2,2,1\n")
    write_users(tmp_path, 3, "Rome")
    return tmp_path


def features(shop: Path, action: str, *options: str):
    return CliRunner().invoke(
        build_app(), ["features", action, str(shop / "shop.yaml"), "--out", str(shop / "out"), *options]
    )


def onehull(shop: Path, action: str, **options) -> subprocess.Popen[str]:
    """The same in a process of its own, which can be killed."""
    command = [sys.executable, "-m", "onehull", "features", action, str(shop / "shop.yaml"), "--out", str(shop / "out")]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def city(shop: Path, user: str) -> str | None:
    users = StoredUsers(shop / "out" / "feature_store", ["city"], deadline_ms=10_000)
    value = users.read(user).values.get("city")
    users.close()
    return value


def test_apply_materialize_and_status(shop: Path):
    applied = features(shop, "apply")
    assert applied.exit_code == 0, applied.output
    assert "user (2 features)" in applied.output
    assert "never" in features(shop, "status").output
    assert "user: 3 of 3 ids written" in features(shop, "materialize").output
    assert "user: 0 of 3 ids written" in features(shop, "materialize").output
    assert "user: 3 of 3 ids written" in features(shop, "materialize", "--force").output
    assert city(shop, "u1") == "Rome"
    assert "answers" in features(shop, "status").output


def test_materialize_before_apply_says_which_command_to_run(shop: Path):
    process = onehull(shop, "materialize")
    _, errors = process.communicate()
    assert process.returncode == EXIT_ERROR
    assert "holds no feature store. Make one with: onehull features apply" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_the_values_online_stay(shop: Path):
    assert features(shop, "apply").exit_code == 0
    assert features(shop, "materialize").exit_code == 0
    write_users(shop, 5000, "Oslo")

    def fill_the_disk() -> None:
        # A file may grow to 100 kB and no further: writes fail as they do on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = onehull(shop, "materialize", preexec_fn=fill_the_disk)
    _, errors = process.communicate()
    assert process.returncode == EXIT_ERROR
    assert "SQLite in" in errors
    assert "Free some space" in errors
    assert "Traceback" not in errors
    assert city(shop, "u1") == "Rome"


def test_a_materialization_that_is_killed_is_done_again(shop: Path):
    assert features(shop, "apply").exit_code == 0
    assert features(shop, "materialize").exit_code == 0
    write_users(shop, 15_000, "Oslo")
    repository = shop / "out" / "feature_store"
    before = (repository / "offline" / "user.parquet").stat().st_ino
    process = onehull(shop, "materialize", start_new_session=True)
    # When the offline rows are there, it is on its way to write the values online, for seconds.
    while (repository / "offline" / "user.parquet").stat().st_ino == before:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert city(shop, "u14999") is None
    assert "15,000" in features(shop, "status").output
    again = features(shop, "materialize")
    assert "user: 15000 of 15000 ids written" in again.output, again.output
    assert [city(shop, user) for user in ("u1", "u14999")] == ["Oslo", "Oslo"]
