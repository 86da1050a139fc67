"""The feature store of a project: ``feature_store/``, filled from the spec's tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from onehull.pipeline.project import Project
from onehull.pipeline.verbs import AnySpec, Where, open_project

if TYPE_CHECKING:
    from onehull.store import Materialized, ViewStatus

DIRECTORY = "feature_store"


def store_directory(project: Project) -> Path:
    """The feature repository of a project."""
    return project.out / DIRECTORY


def apply_features(spec: AnySpec, **where: Unpack[Where]) -> Path:
    """Writes the entities and views that a spec implies, and all their rows; returns the repository.

    Raises:
        SpecError: the data lack what the spec names, or no feature reads an attribute table.
        DataError: a table is not as the spec says.
        ArtifactError: the output directory is in use, full or not writable.
        MissingPartError: Feast is not installed.
    """
    from onehull.store import apply

    project = open_project(spec, where)
    project.check_data()
    directory = store_directory(project)
    with project.locked():
        views = apply(project.spec, project.data, directory)
    shown = ", ".join(f"{view.entity} ({len(view.features)} features)" for view in views)
    project.console.print(f"[green]✓[/] [bold]features applied[/]  {shown}  [dim]{directory}[/]")
    return directory


def materialize_features(spec: AnySpec, **where: Unpack[Where]) -> list[Materialized]:
    """Brings the values that count now to the online store; ``force`` writes those that have not changed, too.

    Raises:
        SpecError: the data lack what the spec names.
        DataError: a table is not as the spec says.
        ArtifactError: `apply_features` has not been done for this spec, the output directory is in use, full or not
            writable, or the online store does not answer.
        MissingPartError: Feast is not installed.
    """
    from onehull.store import materialize

    project = open_project(spec, where)
    project.check_data()
    with project.locked():
        done = materialize(project.spec, project.data, store_directory(project), full=where.get("force", False))
    for view in done:
        shown = f"{view.view}: {view.written} of {view.ids} ids written"
        shown += f", {view.withdrawn} withdrawn" if view.withdrawn else ""
        project.console.print(f"[green]✓[/] [bold]features online[/]  {shown}")
    return done


def features_status(spec: AnySpec, **where: Unpack[Where]) -> list[ViewStatus]:
    """How far the online store is behind the tables.

    Raises:
        SpecError: the data lack what the spec names.
        DataError: a table is not as the spec says.
        ArtifactError: `apply_features` has not been done.
        MissingPartError: Feast is not installed.
    """
    from onehull.store import status

    project = open_project(spec, where)
    project.check_data()
    return status(project.spec, project.data, store_directory(project))
