"""The exception tree is the one that is drawn, and errors say place, rule, value and remedy."""

import ast
import inspect
from pathlib import Path

from onehull import errors
from onehull.errors import Fault, SpecError, suggest

PACKAGE = Path(inspect.getfile(errors)).parent


def test_the_drawing_names_every_class():
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    assert drawn == classes


def test_a_fault_says_place_rule_value_and_remedy():
    remedy = suggest("lke", ["is_like", "like"])
    text = str(Fault("tasks.like.label", "must name a column of the log", "lke", remedy))
    assert text == (
        "tasks.like.label must name a column of the log. Received 'lke'. Known: 'is_like', 'like'. Did you mean 'like'?"
    )


def test_many_known_names_are_counted_and_long_values_cut():
    assert "and 88 more" in suggest("x", [f"name{i}" for i in range(100)])
    assert len(str(Fault("a", "is long", "x" * 10_000))) < 300


def test_a_spec_error_holds_all_faults():
    error = SpecError([Fault("a", "is wrong"), Fault("b", "is wrong")], "s.yaml")
    assert str(error).splitlines()[0] == "s.yaml: 2 faults"
    assert len(str(error).splitlines()) == 3


def test_no_error_of_the_package_is_raised_without_a_value():
    ours = {"DataError", "ArtifactError", "ExportError", "RequestError", "MissingPartError"}
    silent = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id in ours
        and node.exc.args
        and isinstance(node.exc.args[-1], ast.Constant)
    ]
    assert not silent, f"say which value broke the rule: {silent}"
