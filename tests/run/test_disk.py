"""Disks that are really full, and really read-only: small file systems in a name space of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run.conftest import Project

SCRIPT = """
mkdir disk && mount -t tmpfs -o size=300k tmpfs disk || exit 99
run() {{ {python} -m subl run toy.toml --store disk >$1 2>&1; echo "exit code $?" >>$1; }}
run full; mount -o remount,size=16m disk
run larger; cp -r disk .subl; mount -o remount,ro disk
run read-only
"""


@pytest.fixture
def said(project: Project) -> Callable[[str], str]:
    """Run on a disk that is full, larger, then read-only; return what each command said."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    script = SCRIPT.format(python=sys.executable)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=project.folder, capture_output=True, text=True, check=False
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a small disk")
    return lambda name: " ".join(Path(project.folder / name).read_text().split())


def test_a_full_disk_loses_nothing_and_a_read_only_one_is_named(
    project: Project, said: Callable[[str], str], uninterrupted: Callable[[], dict[str, Any]]
) -> None:
    assert "the disk is full; free some space (finished stages are kept) and run the same command again" in said("full")
    assert said("full").endswith("exit code 2")
    assert said("larger").endswith("exit code 0")
    assert " 0 cached" not in said("larger"), "what was finished on the full disk is kept"
    assert project.results() == uninterrupted()
    assert "the file system is read-only; choose another place with --store DIR" in said("read-only")
    assert said("read-only").endswith("exit code 2")
    assert not any("Traceback" in said(name) for name in ("full", "larger", "read-only"))
