"""The command line as one list of verbs, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import version

import typer
from rich.console import Console

from onehull.cli import (
    assemble,
    check,
    demo,
    evaluate,
    export,
    features,
    ingest,
    prepare,
    report,
    run,
    schema,
    serve,
    train,
    update,
    world,
)
from onehull.cli.allocator import keep_memory
from onehull.cli.native_logs import divert
from onehull.errors import OneHullError, SpecError

EXIT_SPEC, EXIT_ERROR, EXIT_INTERRUPTED = 2, 1, 130

VERBS = (
    demo,
    run,
    update,
    check,
    schema,
    world,
    ingest,
    assemble,
    report,
    prepare,
    train,
    evaluate,
    export,
    features,
    serve,
)
"""In the order of the help: the whole way first, then what it is made of."""


def build_app() -> typer.Typer:
    """The application with all its verbs."""
    app = typer.Typer(
        name="onehull",
        help="Multi-task ranking: from the event log to the ranked feed.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verb in VERBS:
        app.command(name=verb.__name__.rsplit(".", 1)[-1], epilog=verb.EXAMPLES)(verb.command)
    app.callback()(_options)
    return app


def main() -> None:
    """Entry point: runs a verb; what a user can act on is printed without a traceback."""
    keep_memory()
    divert()
    console = Console(stderr=True, highlight=False)
    try:
        build_app()()
    except SpecError as error:
        for fault in error.faults:
            _print_error(console, f"{error.source}: {fault}")
        console.print(f"{len(error.faults)} fault{'s' if len(error.faults) != 1 else ''}.")
        sys.exit(EXIT_SPEC)
    except OneHullError as error:
        _print_error(console, str(error))
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        console.print("\nInterrupted. Run the same command again: it continues.")
        sys.exit(EXIT_INTERRUPTED)


def _print_error(console: Console, message: str) -> None:
    """The message holds text of the user's, which is no markup."""
    console.print("[red]✗[/] ", end="")
    console.print(message, markup=False, soft_wrap=True)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"onehull {version('onehull')}")
        raise typer.Exit


def _options(
    show_version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del show_version  # handled by its callback
