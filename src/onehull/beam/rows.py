"""Rows of the samples table as TensorFlow Transform takes them: raw tensors in Arrow record batches.

Raw tensors, by feature; ``B`` is the batch, ``L`` any list length (as in `onehull.features.graph`):

- categorical  text ``(B,)``, missing is empty
- numeric      float32 ``(B,)``, missing is NaN
- list         text ``(B, L)``, sparse
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from onehull.features import columns
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature
from onehull.spec.samples import SPLIT, SplitName, feature_column

BATCH_ROWS = 4096
"""Rows that one call of the graph sees."""


def adapter_config(features: Mapping[str, Feature]) -> TensorAdapterConfig:
    """How record batches of these features become tensors."""
    schema = pa.schema([(name, pa.list_(_arrow_type(feature))) for name, feature in features.items()])
    return TensorAdapterConfig(schema, {name: _representation(name, feature) for name, feature in features.items()})


def read_columns(features: Mapping[str, Feature]) -> list[str]:
    """Columns of the samples table that `record_batches` reads."""
    return [SPLIT, *map(feature_column, features)]


def record_batches(table: pa.Table, features: Mapping[str, Feature], split: SplitName) -> Iterator[pa.RecordBatch]:
    """The rows of one part, by the rules of the local engine (`onehull.features.columns`).

    Args:
        table: rows of the samples table, with at least `read_columns`.
        features: categorical, list and numeric ones.
        split: the part.
    """
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  a table is no column
    wanted = columns.rows_of(frame.lazy(), split).select(_filled(name, feature) for name, feature in features.items())
    for batch in wanted.collect().iter_slices(BATCH_ROWS):
        arrays = [_lists(batch[name], feature) for name, feature in features.items()]
        yield pa.RecordBatch.from_arrays(arrays, list(features))


def _filled(name: str, feature: Feature) -> pl.Expr:
    if isinstance(feature, NumericFeature):
        return columns.numbers(name).fill_null(np.nan).alias(name)
    if isinstance(feature, ListFeature):
        return columns.id_lists(name, feature.max_length).alias(name)
    return columns.ids(name).fill_null("").alias(name)


def _lists(column: pl.Series, feature: Feature) -> pa.Array:
    """A column as lists; of one value each where the feature holds one value a row."""
    dtype = pa.list_(_arrow_type(feature))
    if isinstance(feature, ListFeature):
        return column.to_arrow().cast(dtype)
    return pa.ListArray.from_arrays(
        pa.array(range(len(column) + 1), pa.int32()), column.to_arrow().cast(dtype.value_type)
    )


def _arrow_type(feature: Feature) -> pa.DataType:
    return pa.float32() if isinstance(feature, NumericFeature) else pa.binary()


def _representation(name: str, feature: Feature) -> schema_pb2.TensorRepresentation:
    if isinstance(feature, ListFeature):
        sparse = schema_pb2.TensorRepresentation.VarLenSparseTensor(column_name=name)
        return schema_pb2.TensorRepresentation(varlen_sparse_tensor=sparse)
    assert isinstance(feature, (CategoricalFeature, NumericFeature))  # noqa: S101  vectors are not measured
    dense = schema_pb2.TensorRepresentation.DenseTensor(column_name=name, shape=schema_pb2.FixedShape())
    return schema_pb2.TensorRepresentation(dense_tensor=dense)
