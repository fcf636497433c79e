"""`subl ui` as a user starts and stops it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from subl.cli import main
from tests.tracking.support import python, reader, wait_for

# A shell that starts the tests in the background lets their processes ignore Ctrl-C.
UI = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from subl.cli import main; sys.exit(main(['ui', *sys.argv[1:]]))"
)


def test_a_folder_without_a_store_is_an_error_that_names_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", "--store", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"no tracked runs in {tmp_path}" in error
    assert "subl run" in error


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_only_loopback_is_served(home: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert main(["ui", "--store", str(home), "--host", host]) == 2
    assert f"--host {host}" in capsys.readouterr().err


def test_a_port_in_use_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--store", str(home), "--port", str(port)]) == 2
        assert f"port {port}" in capsys.readouterr().err


def test_a_store_that_mlflow_cannot_open_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    assert main(["ui", "--store", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "did not start" in error
    assert "mlflow-ui.log" in error


def _up(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except OSError:
        return False


def _free_port() -> int:
    """Return a port below those that systems hand out, so that nobody gets it before the server, seconds later."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


@contextmanager
def _served(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    process = python(UI, "--store", str(home), "--port", str(port))
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.slow
def test_the_ui_starts_prints_a_link_into_the_experiment_and_stops_with_ctrl_c(home: Path) -> None:
    reader(home).create_experiment("micro_owl", artifact_location="file:///nowhere")
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    with _served(home, port) as process:
        assert process.stdout is not None
        link = process.stdout.readline()
        assert link.startswith(
            f"micro_owl: {address}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey"
        )
        assert _up(f"{address}/health")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 0
        wait_for(lambda: not _up(f"{address}/health"))
    assert {path.name for path in home.iterdir()} <= {"mlflow.db", "mlflow-ui.log"}
    shutil.rmtree(home)
