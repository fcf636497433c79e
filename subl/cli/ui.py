"""`subl ui`: the MLflow UI for the project's own store, on this machine only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Annotated, Any

import typer

from subl.cli.options import StoreFolder
from subl.errors import StoreError, SublError
from subl.tracking.links import experiment_page
from subl.tracking.tracker import ARTIFACTS, DATABASE, database_uri

FIRST_PORT = 5000
PORTS_TRIED = 100
START_SECONDS = 180.0
STOP_SECONDS = 10.0
LOG = "mlflow-ui.log"


def ui(
    store: StoreFolder = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. [default: the first free one from 5000]", min=1, max=65535)
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback only.")] = "127.0.0.1",
) -> None:
    """Show the project's runs in the MLflow UI until Ctrl-C."""
    from subl.run.runner import project_home

    home = project_home(store)
    if not (home / DATABASE).is_file():
        raise StoreError(
            f"no tracked runs in {home} ({DATABASE} is missing); make some with: subl run micro_owl, "
            "or name another folder with --store"
        )
    _require_loopback(host)
    chosen = _free_port(host, port)
    server = f"http://{f'[{host}]' if ':' in host else host}:{chosen}"
    with _serving(home, host, chosen) as process:
        typer.echo(f"starting MLflow for {home} (about 10 s) …", err=True)
        _wait_until_up(process, server, home / LOG)
        for name, address in _experiments(server):
            typer.echo(f"{name}: {address}")
        typer.echo("Ctrl-C stops it", err=True)
        with suppress(KeyboardInterrupt):
            process.wait()
            raise StoreError(f"the MLflow server stopped by itself; its log: {home / LOG}")


def _require_loopback(host: str) -> None:
    from ipaddress import ip_address

    with suppress(ValueError):
        if host == "localhost" or ip_address(host).is_loopback:
            return
    raise SublError(
        f"--host {host}: MLflow has no password, and anyone who reaches it may read and change the runs; use a "
        "loopback address such as 127.0.0.1, and a tunnel from other machines: ssh -L 5000:127.0.0.1:5000 <machine>"
    )


def _free_port(host: str, port: int | None) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    for candidate in ports:
        with socket.socket(family) as probe, suppress(OSError):
            # As the server does it: a port in its waiting time after a restart is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, candidate))
            return candidate
    if port is None:
        raise SublError(f"no free port from {FIRST_PORT} to {ports[-1]} on {host}; name one with --port")
    raise SublError(f"port {port} on {host} cannot be used; leave --port out to take the first free one")


@contextmanager
def _serving(home: Path, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with (home / LOG).open("wb") as log:
        process = _start(home, host, port, log)
        try:
            with _interrupted_by_hangup():
                yield process
        except KeyboardInterrupt:
            return  # before it was up
        finally:
            _stop(process)


@contextmanager
def _interrupted_by_hangup() -> Iterator[None]:
    """Let a closed terminal end the server too; what nohup ignores stays ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _start(home: Path, host: str, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Seven helper processes and eight seconds for features that nobody uses here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONSAFEPATH": "1",
    }
    where = ["--backend-store-uri", database_uri(home), "--default-artifact-root", (home / ARTIFACTS).as_uri()]
    return subprocess.Popen(  # noqa: S603 (our own arguments)
        [sys.executable, "-m", "mlflow", "server", *where, "--host", host, "--port", str(port), "--workers", "1"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=home,
        env=os.environ | quiet,
        start_new_session=True,  # its processes are stopped together
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    _signal(process, force=False)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, force=True)
        process.wait()


def _signal(process: subprocess.Popen[bytes], *, force: bool) -> None:
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
        else:
            process.kill()


def _wait_until_up(process: subprocess.Popen[bytes], server: str, log: Path) -> None:
    import urllib.request
    from http.client import HTTPException

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = (log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise StoreError(f"the MLflow server did not start: {last}; its log: {log}")
        with suppress(OSError, HTTPException), urllib.request.urlopen(f"{server}/health", timeout=2):  # noqa: S310
            return
        time.sleep(0.2)
    raise StoreError(f"the MLflow server gave no answer within {START_SECONDS:.0f} s; its log: {log}")


def _experiments(server: str) -> list[tuple[str, str]]:
    """Return name and address of every experiment but MLflow's empty default, newest first."""
    import urllib.request

    request = urllib.request.Request(  # noqa: S310 (loopback)
        f"{server}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 50, "order_by": ["last_update_time DESC"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer).get("experiments", [])
    pages = [
        (item["name"], experiment_page(server, item["experiment_id"])) for item in found if item["name"] != "Default"
    ]
    return pages or [("MLflow", server)]
