"""What tests share: where real data are, and one small project that has gone all the way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ONEHULL_DATA", ROOT.parent / "shared" / "data"))

# A shell lets what it starts in the background ignore Ctrl-C, and so would the trainings that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def real_data(folder: str) -> Path:
    """Directory of a public data set; the test skips where it is absent."""
    directory = DATA / folder
    if not directory.is_dir():
        pytest.skip(f"{folder} is not in {DATA}: put it there, or set ONEHULL_DATA")
    return directory


@pytest.fixture(autouse=True)
def _no_determinism_left() -> Iterator[None]:
    """Switches deterministic operations off again: Keras refuses XLA while they are on, in whatever test comes next."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture(scope="session")
def kuairand() -> Path:
    """KuaiRand-Pure."""
    return real_data("kuairand_pure")


@pytest.fixture(scope="session")
def census() -> Path:
    """Census-Income (KDD)."""
    return real_data("census_income_kdd")


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that all test processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def small_feed(shared_directory: Path):
    """The simulated feed, small: a project that `run` has finished. Tests read it and must not change it."""
    from onehull.pipeline import Project, run
    from onehull.spec import load_spec
    from onehull.world import ensure_world

    spec = load_spec(ROOT / "recipes" / "video_feed.yaml")
    training = spec.training.model_copy(update={"epochs": 2, "batch_size": 256, "tensorboard": False})
    spec = spec.model_copy(update={"training": training})
    world, out = shared_directory / "small-world", shared_directory / "small-feed"
    with FileLock(shared_directory / "small-feed.lock"):
        ensure_world(world, users=150, items=80, days=4, seed=0)
        project = Project.open(spec, data=world, out=out)
        run(project)
    return project
