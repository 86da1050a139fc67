"""World → Kafka → ingest → assembly → training → export → serving → Kafka, with every process killed at least once."""

from pathlib import Path

import pytest
from benchmarks.soak import soak

from tests.kafka_broker import require_kafka


@pytest.mark.slow
def test_the_books_balance_when_every_process_was_killed(tmp_path: Path):
    require_kafka()
    result = soak(tmp_path, minutes=1.5, seed=0)
    assert result["faults"] == []
    assert result["ended_by_themselves"] == {}
    assert result["runs_killed"] >= 1
    assert result["samples"] > 5_000
