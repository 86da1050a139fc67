"""A model that has grown: what was learned stands where its ids now stand, and training goes on as if never stopped."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.features import analyze
from onehull.features.transform import Bag, MomentsTransform, Transform, VocabularyTransform
from onehull.model import FeatureEmbeddings, MultiTaskModel, build_model
from onehull.records import read_manifest, read_records, write_records
from onehull.spec import Spec, load_spec
from onehull.spec.inputs import ModelInput
from onehull.spec.labels import LabelDistribution
from onehull.spec.model import Mmoe, Stem
from onehull.spec.tasks import BinaryTask, RegressionTask, Task
from onehull.train import Position, fit_model, train
from onehull.train.history import save_best
from onehull.train.precision import Choice
from onehull.train.slots import places_of, restore_slots, save_slots
from onehull.train.train import _compiled_model
from onehull.train.warm_start import Precision, Start, grow_model, load_model, warm_start

SMALL: dict[str, Any] = {"embedding_dim": 4, "tower": [4], "dropout": 0.1, "epnet": {"features": ["user"], "hidden": 4}}


def transform(users: str, tags: str = "xy") -> Transform:
    return Transform(
        features={
            "user": VocabularyTransform(values=tuple(users)),
            "age": MomentsTransform(mean=0, std=1, has_missing=True),
            "tags": VocabularyTransform(values=tuple(tags), dim=2, bag=Bag(length=3, pooling="mean")),
            "item": VocabularyTransform(values=("i", "j")),
        }
    )


def tiny_model(inputs: tuple[ModelInput, ...], seed: int = 0) -> MultiTaskModel:
    """A model without a spec: three tables of ids, of two widths."""
    symbolic = {item.name: keras.Input(item.shape, dtype=item.dtype, name=item.name) for item in inputs}
    embedded = FeatureEmbeddings(inputs, dim=4, seed=seed, stddev=0.5, name="embeddings")(symbolic)
    start = keras.initializers.GlorotUniform(seed=seed)
    hidden = keras.layers.Dense(8, "relu", kernel_initializer=start, name="bottom")(keras.layers.Dropout(0.2)(embedded))
    head = {"activation": "sigmoid", "kernel_initializer": start}
    return MultiTaskModel(symbolic, {task: keras.layers.Dense(1, name=task, **head)(hidden) for task in ("a", "b")})


def compiled(model: MultiTaskModel, **options: Any) -> MultiTaskModel:
    model.compile(loss=dict.fromkeys(("a", "b"), "binary_crossentropy"), jit_compile=False, **options)
    model.build_optimizers()
    return model


def batch(inputs: tuple[ModelInput, ...], rows: int = 32, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(seed)
    x = {
        item.name: random.normal(size=(rows, *item.shape)).astype("float32")
        if item.kind == "dense"
        else random.integers(0, item.rows, (rows, *item.shape)).astype("int32")
        for item in inputs
    }
    return x, {task: random.integers(0, 2, (rows, 1)).astype("float32") for task in ("a", "b")}


def fit(model: MultiTaskModel, data: tuple[dict[str, Any], dict[str, Any]], epochs: int = 2) -> None:
    model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def rows_of(model: MultiTaskModel, feature: str, table: Any = None) -> np.ndarray:
    layer = model.get_layer("embeddings")
    place = layer.places[feature]
    values = np.asarray(layer.tables[place.table].table if table is None else table)
    return values[place.start : place.start + place.rows]


def saved(model: MultiTaskModel, directory: Path) -> tuple[Path, Path]:
    return save_best(directory, model), save_slots(directory / "slots.npz", model)


@pytest.mark.parametrize("section", [Mmoe(kind="mmoe", **SMALL), Stem(kind="stem", **SMALL)], ids=["mmoe", "stem"])
@pytest.mark.parametrize("head", ["linear", "d2q"])
def test_growing_changes_no_prediction(section, head, tmp_path):
    before, after = transform("abc"), transform("abcde", "xyz")
    watch = RegressionTask.model_validate({"kind": "regression", "label": "watch", "head": {"kind": head}})
    tasks: dict[str, Task] = {"click": BinaryTask(kind="binary", label="click"), "watch": watch}
    labels = LabelDistribution(mean=5.0, mean_log1p=1.5, quantiles=(0.0, 3.0, 9.0))
    priors = {"watch": 5.0 if head == "linear" else labels}
    old = build_model(section, tasks, before.inputs, priors=priors, seed=3)
    random = np.random.default_rng(0)
    for variable in old.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    grown = Start(save_best(tmp_path, old), None, before, after).begin()
    x = batch(before.inputs, 16)[0]
    for task, values in old(x).items():
        np.testing.assert_array_equal(values, grown(x)[task])
    # d, e and z were unseen yesterday, which is row 1.
    yesterday, today = {k: v.copy() for k, v in x.items()}, {k: v.copy() for k, v in x.items()}
    yesterday["user"][:8], today["user"][:4], today["user"][4:8] = 1, 5, 6
    yesterday["tags"][:, 0], today["tags"][:, 0] = 1, 4
    for task, values in old(yesterday).items():
        np.testing.assert_array_equal(values, grown(today)[task])


@pytest.mark.parametrize("section", [Mmoe(kind="mmoe", **SMALL), Stem(kind="stem", **SMALL)], ids=["mmoe", "stem"])
def test_a_model_goes_on_in_another_precision_as_if_it_had_been_built_in_it(section, tmp_path):
    same = transform("abc")
    tasks: dict[str, Task] = {name: BinaryTask(kind="binary", label=name) for name in ("click", "like")}
    half, full = (build_model(section, tasks, same.inputs, precision=p) for p in ("bfloat16", "float32"))
    cases: list[tuple[MultiTaskModel, Precision, MultiTaskModel]] = [(half, "float32", full), (full, "bfloat16", half)]
    for built, precision, wanted in cases:
        other = grow_model(built, same.inputs, precision=precision)
        assert policies(other) == policies(wanted)
        for one, two in zip(other.variables, built.variables, strict=True):
            assert one.dtype == two.dtype
    kept = grow_model(half, same.inputs)
    assert kept.get_layer("embeddings").dtype_policy.name == "mixed_bfloat16"


def policies(model: MultiTaskModel) -> list[tuple[str, str]]:
    layers = model._flatten_layers(include_self=False)
    return [(la.name, la.dtype_policy.name) for la in layers if not isinstance(la, keras.layers.InputLayer)]


def test_rows_move_with_their_features_and_a_place_that_is_given_away_is_not_inherited(tmp_path):
    before, after = transform("abc"), transform("aXcd")
    old = tiny_model(before.inputs)
    path = save_best(tmp_path, old)
    for new_ids in ("unseen", "initial"):
        grown = Start(path, None, before, after, new_ids=new_ids).begin()
        untrained = tiny_model(after.inputs)
        was, now = rows_of(old, "user"), rows_of(grown, "user")
        np.testing.assert_array_equal(now[[0, 1, 2, 4]], was[[0, 1, 2, 4]])
        expected = np.stack([was[1], was[1]]) if new_ids == "unseen" else rows_of(untrained, "user")[[3, 5]]
        np.testing.assert_array_equal(now[[3, 5]], expected)
        # The rows of the item stand behind those of the user, in the same table.
        assert (
            grown.get_layer("embeddings").places["item"].start == old.get_layer("embeddings").places["item"].start + 1
        )
        for feature in ("item", "tags"):
            np.testing.assert_array_equal(rows_of(grown, feature), rows_of(old, feature))


@pytest.mark.parametrize("embedding_optimizer", [None, "rowwise_adagrad", "lazy_adam"])
def test_slots_move_with_their_rows_and_those_of_new_ids_are_fresh(embedding_optimizer, tmp_path):
    before, after = transform("abc"), transform("aXcd")
    old = compiled(tiny_model(before.inputs), optimizer="adam", embedding_optimizer=embedding_optimizer)
    fit(old, batch(before.inputs))
    start = Start(*saved(old, tmp_path), before, after)
    grown = compiled(start.begin(), optimizer="adam", embedding_optimizer=embedding_optimizer)
    untouched = compiled(tiny_model(after.inputs), optimizer="adam", embedding_optimizer=embedding_optimizer)
    assert start.go_on(grown) == ()
    assert int(grown.optimizer.iterations) == 8
    compared = 0
    for model_of, new, fresh in zip(*(_optimizers(m) for m in (old, grown, untouched)), strict=True):
        for was, now, first in zip(model_of.variables, new.variables, fresh.variables, strict=True):
            if was.name.startswith("embeddings_table_4_table"):
                users, users_now = rows_of(old, "user", was), rows_of(grown, "user", now)
                np.testing.assert_array_equal(users[[0, 1, 2, 4]], users_now[[0, 1, 2, 4]])
                np.testing.assert_array_equal(users_now[[3, 5]], rows_of(grown, "user", first)[[3, 5]])
                np.testing.assert_array_equal(rows_of(old, "item", was), rows_of(grown, "item", now))
                assert np.abs(users[3] - users_now[3]).max() > 0
                compared += 1
            else:
                np.testing.assert_array_equal(was, now)
    assert compared > 0


def _optimizers(model: MultiTaskModel) -> list[Any]:
    return [one for one in (model.optimizer, model.embedding_optimizer) if one is not None]


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "embedding_optimizer": "rowwise_adagrad", "balancer": "famo"},
        {"optimizer": "sgd", "embedding_optimizer": "ftrl", "balancer": "gradnorm"},
    ],
    ids=["adam", "famo", "gradnorm"],
)
def test_going_on_from_files_is_going_on_in_memory_bit_by_bit(options, tmp_path: Path):
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(1)
    same = transform("abc")
    model = compiled(tiny_model(same.inputs), **options)
    fit(model, batch(same.inputs, seed=1))
    start = Start(*saved(model, tmp_path), same, same)
    other = compiled(start.begin(), **options)
    assert start.go_on(other) == ()
    for going_on in (model, other):
        fit(going_on, batch(same.inputs, seed=2), epochs=3)
    for one, two in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two)


DAY = {
    "name": "day",
    "data": {"samples": "samples.parquet", "split": {"by": "random", "validation": 0.2, "test": 0.2}},
    "features": {"user": {"kind": "categorical", "min_count": 1}, "age": {"kind": "numeric"}},
    "tasks": {
        "click": {"kind": "binary", "label": "click"},
        "watch": {"kind": "regression", "label": "watch", "head": {"kind": "log1p"}},
    },
    "model": {"embedding_dim": 4, "bottom": [8], "tower": [4], "dropout": 0.2},
    "balance": {"kind": "pcgrad"},
    "training": {"epochs": 2, "batch_size": 32, "patience": 9, "select_by": "loss", "tensorboard": False},
}  # fmt: skip


def day_of_records(spec: Spec, transform: Transform | None, directory: Path, seed: int) -> tuple[Path, Transform]:
    random = np.random.default_rng(seed)
    age = random.normal(size=240)
    columns = {
        "sample": [str(row) for row in range(240)],
        "split": ["train"] * 160 + ["validation"] * 40 + ["test"] * 40,
        "x.user": random.choice(["a", "b", "c"], 240),
        "x.age": age,
        "y.click": (age + random.normal(size=240) > 0).astype(float),
        "y.watch": np.exp(age),
    }
    directory.mkdir()
    pl.DataFrame(columns).write_parquet(directory / "samples.parquet")
    transform = transform or analyze(spec.features, pl.scan_parquet(directory / "samples.parquet"))
    tasks = ["click", "watch"]
    write_records(directory / "samples.parquet", transform, tasks, directory / "shards", quantities={"watch": None})
    return directory / "shards", transform


def test_two_days_by_way_of_files_are_two_days_in_memory_bit_by_bit(tmp_path: Path):
    spec = load_spec(DAY)
    first, transform = day_of_records(spec, None, tmp_path / "first", seed=1)
    second, _ = day_of_records(spec, transform, tmp_path / "second", seed=2)
    # The epoch that validation chose is what the next day begins with, so it must be the last one.
    one = train(spec, first, tmp_path / "1", progress=False)
    assert one.best_epoch == 2
    start = Start(tmp_path / "1" / "model.keras", tmp_path / "1" / "slots.npz", transform, transform)
    train(spec, second, tmp_path / "2", progress=False, start=start)

    keras.utils.set_random_seed(spec.training.seed)
    model = _compiled_model(spec, spec.tasks, read_manifest(first), Choice("float32", False, ""))
    for records, out in ((first, tmp_path / "by-hand-1"), (second, tmp_path / "by-hand-2")):

        def epoch_data(at: Position, records: Path = records) -> Any:
            return read_records(records, "train", batch_size=32, shuffle=True, seed=0, epoch=at.epoch)

        validation = read_records(records, "validation", batch_size=64)
        fit_model(model, epoch_data, validation, spec.training, out, resume=False)
    by_files, by_hand = (load_model(tmp_path / name / "model.keras") for name in ("2", "by-hand-2"))
    for one_value, other in zip(by_files.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(one_value, other)
    assert (tmp_path / "2" / "history.json").is_file()


def test_without_slots_or_with_another_optimizer_those_start_anew_and_it_is_said(tmp_path: Path, caplog):
    same = transform("abc")
    model = compiled(tiny_model(same.inputs), optimizer="adam", embedding_optimizer="rowwise_adagrad")
    fit(model, batch(same.inputs))
    path, slots = saved(model, tmp_path)
    other = compiled(load_model(path), optimizer="sgd", embedding_optimizer="rowwise_adagrad")
    with caplog.at_level(logging.WARNING):
        assert restore_slots(slots, other, {}) == ("optimizer",)
    assert "optimizer of" in caplog.text
    assert int(other.optimizer.iterations) == 0
    assert other.embedding_optimizer is not None
    assert int(other.embedding_optimizer.iterations) == 8
    assert set(Start(path, None, same, same).go_on(other)) == {"optimizer", "embedding_optimizer", "state", "draws"}


def test_a_schedule_begins_anew_and_moments_are_kept(tmp_path: Path):
    same = transform("abc")
    rate = keras.optimizers.schedules.CosineDecay(0.01, 100)
    model = compiled(tiny_model(same.inputs), optimizer=keras.optimizers.Adam(rate))
    fit(model, batch(same.inputs))
    start = Start(*saved(model, tmp_path), same, same)
    other = compiled(start.begin(), optimizer=keras.optimizers.Adam(rate))
    assert start.go_on(other) == ()
    assert int(other.optimizer.iterations) == 0
    assert float(np.abs(other.optimizer.variables[-1]).sum()) > 0


def test_the_learning_rate_is_the_specs_not_the_one_that_was_saved(tmp_path: Path):
    same = transform("abc")
    model = compiled(tiny_model(same.inputs), optimizer=keras.optimizers.Adam(0.5))
    start = Start(*saved(model, tmp_path), same, same)
    other = compiled(start.begin(), optimizer=keras.optimizers.Adam(0.25))
    start.go_on(other)
    assert float(other.optimizer.learning_rate) == 0.25


def test_another_architecture_is_refused_with_the_difference():
    inputs = transform("abc").inputs
    old = tiny_model(inputs)
    symbolic = {item.name: keras.Input(item.shape, dtype=item.dtype, name=item.name) for item in inputs}
    embedded = FeatureEmbeddings(inputs, dim=4, name="embeddings")(symbolic)
    hidden = keras.layers.Dense(9, name="bottom")(embedded)
    other = MultiTaskModel(symbolic, {"a": keras.layers.Dense(1, name="a")(hidden)})
    before = [np.asarray(variable) for variable in other.variables]
    with pytest.raises(
        ArtifactError, match=r"b/kernel is gone.*bottom/kernel was \(12, 8\) and is \(12, 9\).*onehull run"
    ):
        warm_start(other, old)
    for value, variable in zip(before, other.variables, strict=True):
        np.testing.assert_array_equal(value, variable)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 8}, r"input 'user' must be as the trained model has it.*dim=8.*onehull run"),
        ({"rows": 3}, r"old rows of feature 'user' must have no more rows than now, 3.*Received 5 × 4"),
        ({"name": "other"}, r"input 'user' must be as the trained model has it.*Received none"),
    ],
)
def test_other_inputs_are_refused(change: dict[str, Any], message: str):
    inputs = transform("abc").inputs
    with pytest.raises(ArtifactError, match=message):
        grow_model(tiny_model(inputs), [inputs[0].model_copy(update=change), *inputs[1:]])


def test_damaged_files_are_refused(tmp_path: Path):
    same = transform("abc")
    model = compiled(tiny_model(same.inputs), optimizer="adam")
    path, slots = saved(model, tmp_path)
    slots.write_bytes(slots.read_bytes()[:-200])
    with pytest.raises(
        ArtifactError, match=r"slots\.npz holds no optimizer of a trained model.*Export the bundle again"
    ):
        Start(path, slots, same, same).go_on(model)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match=r"model\.keras holds no trained model"):
        Start(path, slots, same, same).begin()
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(ArtifactError, match=r"must hold a MultiTaskModel\. Received Sequential"):
        load_model(path)


def test_the_key_of_a_beginning_changes_with_what_it_depends_on(tmp_path: Path):
    before, after = transform("abc"), transform("abcd")
    path, slots = saved(compiled(tiny_model(before.inputs), optimizer="adam"), tmp_path)
    starts = [
        Start(path, slots, before, after),
        Start(path, None, before, after),
        Start(path, slots, before, before),
        Start(path, slots, before, after, new_ids="initial"),
    ]
    assert len({start.digest for start in starts}) == 4
    assert Start(path, slots, before, after).digest == starts[0].digest


def test_a_model_without_embeddings_has_no_places():
    assert places_of(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])) == {}
