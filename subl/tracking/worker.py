"""The MLflow process: reads calls from stdin, hands them to a recorder, says in one line how it ended."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subl.tracking.recorder import Recorder

FLUSH_SECONDS = 2.0


def main() -> None:
    """Record until `finish`, or until the experiment is gone."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever MLflow prints must not look like an answer
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # The experiment gets the same signal, and the pipe's end tells the rest.
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        links = _record(_read_in_background())
    except Exception as error:
        answer.write(json.dumps({"failed": describe(error)}))
        answer.close()
        sys.exit(1)
    answer.write(json.dumps({"links": links}))
    answer.close()
    # Everything is written. Taking the interpreter apart, with all that MLflow has imported, takes half a second more.
    os._exit(0)


def describe(error: BaseException) -> str:
    """Return one line on what went wrong, without the layers of an HTTP client."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < 20:
        causes.append(cause)
    known = next((cause for cause in causes if isinstance(cause, (ConnectionError, TimeoutError))), None)
    lines = (str(known or error) or type(error).__name__).strip().splitlines()
    return lines[0]


def _read_in_background() -> queue.SimpleQueue[dict[str, Any] | None]:
    """Start reading at once, so that the experiment never waits at a full pipe while MLflow is imported."""
    calls: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(ValueError):  # half a line: the experiment was killed while writing
            for line in sys.stdin:
                calls.put(json.loads(line))
        calls.put(None)

    threading.Thread(target=read, daemon=True).start()
    return calls


def _record(calls: queue.SimpleQueue[dict[str, Any] | None]) -> dict[str, str]:
    gc.disable()  # importing MLflow makes a million objects, none of them garbage
    from subl.tracking.recorder import Recorder

    opening = calls.get()
    if opening is None:
        return {}
    opening.pop("call")
    recorder: Recorder = Recorder(**opening)
    gc.freeze()
    gc.enable()
    while True:
        try:
            call = calls.get(timeout=FLUSH_SECONDS)
        except queue.Empty:
            recorder.flush()
            continue
        if call is None:
            recorder.finish("KILLED")
            return {}
        name = call.pop("call")
        getattr(recorder, name)(**call)
        if name == "finish":
            return recorder.links()
