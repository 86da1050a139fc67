"""Opening Feast on a repository: where its parts are, and the secrets that stand in no file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client  # noqa: F401  see import_feast
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from onehull.errors import ArtifactError, MissingPartError
from onehull.files.file import write_whole
from onehull.spec import Spec
from onehull.spec.store import Store

if TYPE_CHECKING:
    from feast import FeatureStore

SETTINGS = "feature_store.yaml"
"""Feast's name for its settings."""
ITEMS = "items.parquet"
"""Every item as the ranker's catalogue holds it, written by `materialize`."""
SQLITE = "online.db"

_CONNECT_SECONDS = 1.0
_SHARED_METRICS = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")


def offline_file(entity: str) -> str:
    """All rows of a view, relative to the repository."""
    return f"offline/{entity}.parquet"


def pushed_file(entity: str) -> str:
    """The rows of a view that the online store was given last, relative to the repository."""
    return f"online/{entity}.parquet"


def import_feast() -> None:
    """Makes sure that Feast is there, and that metrics of this process stay as they are.

    Feast sets variables, when it is imported, that turn a Prometheus client to values in files, which everything in the
    process shares. They are taken back, and this module has imported the client before, which settles where it keeps
    its values.

    Raises:
        MissingPartError: it is not installed, or lacks the client of Redis.
    """
    before = {name: os.environ.get(name) for name in _SHARED_METRICS}
    try:
        import feast  # noqa: F401
        import redis  # noqa: F401
    except ImportError as error:
        raise MissingPartError(f'The feature store needs Feast ({error}): pip install "onehull[feast]"') from error
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def write_settings(spec: Spec, directory: Path) -> None:
    """Writes Feast's settings, without secrets; paths are relative, so that a repository can be moved.

    Raises:
        ArtifactError: the directory cannot be written.
    """
    document = {
        "project": spec.name,
        "provider": "local",
        # The registry is read once: one that expires would be read anew while a request waits.
        "registry": {"path": "registry.db", "cache_ttl_seconds": 0},
        "offline_store": {"type": "dask"},
        "online_store": _online_settings(spec.store),
        "entity_key_serialization_version": 3,
    }
    write_whole(directory / SETTINGS, json.dumps(document, indent=2) + "\n")  # JSON is YAML


def connect(directory: Path) -> FeatureStore:
    """Opens Feast on a repository; a Redis is connected to at the first use.

    Raises:
        MissingPartError: Feast is not installed.
        ArtifactError: there is no repository.
    """
    settings = read_settings(directory)
    import_feast()
    from feast import FeatureStore, RepoConfig

    online = settings["online_store"]
    if online["type"] == "redis":
        online["connection_string"] += _secrets()
    # Both arguments: Feast looks for the registry under the first, and for everything else under the second.
    return FeatureStore(repo_path=str(directory), config=RepoConfig(**settings, repo_path=directory))


def read_settings(directory: Path) -> dict[str, Any]:
    """Feast's settings of a repository.

    Raises:
        ArtifactError: there is no repository, or its settings cannot be read.
    """
    path = directory / SETTINGS
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return {**document, "online_store": dict(document["online_store"])}
    except FileNotFoundError as error:
        command = "onehull features apply SPEC --out DIR"
        raise ArtifactError(f"{directory} holds no feature store. Make one with: {command}") from error
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def online_address(directory: Path) -> str:
    """Where the online values of a repository are, as people write it; never with a secret.

    Raises:
        ArtifactError: see `read_settings`.
    """
    online = read_settings(directory)["online_store"]
    if online["type"] == "redis":
        return f"Redis at {online['connection_string'].split(',')[0]}"
    return f"SQLite in {directory / SQLITE}"


@contextmanager
def answering(directory: Path) -> Iterator[None]:
    """Turns what the client of an online store raises into an error of ours; neither holds a secret.

    Raises:
        ArtifactError: the online store does not answer, refuses, or has no room.
    """
    import sqlite3

    import redis

    try:
        yield
    except redis.RedisError as error:
        remedy = "Start it, or change the section store of the spec and apply it again."
        raise ArtifactError(f"{online_address(directory)} does not answer: {error}. {remedy}") from error
    except sqlite3.Error as error:
        remedy = "Free some space, or apply the spec again where the file is gone."
        raise ArtifactError(f"{online_address(directory)} cannot be used: {error}. {remedy}") from error


def _online_settings(store: Store) -> dict[str, Any]:
    if store.online == "sqlite":
        return {"type": "sqlite", "path": SQLITE}
    options = [store.redis, f"db={store.database}", *(["ssl=true"] if store.tls else [])]
    # Without retries: the client's own take seconds, and here whoever fails says so, and tries again.
    timeouts = [f"socket_timeout={_CONNECT_SECONDS}", f"socket_connect_timeout={_CONNECT_SECONDS}", "retry=null"]
    return {
        "type": "redis",
        "connection_string": ",".join([*options, *timeouts]),
        # Without it Feast keeps what is stored where a correction of the same moment comes, which only `created` tells
        # from it. What is written here is the latest value already, and one process at a time writes it.
        "skip_dedup": True,
    }


def _secrets() -> str:
    """Options of the connection from the environment; a comma, at which Feast would split, is escaped."""
    found = {name: os.environ.get(f"ONEHULL_REDIS_{name.upper()}") for name in ("username", "password")}
    quoted = {name: json.dumps(value).replace(",", "\\u002c") for name, value in found.items() if value}
    return "".join(f",{name}={value}" for name, value in quoted.items())
