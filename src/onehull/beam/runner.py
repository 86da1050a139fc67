"""Where Beam pipelines run: the runner's options, and what to do where Beam is absent."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib import import_module
from typing import Any

from onehull.errors import MissingPartError, RunnerError

LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
"""Runs in this process. Beam's ``DirectRunner`` chooses the same, after it has tried to download another."""


def pipeline_options(flags: str = "") -> Any:
    """Options of a pipeline, from flags as one types them: ``--runner=FlinkRunner --flink_master=host:8081``.

    Args:
        flags: Beam's own flags, separated by spaces, quoted as in a shell. Without ``--runner`` pipelines run in this
            process.

    Returns:
        Beam's ``PipelineOptions``.

    Raises:
        MissingPartError: apache-beam is not installed.
        RunnerError: a flag that Beam does not know, or a value that it cannot read.
    """
    require_beam()
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    remedy = "Write them as --name=value; Beam's own documentation of the runner names them."
    try:
        words = shlex.split(flags)
        options = PipelineOptions(words)
        # Beam drops what it does not know with a line in a log, and runs without it.
        known, all_of_them = (set(options.get_all_options(retain_unknown_options=keep)) for keep in (False, True))
    except (ValueError, SystemExit) as error:
        raise RunnerError(f"Beam options must be flags that Beam can read. Received {flags!r}. {remedy}") from error
    if all_of_them != known:
        unknown = ", ".join(sorted(all_of_them - known))
        raise RunnerError(f"Beam options must be flags that Beam knows. Received {unknown}. {remedy}")
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or LOCAL_RUNNER
    return options


def require_beam(*modules: str) -> None:
    """Checks that modules of Beam's world can be imported.

    Args:
        modules: their names, ``apache_beam`` among them or not.

    Raises:
        MissingPartError: one of them is not installed.
    """
    for module in ("apache_beam", *modules):
        try:
            import_module(module)
        except ImportError as error:
            name = module.replace("_", "-")
            raise MissingPartError(f'The beam engine needs {name}: pip install "onehull[beam]"') from error


def run(build: Callable[[Any], None], options: Any) -> None:
    """Builds a pipeline and runs it to its end.

    Args:
        build: applies its steps to a pipeline.
        options: of `pipeline_options`.

    Raises:
        RunnerError: it failed.
    """
    import apache_beam as beam

    try:
        with beam.Pipeline(options=options) as pipeline:
            build(pipeline)
    except Exception as error:  # a runner raises whatever its workers raised
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunnerError(
            f"the Beam pipeline failed: {reason[-1].rstrip('.')}. What its workers said stands above."
        ) from error
