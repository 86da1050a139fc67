"""Where gradients are compared: each level's Gram matrix and update against plain automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import Balancer, PCGrad
from onehull.model import MultiTaskModel

ROWS = 24
WEIGHTS = (0.5, 2.0, 1.25)


@dataclass(frozen=True)
class Watched(Balancer):
    """Weighs tasks by given numbers and keeps what it was shown; for eager steps only."""

    weights: tuple = WEIGHTS
    policy: str = "own"
    patterns: tuple | None = None
    needs: str = "gram"  # type: ignore[assignment]
    seen: list = field(default_factory=list, compare=False)

    @property
    def heads(self):
        return self.policy

    def grouping(self, variables):
        if self.patterns is None:
            return None
        return tuple(
            next((i for i, p in enumerate(self.patterns) if p in path), len(self.patterns)) for path in variables
        )

    def init(self, num_tasks):
        del num_tasks
        return {}

    def update(self, stats, state):
        self.seen.append(stats)
        return tf.constant(self.weights, tf.float32), dict(state)


def build(seed=3, dropout=0.0, batch_norm=False):
    keras.utils.set_random_seed(seed)
    inputs = {"user": keras.Input((), dtype="int32", name="user"), "age": keras.Input((2,), name="age")}
    hidden = keras.layers.Embedding(6, 3, name="table")(inputs["user"])
    hidden = keras.layers.Concatenate(name="joined")([hidden, inputs["age"]])
    hidden = keras.layers.Dense(5, "tanh", kernel_regularizer="l2", name="bottom")(hidden)
    if batch_norm:
        hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    if dropout:
        hidden = keras.layers.Dropout(dropout, seed=1, name="drop")(hidden)
    outputs = {}
    for task in ("a", "b", "c"):
        tower = keras.layers.Dense(4, "tanh", name=f"tower_{task}")(hidden)
        outputs[task] = keras.layers.Dense(1, "sigmoid", name=task)(tower)
    return MultiTaskModel(inputs=inputs, outputs=outputs)


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = {"user": rng.integers(0, 6, ROWS).astype("int32"), "age": rng.normal(size=(ROWS, 2)).astype("float32")}
    return x, {task: rng.integers(0, 2, ROWS).astype("float32") for task in ("a", "b", "c")}


def compiled(balancer, level, **options):
    model = build(**{key: options.pop(key) for key in ("dropout", "batch_norm") if key in options})
    # A step of plain gradient descent with rate 1 moves each variable by minus its gradient.
    model.compile(
        keras.optimizers.SGD(1.0), "binary_crossentropy", balancer=balancer, level=level, run_eagerly=True, **options
    )
    return model


def moved(model, x, y):
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    model.train_on_batch(x, y)
    return {v.path: before[v.path] - v.numpy() for v in model.trainable_variables}


def reference(x, y, rows=ROWS):
    """Gradient of each task's mean loss on the first rows, and of the penalty, at every variable."""
    model = build()
    x, y = ({key: value[:rows] for key, value in part.items()} for part in (x, y))
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(x, training=True)
        losses = [tf.reduce_mean(keras.losses.binary_crossentropy(y[t][:, None], outputs[t])) for t in ("a", "b", "c")]
        penalty = tf.add_n(model.losses)
    variables = [variable.value for variable in model.trainable_variables]
    paths = [variable.path for variable in model.trainable_variables]

    def dense(target):
        found = tape.gradient(target, variables, unconnected_gradients="zero")
        return {path: tf.convert_to_tensor(g).numpy() for path, g in zip(paths, found, strict=True)}

    return [dense(loss) for loss in losses], dense(penalty)


def shared(path):
    return "table" in path or "bottom" in path


