"""Recipes, stores and run folders that one may not read or write. For root, who may, without the privilege."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run.conftest import Project

LESS = "-dac_override,-dac_read_search"
SCRIPT = """
run() {{ name=$1; shift; {python} -m subl run toy.toml "$@" >$name.txt 2>&1; echo "exit code $?" >>$name.txt; }}
chmod 000 toy.toml; run recipe; chmod 644 toy.toml
mkdir closed; chmod 555 closed; run closed --store closed
run first --until generate
chmod 000 .subl/store; run store; chmod 755 .subl/store
chmod 555 .subl/runs; run runs; chmod 755 .subl/runs
chmod 000 .subl; run home; chmod 755 .subl
run last
"""


@pytest.fixture
def said(project: Project) -> Callable[[str], str]:
    """Run where something is closed every time; return what each command said."""
    shell = ["sh", "-c", SCRIPT.format(python=sys.executable)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read and write everything, and there is no setpriv to take that away")
        shell = ["setpriv", f"--bounding-set={LESS}", f"--inh-caps={LESS}", *shell]
    subprocess.run(shell, cwd=project.folder, capture_output=True, check=True)
    return lambda name: " ".join(Path(project.folder / f"{name}.txt").read_text().split())


def test_what_is_closed_is_named_with_a_remedy_and_nothing_is_lost(
    project: Project, said: Callable[[str], str], uninterrupted: Callable[[], dict[str, Any]]
) -> None:
    assert "toy.toml: cannot be read: Permission denied; let yourself read it: chmod u+r" in said("recipe")
    closed = ("closed", "store", "runs", "home")
    for name in closed:
        assert "permission denied; " in said(name), name
        assert "choose another place with --store DIR" in said(name), name
    assert "cannot write" in said("closed")
    assert "/.subl/store/" in said("store")
    assert "/.subl/runs/" in said("runs")
    for name in ("recipe", *closed):
        assert said(name).endswith("exit code 2"), name
        assert "Traceback" not in said(name), name
    assert said("last").endswith("exit code 0")
    assert " 0 cached" not in said("last"), "what was finished before is kept"
    assert project.results() == uninterrupted()
