"""The graph and NumPy encode the same raw values to the same inputs, whatever the values are."""

import math
from typing import Any

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from onehull.errors import DataError
from onehull.features import ArrayTransform, Transform
from onehull.features.graph import parse_examples, raw_signature, transform_model
from onehull.features.tensors import raw_tensors as tensors_of
from onehull.features.transform import (
    Bag,
    BucketsTransform,
    HashTransform,
    MomentsTransform,
    VectorTransform,
    VocabularyTransform,
)
from onehull.spec.samples import id_text

KNOWN = ("a", "7", "[UNK]", "ünï ćode 🚢", "9223372036854775807", "0.5", "true", "a\x00b")
TRANSFORM = Transform(
    features={
        "place": VocabularyTransform(values=KNOWN),
        "nothing": VocabularyTransform(values=()),
        "hashed": HashTransform(buckets=1000, key=(5, 2**63 - 1)),
        "tags": VocabularyTransform(values=KNOWN, bag=Bag(length=3, pooling="mean", separator="|")),
        "marks": HashTransform(buckets=50, key=(1, 2), bag=Bag(length=2, pooling="sum")),
        "z": MomentsTransform(mean=3.25, std=1.7, has_missing=True),
        "log": MomentsTransform(mean=1.9, std=0.7, log1p=True, has_missing=False),
        "constant": MomentsTransform(mean=1e30, std=0.0, has_missing=False),
        "clock": MomentsTransform(mean=1.7e9, std=86400.0, has_missing=False),
        "bucket": BucketsTransform(boundaries=(-1.0, 0.0, 0.5, 1e30)),
        "small_bucket": BucketsTransform(boundaries=(-1e-38, 0.0, 1e-44, 1e-40, 2e-38)),
        "one_bucket": BucketsTransform(boundaries=()),
        "vector": VectorTransform(size=3),
    }
)
MODEL = tf.function(transform_model(TRANSFORM), reduce_retracing=True)
ARRAYS = ArrayTransform(TRANSFORM)
NUMBERS = ("z", "log", "constant", "clock", "bucket", "small_bucket", "one_bucket")


def raw_tensors(rows: dict[str, Any], count: int) -> dict[str, tf.Tensor]:
    """An oracle of its own: raw Python values as the graph wants them, written without the code under test."""
    tensors = {}
    for name in TRANSFORM.features:
        values = rows.get(name, [None] * count)
        if name in NUMBERS:
            column = [math.nan if value is None else value for value in values]
            with np.errstate(over="ignore"):
                tensors[name] = tf.constant(np.array(column, np.float64).astype(np.float32))
        elif name == "vector":
            column = [[math.nan] * 3 if value is None else value for value in values]
            tensors[name] = tf.constant(np.array(column, np.float32).reshape(count, 3))
        elif name in {"tags", "marks"}:
            texts = [[id_text(item) or "" for item in value or ()] for value in values]
            width = max((len(row) for row in texts), default=0)
            padded = [item for row in texts for item in row + [""] * (width - len(row))]
            tensors[name] = tf.reshape(tf.constant(padded, tf.string), (count, width))
        else:
            tensors[name] = tf.constant([id_text(value) or "" for value in values], tf.string)
    return tensors


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    assert set(actual) == set(expected)
    for entry in TRANSFORM.inputs:
        array, tensor = actual[entry.name], expected[entry.name].numpy()
        assert array.dtype == tensor.dtype == np.dtype(entry.dtype)
        assert array.shape == tensor.shape == (len(tensor), *entry.shape)
        if entry.kind == "dense":
            np.testing.assert_allclose(array, tensor, rtol=1e-6, atol=1e-6, err_msg=entry.name)
            assert np.isfinite(array).all()
        else:
            np.testing.assert_array_equal(array, tensor, err_msg=entry.name)
            assert array.size == 0 or (array.min() >= 0 and array.max() < entry.rows)


