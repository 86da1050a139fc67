"""Raw values to model inputs: one transform, measured once, run by two engines.

`analyze` measures the training rows and gives a `Transform`, which is data. `onehull.features.graph` builds it as a
TensorFlow graph, for the shards and the SavedModel; `ArrayTransform` is the same in NumPy, for the ranker. TensorFlow
is imported by `graph` and `layers` alone, and nothing here imports those. `grow` takes a transform from one day to the
next: new ids are added, and nothing that a model has learned moves.
"""

from onehull.features.analyze import analyze
from onehull.features.arrays import ArrayTransform
from onehull.features.counts import IdCounts, count_ids
from onehull.features.grow import Measured, grow, measure, new_rows
from onehull.features.statistics import feature_statistics
from onehull.features.transform import Transform

__all__ = [
    "ArrayTransform",
    "IdCounts",
    "Measured",
    "Transform",
    "analyze",
    "count_ids",
    "feature_statistics",
    "grow",
    "measure",
    "new_rows",
]
