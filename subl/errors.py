"""Expected failures. The command line prints them without a traceback and exits with their code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USER_ERROR = 2
INTERRUPTED = 130


class SublError(Exception):
    """A failure that the user can mend: the message says what, where and what to do next."""

    exit_code = USER_ERROR


class RecipeError(SublError):
    """A recipe that cannot run as written."""


class PluginError(SublError):
    """A plugin that is unknown, broken, or does not keep its contract."""


class StoreError(SublError):
    """A store entry, run folder or disk that cannot be used."""


class ModelError(SublError):
    """A model that cannot be found, loaded or used as the recipe asks."""


class DataError(SublError):
    """Rows or files that cannot be used: malformed, empty, or fewer than asked."""


class CheckError(SublError):
    """A pre-flight check that stops a run before hours are spent; `--keep-going` goes on."""


class StageError(SublError):
    """A stage that failed.

    Args:
        stage: The stage's name, as the plan prints it.
        plugin: Kind and name of the plugin that ran, and where it comes from.
        cause: What it raised.
    """

    def __init__(self, stage: str, plugin: str, cause: BaseException) -> None:
        reason = str(cause) if isinstance(cause, SublError) else f"{type(cause).__name__}: {cause}"
        super().__init__(
            f"stage {stage} ({plugin}) failed: {reason}\n"
            "finished stages are kept; run the same command again to resume here"
        )
        self.stage = stage
        self.cause = cause


class MissingExtraError(SublError):
    """An optional dependency that is not installed.

    Args:
        feature: What needs it.
        package: Its name.
        extra: The extra of subl that brings it; a plugin package gives its own as "subl-mylab[plots]".
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        wanted = extra if "[" in extra else f"subl[{extra}]"
        super().__init__(f"{feature} needs {package}, which is not installed; install it with: pip install '{wanted}'")


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` most likely meant, or None."""
    names = sorted(known)
    folded = {_fold(candidate): candidate for candidate in names}
    if _fold(name) in folded:
        return folded[_fold(name)]
    close = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=0.6)
    if close:
        return folded[close[0]]
    return next((candidate for candidate in names if len(name) > 2 and _fold(name) in _fold(candidate)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" or the known names, to end a message with."""
    names = sorted(known)
    match = closest(name, names)
    if match is not None:
        return f"; did you mean {match!r}?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
    return f"; known: {shown}"


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_")