IDS = st.one_of(
    st.none(),
    st.sampled_from(KNOWN),
    st.text(max_size=6),
    st.integers(-(2**70), 2**70),
    st.floats(width=64),
    st.booleans(),
)
WIDE = st.one_of(
    st.none(),
    st.floats(width=64),
    st.sampled_from([0.5, -1.0, 1e30, 3.25, 1.7e9, -1e-44, 1e-40, 3e-38]),
    st.integers(-9, 9),
)
NARROW = st.one_of(st.floats(width=32), st.floats(-3, 3, width=32))
ROW = {
    **dict.fromkeys(("place", "nothing", "hashed"), IDS),
    **dict.fromkeys(("tags", "marks"), st.one_of(st.none(), st.lists(IDS, max_size=40))),
    **dict.fromkeys(NUMBERS, WIDE),
    "vector": st.one_of(st.none(), st.lists(NARROW, min_size=3, max_size=3)),
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries(ROW), min_size=1, max_size=5))
def test_both_engines_agree_on_any_values(rows: list[dict[str, Any]]):
    columns = {name: [row[name] for row in rows] for name in ROW}
    assert_equal(ARRAYS.encode(columns, len(rows)), MODEL(raw_tensors(columns, len(rows))))


def test_what_is_nearer_to_0_than_any_normal_float32_is_0_on_every_thread():
    near = [-2e-38, -1e-38, -1e-44, 0.0, 1e-44, 1e-39, 2.0**-126, 3e-38]
    buckets = [1, 5, 5, 5, 5, 5, 5, 6]
    one_by_one = [MODEL(raw_tensors({"small_bucket": [value]}, 1))["small_bucket"].numpy().item() for value in near]
    together = MODEL(raw_tensors({"small_bucket": near * 1000}, len(near) * 1000))["small_bucket"].numpy().tolist()
    assert ARRAYS.encode({"small_bucket": near}, len(near))["small_bucket"].tolist() == buckets
    assert (one_by_one, together) == (buckets, buckets * 1000)


def test_logarithms_and_scores_agree_over_the_whole_range_of_float32():
    random = np.random.default_rng(0)
    wide = np.exp(random.uniform(-80, 88, 50_000)) * random.choice([-1, 1], 50_000)
    columns = {name: wide.astype(np.float32) for name in NUMBERS}
    expected = MODEL(raw_tensors({name: values.tolist() for name, values in columns.items()}, len(wide)))
    assert_equal(ARRAYS.encode(columns, len(wide)), expected)


def test_absent_columns_are_missing_in_every_engine():
    encoded = ARRAYS.encode({}, 2)
    assert_equal(encoded, MODEL(raw_tensors({}, 2)))
    assert encoded["place"].tolist() == [0, 0]
    assert encoded["z"].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert not encoded["vector"].any()
    empty = tf.constant([tf.train.Example().SerializeToString()] * 2)
    assert_equal(encoded, MODEL(parse_examples(TRANSFORM)(empty)))


def test_ids_are_places_and_unseen_ids_share_one():
    columns: dict[str, Any] = {
        "place": ["a", 7, 7.0, "x", None, "", float("nan"), np.int64(7), np.float32(7), np.True_, "[UNK]"]
    }
    assert ARRAYS.encode(columns, 11)["place"].tolist() == [2, 3, 3, 1, 0, 0, 0, 3, 3, 8, 4]


def test_lists_drop_missing_ids_before_they_are_cut():
    columns: dict[str, Any] = {
        "tags": [[None, "", "a", float("nan"), 7, "a", "x"], "a| 7 ||q", (), None],
        "marks": ["one", ["one"]] * 2,
    }
    encoded = ARRAYS.encode(columns, 4)
    assert encoded["tags"].tolist() == [[2, 3, 2], [2, 3, 1], [0, 0, 0], [0, 0, 0]]
    assert encoded["marks"][0].tolist() == encoded["marks"][1].tolist()
    ragged = tf.constant([["", "", "a", "7", "a", "x"]])
    assert MODEL({**raw_tensors({}, 1), "tags": ragged})["tags"].numpy().tolist() == [[2, 3, 2]]


def test_a_vector_with_a_missing_element_is_missing():
    columns: dict[str, Any] = {"vector": [[1.0, None, 2.0], [1.0, 2.0, math.inf], np.array([1, 2, 3]), None]}
    assert ARRAYS.encode(columns, 4)["vector"].tolist() == [[0] * 3, [0] * 3, [1, 2, 3], [0] * 3]


def test_wild_numbers_stay_finite():
    encoded = ARRAYS.encode({"z": [1e38, -1e38, 1e300, 10**400], "constant": [0.0, 1.0, -1e38, 5]}, 4)
    assert encoded["z"].tolist() == [[1e4, 0], [-1e4, 0], [0, 1], [0, 1]]
    assert not encoded["constant"].any()


