"""The balancing section: what is refused, and what is said."""

import pytest

from onehull.spec import validate


def messages(balance):
    tasks = {"click": {"kind": "binary", "label": "c"}, "like": {"kind": "binary", "label": "l"}}
    document = {
        "name": "small",
        "data": {"samples": "a.csv", "split": {"by": "random", "validation": 0.1, "test": 0.1, "group": "row"}},
        "features": {"age": {"kind": "numeric"}},
        "tasks": tasks,
        "balance": balance,
    }
    return [str(fault) for fault in validate(document)[1]]


@pytest.mark.parametrize(
    ("balance", "place", "end"),
    [
        ({"kind": "static", "weights": {"lik": 1}}, "balance.weights.lik must name a task", "Did you mean 'like'?"),
        ({"kind": "static", "weights": {"like": 0, "click": 0}}, "balance.weights must leave at least one", ""),
        ({"kind": "mgda", "lower_bounds": {"lik": 0.1}}, "balance.lower_bounds.lik must name a task", "mean 'like'?"),
        ({"kind": "mgda", "lower_bounds": {"like": 0.5, "click": 0.5}}, "balance.lower_bounds must sum to less", ""),
        ({"kind": "gradnorm", "initial_losses": {"like": 1}}, "balance.initial_losses must name every", "measured."),
        ({"kind": "gradnorm", "initial_losses": {"like": 1, "clik": 1, "click": 1}}, "balance.initial_losses.clik", ""),
        ({"kind": "metabalance", "target": "lik"}, "balance.target must name a task", "Did you mean 'like'?"),
        ({"kind": "metabalance", "groups": ["x"]}, "balance.groups does not go with", "apart already."),
        ({"kind": "pcgrad", "groups": ["x"]}, "balance.groups needs the gradients of the parameters", ""),
        ({"kind": "pcgrad", "level": "parameters", "groups": ["x", "("]}, "balance.groups.1 must be a regular", ""),
        ({"kind": "uw", "start": 4}, "balance.start must be between -cap and cap, which is 3", ""),
    ],
)
def test_a_rule_of_the_section_is_broken(balance, place, end):
    found = messages(balance)
    assert len(found) == 1
    assert found[0].startswith(place)
    assert found[0].endswith(end)


@pytest.mark.parametrize(
    "balance",
    [
        {"kind": "mgda", "lower_bounds": {"like": 0.5}},
        {"kind": "gradnorm", "initial_losses": {"like": 1, "click": 0.7}},
        {"kind": "metabalance", "target": "like"},
        {"kind": "pcgrad", "level": "parameters", "groups": ["bottom", "embed.*"]},
        {"kind": "uw", "start": -3},
    ],
)
def test_what_keeps_the_rules_is_taken(balance):
    assert not messages(balance)
