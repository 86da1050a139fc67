"""What is public, and what an import costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import onehull

SOURCE = Path(onehull.__file__).parent
HEAVY = {"apache_beam", "confluent_kafka", "feast", "google.cloud.pubsub", "keras", "matplotlib", "tensorflow", "tfx"}


def loaded_by(code: str) -> set[str]:
    """Modules that are loaded after a piece of code, in a process of its own."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_everything_public_can_be_reached():
    assert sorted(onehull.__all__) == onehull.__all__
    for name in onehull.__all__:
        assert getattr(onehull, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'ran'"):
        onehull.ran  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import onehull") & (HEAVY | {"polars", "numpy"})


def test_help_loads_no_framework():
    assert not loaded_by("import onehull.cli.app as a; a.build_app()") & HEAVY


@pytest.mark.parametrize(
    "room",
    [
        "spec",
        "events",
        "features",
        "fusion",
        "metrics",
        "world",
        "serve",
        "export",
        "pipeline",
        "streams",
        "store",
        "monitor",
        "beam",
    ],
)
def test_a_room_loads_no_framework_before_it_is_used(room):
    assert not loaded_by(f"import onehull.{room}") & HEAVY


def test_every_module_says_what_it_is():
    silent = [path.name for path in SOURCE.rglob("*.py") if not path.read_text(encoding="utf-8").startswith('"""')]
    assert not silent


def test_no_room_has_a_drawer():
    drawers = {"utils", "util", "common", "helpers", "misc", "manager"}
    assert not [path for path in SOURCE.rglob("*.py") if path.stem in drawers]
