"""`onehull prepare --engine beam` leaves what the local engine leaves, shards included."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("tensorflow_transform", reason='tensorflow-transform is not installed: pip install "onehull[beam]"')

from onehull.cli.app import build_app
from onehull.errors import RunnerError
from onehull.events import read_report
from onehull.features import Transform
from onehull.features.transform import BucketsTransform, MomentsTransform
from onehull.pipeline import Project, assemble, prepare
from onehull.spec import load_spec
from onehull.world import ensure_world

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "video_feed.yaml"


def digits(transform: Transform) -> Transform:
    """Moments to nine digits: the order of additions decides over the last ones."""
    features = {
        name: feature.model_copy(update={"mean": float(f"{feature.mean:.9g}"), "std": float(f"{feature.std:.9g}")})
        if isinstance(feature, MomentsTransform)
        else feature
        for name, feature in transform.features.items()
    }
    return Transform(features=features)


def test_prepare_on_beam_makes_samples_and_shards_of_the_local_engine(tmp_path: Path):
    world = tmp_path / "world"
    ensure_world(world, users=60, items=40, days=4, seed=0)
    local, beam = (Project.open(load_spec(RECIPE), data=world, out=tmp_path / name) for name in ("local", "beam"))
    assemble(local)
    prepare(local)
    prepare(beam, engine="beam")
    for name in ("samples", "counts"):
        assert getattr(local, name).read_bytes() == getattr(beam, name).read_bytes()
    assert read_report(local.samples.parent) == read_report(beam.samples.parent)
    transforms = [Transform.load(project.transform) for project in (local, beam)]
    assert any(isinstance(feature, BucketsTransform) for feature in transforms[0].features.values())
    assert digits(transforms[0]) == digits(transforms[1])
    shards = [sorted(project.records.glob("*.tfrecord")) for project in (local, beam)]
    assert [path.name for path in shards[0]] == [path.name for path in shards[1]]
    assert [path.read_bytes() for path in shards[0]] == [path.read_bytes() for path in shards[1]]
    assert not list(beam.out.rglob(".beam-*"))
    # An artifact of either engine is as good as the other's.
    assert prepare(beam).kept
    assert prepare(local, engine="beam").kept


def test_options_are_read_by_the_beam_engine_alone(tmp_path: Path):
    ensure_world(tmp_path / "world", users=20, items=10, days=4, seed=0)
    app, arguments = build_app(), ["prepare", str(RECIPE), "--data", str(tmp_path / "world"), "--out", str(tmp_path)]
    flags = ["--beam-options", "--flink_mister=here"]
    refused = CliRunner().invoke(app, [*arguments, *flags])
    assert refused.exit_code == 2
    assert "--beam-options are for --engine beam" in refused.stderr
    refused = CliRunner().invoke(app, [*arguments, *flags, "--engine", "beam"])
    assert isinstance(refused.exception, RunnerError)
    assert "flink_mister" in str(refused.exception)
