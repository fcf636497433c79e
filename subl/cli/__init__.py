"""The command line. Light to import: every command imports what it needs when it runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Annotated

import typer

from subl import __version__
from subl.cli.cache import cache
from subl.cli.compare import EPILOG as COMPARE_EXAMPLE
from subl.cli.compare import compare
from subl.cli.diff import EPILOG as DIFF_EXAMPLE
from subl.cli.diff import diff
from subl.cli.plugins import plugins
from subl.cli.recipes import recipes
from subl.cli.resume import EPILOG as RESUME_EXAMPLE
from subl.cli.resume import resume
from subl.cli.run import EPILOG as RUN_EXAMPLE
from subl.cli.run import run
from subl.cli.runs import runs
from subl.cli.schema import EPILOG as SCHEMA_EXAMPLE
from subl.cli.schema import schema
from subl.cli.show import show
from subl.cli.survey import EPILOG as SURVEY_EXAMPLE
from subl.cli.survey import survey
from subl.cli.ui import ui
from subl.cli.validate import validate
from subl.errors import INTERRUPTED, SublError

app = typer.Typer(
    name="subl",
    help="Controlled subliminal-learning experiments: does a trait of a teacher reach a student through data, logits "
    "or attention maps that have nothing to do with it?",
    epilog="Example: subl run micro_owl --set trait.target=panda",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich adds a third to the time that --help takes
)

_debug: ContextVar[bool] = ContextVar("_debug", default=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"subl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of expected errors.")] = False,
    version: Annotated[  # noqa: ARG001 (its callback acts)
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    _debug.set(debug)


app.command(epilog=RUN_EXAMPLE, short_help="Run an experiment; cached stages are skipped.")(run)
app.command(epilog="Example: subl validate micro_owl --set trait.target=panda")(validate)
app.command(epilog="Example: subl show micro_owl --arm control --origins")(show)
app.command(epilog=SURVEY_EXAMPLE, short_help="Say which targets suit a base model.")(survey)
app.add_typer(plugins, name="plugins")
app.command(epilog=SCHEMA_EXAMPLE, short_help="Print a JSON schema of recipes for editors.")(schema)
app.add_typer(recipes, name="recipes")
app.add_typer(runs, name="runs", epilog="Example: subl runs list")
app.command(epilog=RESUME_EXAMPLE, short_help="Go on with a run, from its folder alone.")(resume)
app.command(epilog=COMPARE_EXAMPLE, short_help="Compare runs: a table with intervals, and a figure.")(compare)
app.command(epilog=DIFF_EXAMPLE, short_help="Show what differs between two recipes or runs.")(diff)
app.add_typer(cache, name="cache")
app.command(epilog="Example: subl ui --port 5001")(ui)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. The one place where expected errors become messages."""
    with _interrupted_by_sigterm():
        try:
            app(args=None if arguments is None else list(arguments), prog_name="subl")
        except SublError as error:
            if _debug.get():
                raise
            typer.echo(f"error: {error}", err=True)
            return error.exit_code
        except PermissionError as error:
            if _debug.get():
                raise
            remedy = "get the right to read and write it, or choose another place with --store DIR"
            typer.echo(f"error: {error.filename}: permission denied; {remedy}", err=True)
            return SublError.exit_code
        except KeyboardInterrupt:
            return INTERRUPTED
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end work as Ctrl-C does, so that what is finished gets recorded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
