"""Two replicas are one on the same global batch, with every balancer at every level that it works at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onehull.balance import BALANCERS, WRAPPERS, get_balancer

ROOT = Path(__file__).parents[2]
LEVELS = ("representation", "parameters", "sampled")
WITH_GROUPS = {"kind": "by_group", "inner": "pcgrad", "patterns": ["kernel"]}
WRAPPED = [{"kind": kind, "inner": "pcgrad"} for kind in sorted(set(WRAPPERS) - {"by_group"})]
UNEVEN = {"last": 5}  # the second replica has two rows of the last batch, the first one three


def cases_of(balancers, levels=LEVELS):
    """Each balancer at each level; one that looks at losses only, or weighs groups apart, knows one."""
    cases = {}
    for config in balancers:
        method = get_balancer(config)
        assert method is not None
        name = config if isinstance(config, str) else f"{config['kind']} of {config['inner']}"
        grouped = method.grouping(["kernel", "bias"]) is not None
        chosen = (None,) if method.needs == "losses" else (("parameters",) if grouped else levels)
        for level in chosen:
            options = {"balancer": config, **({"level": level, "sample": 0.5} if level else {})}
            cases[f"{name} at {level}"] = {"compile": options, "data": UNEVEN}
    return cases


def run(cases):
    command = [sys.executable, "-m", "tests.contract.two_replicas", json.dumps(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def assert_equal(found, *, finite=True):
    apart = {name: (case["difference"], case["where"]) for name, case in found.items() if case["difference"] > 1e-5}
    assert not apart
    for name, case in found.items():
        assert case["same_names"], name
        assert case["traces"] == 1, name
        assert case["moved"] > 0.01, name
        assert case["finite"] == finite, name


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_two_replicas_are_one_with_every_balancer_and_wrapper(level):
    first = level == LEVELS[0]
    cases = cases_of([*sorted(BALANCERS), *WRAPPED, WITH_GROUPS], (level,))
    # What knows one level only is looked at once.
    cases = {name: case for name, case in cases.items() if first or case["compile"].get("level") == level}
    assert_equal(run(cases))
