"""Finding and opening the files that a spec names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import polars as pl

from onehull.errors import DataError

TABLE_SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz", ".tsv", ".jsonl", ".ndjson")
_SAMPLED_ROWS = 10_000
_TRIES = 10


def find_files(data_dir: Path, pattern: str) -> list[Path]:
    """Files that match a glob (or one path) relative to the data directory, sorted; hidden ones are left out."""
    path = Path(pattern)
    if path.is_absolute():
        found = [path] if path.is_file() else _glob(path.parent, path.name)
    else:
        found = _glob(data_dir, pattern)
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def _glob(directory: Path, pattern: str) -> list[Path]:
    """As `Path.glob`, which fails where another process removes a directory that it is about to look into."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            return list(directory.glob(pattern))
    return list(directory.glob(pattern))


def scan_table(files: list[Path]) -> pl.LazyFrame:
    """A table over some files of one format, read when it is needed.

    Args:
        files: Parquet, CSV (``.tsv``: tabs) or JSON Lines.

    Raises:
        DataError: a file has another format, or cannot be read.
    """
    name = files[0].name.lower()
    try:
        if name.endswith((".parquet", ".pq")):
            frame = pl.scan_parquet(files)
        elif name.endswith((".csv", ".csv.gz", ".tsv")):
            separator = "\t" if name.endswith(".tsv") else ","
            frame = pl.scan_csv(files, separator=separator, infer_schema_length=_SAMPLED_ROWS)
        elif name.endswith((".jsonl", ".ndjson")):
            frame = pl.scan_ndjson(files, infer_schema_length=None)
        else:
            raise DataError(f"{files[0]} must end in one of {', '.join(TABLE_SUFFIXES)}")
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{files[0]} cannot be read: {str(error).splitlines()[0]}") from error
    return frame
