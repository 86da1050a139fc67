"""Raw values to model inputs: one transform, measured once, run by two engines.

`analyze` measures the training rows and gives a `Transform`, which is data. `onehull.features.graph` builds it as a
TensorFlow graph, for the shards and the SavedModel; `ArrayTransform` is the same in NumPy, for the ranker. TensorFlow
is imported by `graph` and `layers` alone, and nothing here imports those.
"""

from onehull.features.analyze import analyze
from onehull.features.arrays import ArrayTransform
from onehull.features.statistics import feature_statistics
from onehull.features.transform import Transform

__all__ = ["ArrayTransform", "Transform", "analyze", "feature_statistics"]
