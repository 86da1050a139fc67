"""A real table, through analysis, shards and both engines."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onehull.features import ArrayTransform, analyze, feature_statistics
from onehull.records import read_manifest, write_records
from onehull.records.read import load_arrays
from onehull.spec import Spec, load_spec
from onehull.spec.samples import feature_column, label_column

ROOT = Path(__file__).parents[2]
CENSUS = Path(os.environ.get("ONEHULL_DATA", ROOT.parent / "shared" / "data")) / "census_income_kdd"


def census_samples(spec: Spec, path: Path) -> pl.DataFrame:
    """A few thousand real rows in the form of the samples table."""
    table = pl.read_parquet(CENSUS / "train.parquet").sample(6000, seed=0)
    columns = [
        pl.col(feature.column or name)
        .cast(pl.Float64 if feature.kind == "numeric" else pl.String)
        .alias(feature_column(name))
        for name, feature in spec.features.items()
    ]
    labels = [pl.col(str(task.label)).cast(pl.Float64).alias(label_column(name)) for name, task in spec.tasks.items()]
    split = pl.Series("split", ["train"] * 4000 + ["validation"] * 1000 + ["test"] * 1000)
    frame = table.select(split, *columns, *labels)
    frame.write_parquet(path)
    return frame


@pytest.mark.skipif(not CENSUS.is_dir(), reason=f"real data are absent: {CENSUS}; name their place in ONEHULL_DATA")
def test_census_rows_survive_analysis_and_shards(tmp_path: Path):
    spec = load_spec(ROOT / "recipes" / "census_income.yaml")
    frame = census_samples(spec, tmp_path / "samples.parquet")
    transform = analyze(spec.features, frame.lazy())
    write_records(tmp_path / "samples.parquet", transform, list(spec.tasks), tmp_path / "shards")
    for split in ("train", "validation", "test"):
        rows = frame.filter(pl.col("split") == split)
        inputs, labels = load_arrays(tmp_path / "shards", split)
        for name, values in ArrayTransform(transform).encode_frame(rows).items():
            np.testing.assert_allclose(inputs[name], values, rtol=1e-6, err_msg=name)
        for task in spec.tasks:
            np.testing.assert_array_equal(labels[task], rows[label_column(task)].to_numpy())
    income = read_manifest(tmp_path / "shards").labels["income"]
    assert (income.rows, income.labels) == (4000, 4000)
    assert 0.04 < income.positives / income.labels < 0.09
    statistics = feature_statistics(transform, frame.lazy())
    assert all(0 <= share.unseen_share < 0.05 for share in statistics.values())
    age = np.bincount(load_arrays(tmp_path / "shards", "train")[0]["age"])
    assert age[0] == 0
    assert age[1:].min() > 0
