"""A vocabulary in this package's order, as an analyzer of TensorFlow Transform.

`tft.vocabulary` puts equally frequent ids in the order from the last text to the first and cuts the list there; a place
in the list is a row of an embedding, so that the order is part of the result. What it computes besides is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer


def ordered_ids(text_N: Any, file: str, min_count: int, max_size: int | None) -> Any:
    """The path of a file of the frequent ids: an empty one, which is missing, then the most frequent first.

    Args:
        text_N: ids that are there, ``(N,)``.
        file: a name for the file.
        min_count: rarer ids are left out.
        max_size: so many are kept.

    Returns:
        A deferred path, for `tft.apply_vocabulary` with ``file_format="tfrecord_gzip"``.
    """
    (path,) = tft.experimental.ptransform_analyzer(
        inputs=[text_N],
        ptransform=_OrderedIds(file, min_count, max_size),
        output_dtypes=[tf.string],
        output_shapes=[[]],
        output_asset_default_values=[_empty_file()],
        name=file,
    )
    return path


class _OrderedIds(PTransformAnalyzer):
    """Batches of texts → the path of the file that it has written."""

    def __init__(self, file: str, min_count: int, max_size: int | None) -> None:
        super().__init__()
        self._file, self._min_count, self._max_size = file, min_count, max_size

    def expand(self, batches: Any) -> Any:
        path = f"{self.base_temp_dir}/{self._file}.tfrecord.gz"
        counts = (
            batches
            | "Texts" >> beam.FlatMap(lambda batch: batch[0].tolist())
            | "Count" >> beam.combiners.Count.PerElement()
            | "Frequent" >> beam.Filter(lambda counted, least: counted[1] >= least, self._min_count)
        )
        return (
            batches.pipeline
            | "Once" >> beam.Create([path])
            | "Write" >> beam.Map(_write, beam.pvalue.AsIter(counts), self._max_size)
        )


def _empty_file() -> bytes:
    """What stands for the file until analysis has been done: TensorFlow reads it while it traces the function."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "ids"
        _write(str(path), (), None)
        return path.read_bytes()


def _write(path: str, counts: Iterable[tuple[bytes, int]], most: int | None) -> np.ndarray:
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    ordered = sorted(counts, key=lambda counted: (-counted[1], counted[0]))
    with tf.io.TFRecordWriter(path, "GZIP") as file:
        for text in (b"", *(text for text, _ in ordered[:most])):
            file.write(text)
    return np.array(path)