def gram_of(gradients, chosen):
    flat = [np.concatenate([g.ravel() for path, g in task.items() if chosen(path)]) for task in gradients]
    return np.stack(flat) @ np.stack(flat).T


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("policy", ["own", "weighted"])
@pytest.mark.parametrize(
    ("level", "sample"), [("representation", 0.125), ("parameters", 0.125), ("sampled", 0.25), ("sampled", 1.0)]
)
def test_every_level_gives_the_weighted_update(level, sample, policy, tables):
    x, y = data()
    by_task, penalty = reference(x, y)
    found = moved(compiled(Watched(policy=policy), level, sample=sample, tables=tables), x, y)
    for path, step in found.items():
        weights = WEIGHTS if shared(path) or policy == "weighted" else (1, 1, 1)
        expected = sum(w * task[path] for w, task in zip(weights, by_task, strict=True)) + penalty[path]
        np.testing.assert_allclose(step, expected, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
    ("level", "sample", "rows"), [("parameters", 0.1, ROWS), ("sampled", 0.25, 6), ("sampled", 1.0, ROWS)]
)
@pytest.mark.parametrize("tables", [False, True])
def test_the_gram_matrix_is_that_of_the_shared_parameters(level, sample, rows, tables):
    x, y = data()
    balancer = Watched()
    moved(compiled(balancer, level, sample=sample, tables=tables), x, y)
    # Users repeat within the batch, so that rows of the table have several gradients that belong together.
    expected = gram_of(reference(x, y, rows)[0], lambda path: "bottom" in path or (tables and "table" in path))
    np.testing.assert_allclose(balancer.seen[0].gram_TT, expected, rtol=1e-4, atol=1e-8)


def test_where_only_tables_are_shared_they_are_compared():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((), dtype="int32")
    rows = keras.layers.Embedding(6, 3, name="table")(inputs)
    outputs = {task: keras.layers.Dense(1, "sigmoid", name=task)(rows) for task in ("a", "b", "c")}
    model, balancer = MultiTaskModel(inputs=inputs, outputs=outputs), Watched()
    model.compile("sgd", "binary_crossentropy", balancer=balancer, level="parameters", run_eagerly=True)
    x, y = data()
    model.train_on_batch(x["user"], y)
    assert np.diag(balancer.seen[0].gram_TT).min() > 0


def test_at_the_representation_conflicts_of_rows_do_not_cancel():
    x, y = data()
    balancer = Watched()
    model = compiled(balancer, "representation")
    moved(model, x, y)
    fresh = build()
    trunk = keras.Model(fresh.input, fresh.get_layer("bottom").output)
    hidden = trunk(x)
    rows = []
    for task in ("a", "b", "c"):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            scores = fresh.get_layer(task)(fresh.get_layer(f"tower_{task}")(hidden))
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(y[task][:, None], scores))
        rows.append(tf.reshape(tape.gradient(loss, hidden), [-1]).numpy())
    np.testing.assert_allclose(balancer.seen[0].gram_TT, np.stack(rows) @ np.stack(rows).T, rtol=1e-4, atol=1e-9)


def test_groups_of_variables_are_weighed_apart():
    x, y = data()
    balancer = Watched(weights=((1.0, 2.0, 3.0), (0.5, 0.5, 0.5)), patterns=("table",))
    found = moved(compiled(balancer, None, tables=True), x, y)
    by_task, penalty = reference(x, y)
    np.testing.assert_allclose(
        balancer.seen[0].gram_GTT,
        [gram_of(by_task, lambda path: "table" in path), gram_of(by_task, lambda path: "bottom" in path)],
        rtol=1e-4, atol=1e-8,
    )  # fmt: skip
    for path, step in found.items():
        weights = (1, 2, 3) if "table" in path else (0.5, 0.5, 0.5) if "bottom" in path else (1, 1, 1)
        expected = sum(w * task[path] for w, task in zip(weights, by_task, strict=True)) + penalty[path]
        np.testing.assert_allclose(step, expected, atol=1e-6, err_msg=path)


def test_tables_that_are_not_compared_receive_the_mean_weight_of_the_groups():
    x, y = data()
    balancer = Watched(weights=((1.0, 2.0, 3.0), (0.5, 0.0, 1.0)), patterns=("kernel",))
    found = moved(compiled(balancer, None), x, y)
    by_task, penalty = reference(x, y)
    path = next(path for path in found if "table" in path)
    expected = sum(w * task[path] for w, task in zip((0.75, 1, 2), by_task, strict=True)) + penalty[path]
    np.testing.assert_allclose(found[path], expected, atol=1e-6)


def test_a_method_by_groups_is_refused_at_other_levels():
    with pytest.raises(ValueError, match="level must be 'parameters' for Watched"):
        compiled(Watched(patterns=("table",)), "sampled")


@keras.saving.register_keras_serializable(package="tests")
class Above(keras.layers.Layer):
    """A penalty behind the heads that reaches down to the shared layers."""

    def call(self, inputs):
        self.add_loss(keras.ops.mean(keras.ops.relu(inputs[1] - inputs[0])))
        return inputs[1]