def test_frames_encode_like_rows():
    frame = pl.DataFrame(
        {
            "x.place": ["a", None, "zzz"],
            "x.tags": [["a", "7"], None, []],
            "x.z": [1.0, None, math.nan],
            "x.bucket": [1, None, 5],
            "x.vector": pl.Series([[1.0, 2.0, 3.0], None, [1.0, None, 2.0]], dtype=pl.List(pl.Float32)),
            "other": [1, 2, 3],
        }
    )
    rows = {name: frame[f"x.{name}"].to_list() for name in ("place", "tags", "z", "bucket", "vector")}
    for name, array in ARRAYS.encode_frame(frame).items():
        np.testing.assert_array_equal(array, ARRAYS.encode(rows, 3)[name])
    assert ARRAYS.encode_frame(frame.head(0))["tags"].shape == (0, 3)


def test_a_table_encodes_alike_in_both_engines_also_where_a_column_is_all_null():
    whole = pl.DataFrame(
        {
            **{f"x.{name}": ["a", None, "7"] for name in ("place", "nothing", "hashed")},
            **{f"x.{name}": [["a", "7", "q", "a"], None, []] for name in ("tags", "marks")},
            **{f"x.{name}": [1.5, None, math.nan] for name in NUMBERS},
            "x.vector": pl.Series([[1.0, 2.0, 3.0], None, [1.0, None, 2.0]], dtype=pl.List(pl.Float32)),
        }
    )
    for frame in (whole, whole.select(pl.lit(None).alias(name) for name in whole.columns), whole.head(0)):
        assert_equal(ARRAYS.encode_frame(frame), MODEL(tensors_of(TRANSFORM, frame)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"z": ["many"]}, "'z' must hold numbers. Received 'many'"),
        ({"z": [[1.0, 2.0]]}, "'z' must hold"),
        ({"vector": [[1.0, 2.0]]}, "'vector' must hold vectors of size 3. Received 2 numbers"),
        ({"vector": ["abc"]}, "'vector' must hold vectors of size 3. Received 'abc'"),
        ({"vector": pl.Series([[1.0]], dtype=pl.List(pl.Float32))}, "Received 1 numbers"),
        ({"place": ["a", "b"]}, "'place' must hold 1 values"),
    ],
)
def test_values_of_another_kind_are_refused_by_name(columns: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        ARRAYS.encode(columns, 1)


def test_hash_buckets_are_those_of_tensorflow_on_long_unicode_text():
    texts = ["", "é" * 300, *(f"user-{i}" for i in range(500))]
    hashed = tf.strings.to_hash_bucket_strong(texts[1:], 1000, [5, 2**63 - 1]).numpy() + 1
    assert ARRAYS.encode({"hashed": texts}, len(texts))["hashed"].tolist() == [0, *hashed.tolist()]
    assert ARRAYS.encode({"hashed": ["\ud800"]}, 1)["hashed"][0] > 0


def test_the_model_survives_saving_and_export(tmp_path):
    model = transform_model(TRANSFORM)
    raw = raw_tensors({"place": ["a", "x"], "tags": [["a"], ["7", "x", "a", "a"]], "z": [1.0, None]}, 2)
    expected = {name: value.numpy() for name, value in model(raw).items()}
    model.save(tmp_path / "transform.keras")
    reloaded = keras.models.load_model(tmp_path / "transform.keras")(raw)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("raw", model.__call__, input_signature=[raw_signature(TRANSFORM)])
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "saved")).raw(raw)
    for name, value in expected.items():
        np.testing.assert_array_equal(reloaded[name].numpy(), value)
        np.testing.assert_array_equal(exported[name].numpy(), value)


def test_examples_parse_to_raw_tensors():
    text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"7", b"a"]))
    number = tf.train.Feature(float_list=tf.train.FloatList(value=[2.5]))
    example = tf.train.Example(features=tf.train.Features(feature={"tags": text, "log": number, "unknown": number}))
    raw = parse_examples(TRANSFORM)(tf.constant([example.SerializeToString(), b""]))
    assert {name: value.dtype for name, value in raw.items()} == {
        name: spec.dtype for name, spec in raw_signature(TRANSFORM).items()
    }
    columns: dict[str, Any] = {"tags": [["7", "a"], None], "log": [2.5, None]}
    assert_equal(ARRAYS.encode(columns, 2), MODEL(raw))
