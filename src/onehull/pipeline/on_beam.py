"""The steps that a Beam runner can do: assembly and preparation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from onehull.pipeline.project import Project
from onehull.pipeline.steps import ASSEMBLE, PREPARE, Step, assemble_project, prepare_project
from onehull.spec.features import Feature

if TYPE_CHECKING:
    from onehull.events.log import Progress
    from onehull.features import Measured


def steps_on_beam(project: Project, options: str) -> tuple[Step, Step]:
    """Assembly and preparation on a runner of Apache Beam.

    Their keys are those of the local steps: samples, vocabularies and counts are the same, moments and boundaries agree
    within what `onehull.beam.analyze` states, so that an artifact of either engine is as good as the other's, and a
    change of the engine makes nothing anew. ``force`` does.

    A log that is assembled as a stream (``data.events.lateness``) is read here: the stream keeps what it has read.

    Args:
        project: whose steps these are.
        options: Beam's flags (`onehull.beam.runner.pipeline_options`).
    """

    def assemble(project: Project, partial: Path) -> None:
        from onehull.beam.assemble import assemble_on_beam

        def assembled(progress: Progress) -> None:
            assemble_on_beam(project.spec, project.data, partial, options, progress=progress)

        assemble_project(project, partial, assembled)

    def prepare(project: Project, partial: Path) -> None:
        prepare_project(project, partial, lambda _: _measured(project.spec.features, project.samples, partial, options))

    return ASSEMBLE if project.streamed else replace(ASSEMBLE, build=assemble), replace(PREPARE, build=prepare)


def _measured(features: Mapping[str, Feature], samples: Path, partial: Path, options: str) -> Measured:
    from onehull.beam.analyze import measure_on_beam

    with TemporaryDirectory(dir=partial.resolve(), prefix=".beam-") as workspace:
        return measure_on_beam(features, samples.resolve(), workspace, options)