@pytest.mark.parametrize("level", ["representation", "sampled", "parameters"])
def test_a_penalty_behind_the_heads_reaches_the_shared_layers(level):
    x, y = data()

    def build_with_penalty():
        model = build()
        return MultiTaskModel(
            inputs=model.input,
            outputs={**model.output, "b": Above(name="above")([model.output["a"], model.output["b"]])},
        )

    steps = []
    for balancer in (None, Watched(weights=(1.0, 1.0, 1.0))):
        model = build_with_penalty()
        chosen = level if balancer is not None else None
        model.compile(
            keras.optimizers.SGD(1.0), "binary_crossentropy", balancer=balancer, level=chosen, run_eagerly=True
        )
        steps.append(moved(model, x, y))
    for path, step in steps[0].items():
        np.testing.assert_allclose(steps[1][path], step, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "trunk"}, "level must be one of"),
        ({"sample": 0.0}, "sample must be a part"),
        ({"sample": 1.5}, "sample"),
    ],
)
def test_unknown_levels_and_parts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compiled(Watched(), options.pop("level", "sampled"), **options)


@pytest.mark.parametrize("level", ["sampled", "parameters"])
def test_a_task_without_labels_has_no_part_in_the_gram_matrix(level):
    x, y = data()
    y["b"][:] = np.nan
    balancer = Watched()
    model = compiled(balancer, level, sample=0.5)
    found = moved(model, x, y)
    stats = balancer.seen[0]
    assert stats.active_T.numpy().tolist() == [True, False, True]
    assert not stats.gram_TT.numpy()[1].any()
    assert not stats.gram_TT.numpy()[:, 1].any()
    assert not any(step.any() for path, step in found.items() if "tower_b" in path)


def test_a_task_whose_labels_are_outside_the_sample_is_left_out_of_the_solution_and_still_learns():
    x, y = data()
    y["b"][: ROWS // 2] = np.nan
    balancer = Watched(weights=(1.0, 1.0, 1.0))
    found = moved(compiled(balancer, "sampled", sample=0.5), x, y)
    assert balancer.seen[0].active_T.numpy().tolist() == [True, False, True]
    assert any(step.any() for path, step in found.items() if "tower_b" in path)


def test_the_sample_leaves_no_trace_in_metrics_and_moving_statistics():
    x, y = data()
    sampled, whole = (
        compiled(Watched((1.0, 1.0, 1.0)), level, batch_norm=True) for level in ("sampled", "representation")
    )
    logs = [model.train_on_batch(x, y, return_dict=True) for model in (sampled, whole)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    for first, second in zip(sampled.non_trainable_variables, whole.non_trainable_variables, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


@pytest.mark.parametrize("level", ["representation", "sampled", "parameters"])
def test_a_level_is_compiled_once_and_equals_the_eager_step(level):
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)  # the last batch is smaller
    models = []
    for eager in (True, False):
        model = build(dropout=0.2)
        model.compile(
            keras.optimizers.Adam(0.01), "binary_crossentropy", balancer=PCGrad(seed=2), level=level, run_eagerly=eager
        )
        original = model.train_step
        traces: list = []
        model.train_step = lambda batch, traces=traces, original=original: (traces.append(1), original(batch))[1]
        model.fit(batches, epochs=2, shuffle=False, verbose=0)
        models.append(model)
    assert len(traces) == 1
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("level", ["sampled", "parameters"])
def test_levels_work_under_xla_mixed_precision_clipping_and_accumulation(level):
    x, y = data()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    optimizer = keras.optimizers.Adam(0.01, global_clipnorm=0.5, gradient_accumulation_steps=2)
    model.compile(optimizer, "binary_crossentropy", balancer="pcgrad", level=level, jit_compile=True)
    losses = model.fit(x, y, batch_size=8, epochs=8, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_accumulated_steps_are_one_step_on_the_mean_gradient():
    x, y = data()
    once, twice = compiled(Watched(), "parameters"), compiled(Watched(), "parameters")
    twice.compile(
        keras.optimizers.SGD(1.0, gradient_accumulation_steps=2), "binary_crossentropy", balancer=Watched(),
        level="parameters", run_eagerly=True,
    )  # fmt: skip
    once.train_on_batch(x, y)
    for _ in range(2):
        twice.train_on_batch(x, y)
    for first, second in zip(once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
