"""Two replicas are one on the same global batch, whatever else a training is asked for."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from onehull.model import build_model
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask
from onehull.train.steps import Steps
from tests.contract.test_replicas import assert_equal, run

FEWER_ROWS_THAN_REPLICAS = {"last": 1}


@pytest.mark.slow
def test_two_replicas_are_one_with_every_option_of_a_training():
    found = run(
        {
            "penalties and clipping": {
                # Devices of one process each take the mean of their own rows for this penalty: in equal batches.
                "model": {"l2": 1e-2, "embedding_l2": 1e-2},
                "compile": {"clip_norm": 0.05, "balancer": "uw"},
            },
            "penalties": {"model": {"l2": 1e-2}, "data": FEWER_ROWS_THAN_REPLICAS},
            "normalisation": {"model": {"batch_norm": True}, "data": {"last": 7}},
            "tables compared": {
                "compile": {"balancer": "cagrad", "level": "parameters", "tables": True, "clip_norm": 0.5},
                "data": FEWER_ROWS_THAN_REPLICAS,
            },
            "a batch left out": {
                "model": {"batch_norm": True},
                "compile": {"balancer": "pcgrad", "non_finite": "skip"},
                "data": {"bad": True, **FEWER_ROWS_THAN_REPLICAS},
            },
            "every label counts the same": {"compile": {"normalizer": "labelled"}, "data": {"last": 3}},
            "a batch that stops both": {"data": {"bad": True, "last": 1}},
            "refused": {"model": {"batch_norm": True, "embedding_l2": 0.1}, "refused": True},
        }
    )
    assert len(found) == 8
    refused = found.pop("refused")
    assert "Leave out embedding_l2 or batch_norm" in refused["error"]
    assert_equal({"stopped": found.pop("a batch that stops both")}, finite=False)
    assert_equal(found)


def test_penalties_of_a_batch_beside_synchronised_normalisation_are_taken_on_one_device():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    inputs = [ModelInput(name="user", kind="id", rows=9, dim=2)]
    with strategy.scope():
        section = SharedBottom(bottom=(4,), tower=(), batch_norm=True, embedding_l2=0.1)
        model = build_model(section, {"click": BinaryTask(kind="binary")}, inputs)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    Steps(model)  # with more devices it is refused, as above
