"""Examples that NumPy lays out are Examples to TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from onehull.records.example import Column, ExampleEncoder, id_bytes


@pytest.mark.parametrize(("largest", "width"), [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2**31 - 1, 5)])
def test_an_id_takes_as_many_bytes_as_the_largest(largest, width):
    assert id_bytes(largest) == width


@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.floats(width=32)), min_size=1, max_size=20), st.text(min_size=1)
)
@settings(max_examples=60, deadline=None)
def test_tensorflow_reads_back_what_was_written(rows, name):
    ids, numbers = (np.array(column) for column in zip(*rows, strict=True))
    label = f"y.{name}"
    encoder = ExampleEncoder([Column(name, 1, id_bytes(2**31 - 1)), Column(label, 1)])
    examples = encoder.encode({name: ids, label: numbers.astype(np.float32)})
    for row, (value, number) in zip(examples, rows, strict=True):
        features = tf.train.Example.FromString(row.tobytes()).features.feature
        assert set(features) == {name, label}
        assert list(features[name].int64_list.value) == [value]
        np.testing.assert_array_equal(features[label].float_list.value, np.array([number], np.float32))


def test_many_values_and_long_names():
    name = "feature_" * 40
    encoder = ExampleEncoder([Column(name, 200, 3), Column("v", 50)])
    ids = np.arange(400).reshape(2, 200) * 7
    vectors = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    examples = [row.tobytes() for row in encoder.encode({name: ids, "v": vectors})]
    parsed = tf.io.parse_example(
        examples, {name: tf.io.FixedLenFeature((200,), tf.int64), "v": tf.io.FixedLenFeature((50,), tf.float32)}
    )
    np.testing.assert_array_equal(parsed[name], ids)
    np.testing.assert_array_equal(parsed["v"], vectors)


def test_a_missing_label_is_a_nan_that_survives():
    encoder = ExampleEncoder([Column("y.like", 1)])
    example = encoder.encode({"y.like": np.array([np.nan], np.float32)})[0].tobytes()
    assert np.isnan(tf.train.Example.FromString(example).features.feature["y.like"].float_list.value[0])
