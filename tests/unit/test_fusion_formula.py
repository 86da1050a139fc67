from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onehull.errors import DataError, SpecError
from onehull.fusion import Formula, default_formula, parse_formula, tensorflow_ops
from onehull.fusion.tree import Binary, Call, Negate, Node, Number, TaskScore

TASKS = ["click", "watch", "like", "hate"]
EXAMPLE = "click^1.0 * (1 + watch)^0.5 + 4 * like - 20 * hate"


def _negate(node: Node) -> Node:
    return Number(-node.value) if isinstance(node, Number) else Negate(node)


def _trees(max_leaves: int = 25) -> st.SearchStrategy[Node]:
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5).map(float)
    leaves = numbers.map(Number) | st.sampled_from(TASKS).map(TaskScore)

    def grow(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        return (
            st.builds(Binary, st.sampled_from("+-*/^"), inner, inner)
            | inner.map(_negate)
            | st.builds(Call, st.sampled_from(["exp", "log", "log1p", "sqrt"]), st.tuples(inner))
            | st.builds(Call, st.sampled_from(["min", "max"]), st.lists(inner, min_size=2, max_size=3).map(tuple))
            | st.builds(Call, st.just("clip"), st.tuples(inner, inner, inner))
        )

    return st.recursive(leaves, grow, max_leaves=max_leaves)


def _formulas() -> st.SearchStrategy[Formula]:
    return _trees().map(Formula).filter(lambda formula: bool(formula.tasks))


def _scores(rows: int = 6) -> dict[str, np.ndarray]:
    probabilities = np.array([0.0, 1e-12, 0.25, 0.5, 1.0, 1.0])[:rows]
    return {
        "click": probabilities,
        "watch": np.array([0.0, 3.0, 1e5, 0.5, 1e-9, 0.0])[:rows],
        "like": probabilities[::-1].copy(),
        "hate": np.array([0.0, 0.0, 1.0, 1e-30, 0.3, 0.9])[:rows],
    }


def test_the_value_of_the_example_is_what_the_text_says() -> None:
    scores = {"click": [0.5, 0.2], "watch": [3.0, 0.0], "like": [0.1, 0.0], "hate": [0.0, 0.05]}
    value = parse_formula(EXAMPLE, TASKS)({task: np.array(v, np.float32) for task, v in scores.items()})
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, [0.5 * 2 + 0.4, 0.2 - 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 ^ 3 ^ 2 + 0 * click", 512.0),
        ("-2 ^ 2 + 0 * click", -4.0),
        ("(-2) ^ 2 + 0 * click", 4.0),
        ("2 ^ -1 + 0 * click", 0.5),
        ("8 / 4 / 2 - 3 - 2 + 0 * click", -4.0),
        ("2 + 3 * 4 + 0 * click", 14.0),
        ("max(1, 5, 3) + min(2, click) - clip(click, 1, 4)", 5 + 0.5 - 1),
        ("log(exp(2)) + log1p(0) + sqrt(9) + 0 * click", 5.0),
        (".5e1 * click", 2.5),
    ],
)
def test_precedence_and_functions(text: str, value: float) -> None:
    np.testing.assert_allclose(parse_formula(text, TASKS)({"click": np.array([0.5])}), [value])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("click / (click - click)", 0.5e30),
        ("(click - 1) ^ 0.5", 0.0),
        ("(click - click) ^ -2", 1e30),
        ("(click - click) ^ (click - click)", 1.0),
        ("log(0 * click)", np.log(1e-30)),
        ("log1p(-2 * click - 5)", np.log1p(-1 + 1e-15)),
        ("sqrt(-click)", 0.0),
        ("exp(10000 * click) - exp(10000 * click)", 0.0),
        ("(-(click - click)) ^ -1", 1e30),
    ],
)
def test_what_has_no_value_elsewhere_is_defined(text: str, value: float) -> None:
    np.testing.assert_allclose(parse_formula(text, TASKS)({"click": np.array([0.5])}), [value])


