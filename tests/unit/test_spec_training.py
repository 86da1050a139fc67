"""The training section: what is refused, and what is said."""

import pytest

from onehull.spec import validate


def messages(training):
    document = {
        "name": "small",
        "data": {"samples": "a.csv", "split": {"by": "random", "validation": 0.1, "test": 0.1, "group": "row"}},
        "features": {"age": {"kind": "numeric"}},
        "tasks": {"click": {"kind": "binary", "label": "c"}},
        "training": training,
    }
    return [str(fault) for fault in validate(document)[1]]


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"embedding_optimizer": "adam"}, "training.embedding_optimizer must be 'rowwise_adagrad'"),
        ({"embedding_optimizer": "same", "embedding_learning_rate": 0.1}, "rate is learning_rate; remove it"),
        ({"embedding_optimizer": "same", "average": 0.9}, "choose another embedding_optimizer"),
        ({"average": 1.0}, "training.average must be less than 1"),
        ({"schedule": {"kind": "cosine"}}, "training.schedule needs decay_steps for the kind 'cosine'"),
        ({"schedule": {"decay_steps": 10}}, "training.schedule.decay_steps does not go with the kind 'constant'"),
        ({"schedule": {"kind": "cosin", "decay_steps": 10}}, "training.schedule.kind must be 'constant', 'cosine'"),
        ({"schedule": {"kind": "exponential", "decay_steps": 10, "end": 0}}, "training.schedule.end must be above 0"),
        ({"jit_compile": "perhaps"}, "training.jit_compile must be"),
        ({"precision": "float16"}, "training.precision must be 'auto', 'float32' or 'bfloat16'"),
        ({"checkpoint_minutes": 0}, "training.checkpoint_minutes must be greater than 0"),
        ({"non_finite": "ignore"}, "training.non_finite must be 'stop', 'skip' or 'step_back'"),
    ],
)
def test_a_rule_of_the_section_is_broken(training, message):
    found = messages(training)
    assert any(message in fault for fault in found), found


@pytest.mark.parametrize(
    "training",
    [
        {"embedding_optimizer": "same"},
        {"embedding_optimizer": "sgd", "embedding_learning_rate": 50, "average": 0.999},
        {"schedule": {"kind": "inverse_sqrt", "warmup_steps": 100, "decay_steps": 10, "end": 0}},
        {"schedule": {"warmup_steps": 100}},
        {"jit_compile": "auto", "precision": "auto"},
        {"jit_compile": True, "precision": "bfloat16", "checkpoint_minutes": None, "non_finite": "step_back"},
    ],
)
def test_what_keeps_the_rules_is_taken(training):
    assert not messages(training)
