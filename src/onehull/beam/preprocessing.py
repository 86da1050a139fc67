"""The spec's features as a ``preprocessing_fn`` of TensorFlow Transform, for TFX.

A module file of TFX's Transform component says::

    from onehull.beam.preprocessing import preprocessing_fn_of
    from onehull.spec import load_spec

    preprocessing_fn = preprocessing_fn_of(load_spec("recipes/kuairand.yaml"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onehull.beam.runner import require_beam
from onehull.spec import Spec
from onehull.spec.features import CategoricalFeature, Feature, ListFeature

PreprocessingFn = Callable[[Mapping[str, Any]], dict[str, Any]]


def preprocessing_fn_of(spec: Spec) -> PreprocessingFn:
    """A function from raw tensors to the encoded inputs of the model, that TensorFlow Transform analyses and applies.

    Raw tensors stand under the features' names, dense or sparse; ``B`` is the batch: text ``(B,)`` for categorical
    features (missing is empty), float32 ``(B,)`` for numeric ones (missing is NaN), text ``(B, L)`` for lists (sparse,
    or filled up with empty text), float32 ``(B, size)`` for vectors. `raw_feature_spec` is one form that fits.

    Encoded inputs are those of `onehull.features.graph.transform_model`, with what TensorFlow Transform asks for: ids
    are int64, and every shape is known before the data are seen. A standardised number is therefore always ``(B, 2)``,
    with the flag of missing values as its second column; where training had no missing value the flag is 0 everywhere,
    and the model of this package has no such column. Boundaries of buckets are the sketch's (`onehull.beam.analyzers`).

    Analysis must see the training rows alone: in TFX, ``splits_config`` with ``analyze=["train"]``.

    Args:
        spec: the spec.

    Raises:
        MissingPartError: apache-beam or tensorflow-transform is not installed.
    """
    require_beam("tensorflow_transform")
    features = dict(spec.features)

    def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, Any]:
        from onehull.beam.encoding import encode

        return {name: encode(feature, inputs[name], f"ids_{i}") for i, (name, feature) in enumerate(features.items())}

    return preprocessing_fn


def raw_feature_spec(spec: Spec) -> dict[str, Any]:
    """How ``tf.Example`` holds the raw tensors, by feature: all are sparse, since any value may be missing."""
    return {name: _raw_format(feature) for name, feature in spec.features.items()}


def _raw_format(feature: Feature) -> Any:
    import tensorflow as tf

    if isinstance(feature, (CategoricalFeature, ListFeature)):
        return tf.io.VarLenFeature(tf.string)
    return tf.io.VarLenFeature(tf.float32)