@given(_formulas())
@settings(max_examples=200, deadline=None)
def test_valid_scores_always_have_an_order(formula: Formula) -> None:
    value = formula(_scores())
    assert value.shape == (6,)
    assert np.all(np.isfinite(value))
    assert np.all(np.abs(value) <= 1e30)


@given(_formulas())
@settings(max_examples=300, deadline=None)
def test_the_canonical_text_parses_back(formula: Formula) -> None:
    assert parse_formula(formula.text, TASKS) == formula


@given(_formulas())
@settings(max_examples=200, deadline=None)
def test_weights_replaced_by_themselves_change_nothing(formula: Formula) -> None:
    assert formula.with_weights(formula.weights) == formula


@given(_formulas(), st.floats(0.001, 1000.0))
@settings(max_examples=200, deadline=None)
def test_a_replaced_weight_is_read_back_and_the_others_stay(formula: Formula, value: float) -> None:
    for name, old in formula.weights.items():
        assert formula.with_weights({name: value}).weights == {**formula.weights, name: value}, (name, old)


def test_weights_are_named_after_what_they_act_on() -> None:
    assert parse_formula(EXAMPLE, TASKS).weights == {
        "click.power": 1.0,
        "watch.power": 0.5,
        "like.times": 4.0,
        "hate.times": 20.0,
    }
    text = "-20 * hate + (click * watch)^-0.5 + 2 * like + like * 3 + 5 * (like + click) + click / 7 + 2^like"
    assert parse_formula(text, TASKS).weights == {
        "hate.times": -20.0,
        "click_watch.power": -0.5,
        "like.times": 2.0,
        "like.times_2": 3.0,
        "like_click.times": 5.0,
    }


def test_with_weights_gives_another_formula() -> None:
    formula = parse_formula(EXAMPLE, TASKS)
    changed = formula.with_weights({"hate.times": -3, "click.power": 2})
    assert changed.text == "click^2 * (1 + watch)^0.5 + 4 * like - -3 * hate"
    assert parse_formula(changed.text, TASKS) == changed
    assert formula.text == "click^1 * (1 + watch)^0.5 + 4 * like - 20 * hate"


def test_with_weights_refuses_unknown_names_and_values_without_meaning() -> None:
    formula = parse_formula(EXAMPLE, TASKS)
    with pytest.raises(SpecError, match=r"like\.time must be a weight.*Did you mean 'like\.times'"):
        formula.with_weights({"like.time": 3.0})
    for value in (float("nan"), float("inf"), True, "4", None):
        with pytest.raises(SpecError, match="must be a finite number"):
            formula.with_weights({"like.times": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("clik + like", "must name tasks at character 1.*Did you mean 'click'", 0),
        ("click + ", "must have a number, a task, a function or", 7),
        ("click like", "must go on with an operator at character 7", 6),
        ("(click", r"must go on with an operator or '\)'", 6),
        ("click)", "must go on with an operator", 5),
        ("click ** 2", "Write powers as a", 7),
        ("nan + click", "must name tasks at character 1", 0),
        ("1e999 * click", "must have finite numbers at character 1", 0),
        ("lg(click)", "must call known functions.*Did you mean 'log'", 0),
        ("log(click, like)", "must give log 1 argument, not 2", 0),
        ("max(click)", "must give max 2 to 64 arguments, not 1", 0),
        ("click + __import__", "must name tasks", 8),
        ("click; like", "must go on with an operator", 5),
        ("click + 'a'", "must have a number", 8),
    ],
)
def test_an_error_says_what_and_where(text: str, message: str, caret: int) -> None:
    with pytest.raises(SpecError) as caught:
        parse_formula(text, TASKS)
    assert [fault.place for fault in caught.value.faults] == ["fusion.formula"]
    text_line, caret_line = str(caught.value).splitlines()[-2:]
    assert text_line.strip() == text.strip()
    assert caret_line.index("^") - text_line.index(text[0]) == caret
    assert caught.match(f"(?s){message}")


def test_all_unknown_names_are_reported_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_formula("clik + lg(lke) + 2 *", TASKS)
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must not be empty"),
        (" \n ", "must not be empty"),
        ("3 + 4", "must use at least one task"),
        ("click + " * 2000 + "click", "must have at most 8000 characters"),
        ("(" * 500 + "click" + ")" * 500, "at most 100 deep"),
        ("-" * 500 + "click", "at most 100 deep"),
        ("^".join(["click"] * 500), "at most 100 deep"),
        ("+".join(["click"] * 500), "at most 100 deep"),
    ],
)
def test_what_is_empty_or_too_large_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_formula(text, TASKS)


def test_long_formulas_show_the_place_of_the_error_only() -> None:
    with pytest.raises(SpecError) as caught:
        parse_formula(" + ".join(["click"] * 50) + " + lke + " + " + ".join(["click"] * 40), TASKS)
    line, caret = str(caught.value).splitlines()[-2:]
    assert len(line) < 100
    assert line[caret.index("^") :].startswith("lke")


@given(st.text(max_size=40) | st.text(alphabet="click+-*/^()., 0123456789e", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_formula_or_a_spec_error(text: str) -> None:
    try:
        formula = parse_formula(text, TASKS)
    except SpecError:
        return
    assert parse_formula(formula.text, TASKS) == formula


def test_a_task_may_have_the_name_of_a_function() -> None:
    assert parse_formula("log(log) + min", ["log", "min"]).tasks == ("log", "min")


def test_a_multiclass_task_has_no_single_score() -> None:
    kinds = {"click": "binary", "rating": "multiclass"}
    with pytest.raises(SpecError, match="must not name a multi-class task"):
        parse_formula("click + rating", kinds)


def test_the_default_is_the_sum_of_the_binary_tasks() -> None:
    kinds = {"click": "binary", "watch": "regression", "rating": "multiclass", "like": "binary"}
    assert default_formula(kinds).text == "click + like"
    assert default_formula({"watch": "regression"}).text == "watch"
    with pytest.raises(SpecError, match="needs a binary or a regression task"):
        default_formula({"rating": "multiclass"})
    names = {f"task_{i:02d}_{'x' * 55}": "binary" for i in range(100)}
    assert default_formula(names).tasks == tuple(names)


def test_scores_of_every_task_are_needed() -> None:
    with pytest.raises(DataError, match="Missing: \\['watch'"):
        parse_formula(EXAMPLE, TASKS)({"click": np.ones(2), "hate": np.ones(2), "like": np.ones(2)})


def test_numpy_and_a_tensorflow_graph_agree(caplog: pytest.LogCaptureFixture) -> None:
    import tensorflow as tf

    texts = [
        EXAMPLE,
        "log(click) + log1p(watch) / hate - exp(like * 800)",
        "clip(sqrt(watch), 1, 5) ^ (click - 0.5) + max(click, like, 0.3) * min(hate, 0.2)",
        "(click - like) ^ 3 + (click - like) ^ 0.5 + -watch ^ -1",
        "(hate - 0.1) / (click - click)",
    ]
    scores = {task: values.astype(np.float32) for task, values in _scores().items()}

    formulas = [parse_formula(text, TASKS) for text in texts]

    def compute(inputs: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        return [formula(inputs, xp=tensorflow_ops()) for formula in formulas]

    graph = tf.function(compute)({task: tf.constant(values) for task, values in scores.items()})
    assert "AutoGraph" not in caplog.text
    for text, formula, value in zip(texts, formulas, graph, strict=True):
        expected = formula(scores)
        assert value.dtype == tf.float64
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12, atol=1e-12, err_msg=text)
        np.testing.assert_array_equal(np.argsort(value.numpy(), kind="stable"), np.argsort(expected, kind="stable"))


def test_reading_a_formula_loads_no_framework() -> None:
    code = "import sys, onehull.fusion; assert not {'tensorflow', 'keras', 'polars', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
