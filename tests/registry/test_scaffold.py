"""What `subl plugins new` writes passes its own tests, ruff and mypy as it stands, for every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from subl.cli import main
from subl.errors import PluginError
from subl.registry.kinds import KINDS
from subl.registry.scaffold import scaffold

# What these tests are about is the generated code, not how mypy reads frameworks.
MYPY = """\
[mypy]
strict = true
[mypy-torch.*,transformers.*,tokenizers.*,trl.*,peft.*,accelerate.*,safetensors.*,datasets.*]
follow_imports = skip
[mypy-subl.recipe.*,subl.run.*,subl.report.*,subl.tracking.*]
follow_imports = skip
[mypy-numpy.*,scipy.*,matplotlib.*,mlflow.*,rich.*,typer.*,pytest.*,_pytest.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind as a local file, and as a package."""
    folder = tmp_path_factory.mktemp("written")
    for kind in KINDS:
        scaffold(kind, f"local_{kind}", folder / "local")
        scaffold(kind, f"packed_{kind}", folder / "packages", package=True)
    return folder


def python(*arguments: str, cwd: Path, **environment: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def packages(folder: Path) -> list[Path]:
    return sorted((folder / "packages").iterdir())


def test_ruff_has_nothing_to_say(written: Path) -> None:
    rules = ["--isolated", "--line-length", "120"]
    python("-m", "ruff", "check", *rules, "--select", "B,E,F,I,RUF,UP,W", ".", cwd=written / "local")
    python("-m", "ruff", "format", "--check", *rules, ".", cwd=written / "local")
    for package in packages(written):
        python("-m", "ruff", "check", ".", cwd=package)
    python("-m", "ruff", "format", "--check", ".", cwd=written / "packages")


def test_mypy_has_nothing_to_say(written: Path, tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(MYPY)
    settings = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    path = os.pathsep.join(map(str, packages(written)))
    python("-m", "mypy", *settings, "local", "packages", cwd=written, MYPYPATH=path)


def test_its_own_tests_pass(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where other tests have imported torch already."""
    for package in packages(written):
        monkeypatch.syspath_prepend(str(package))
    tests = [str(file) for file in sorted(written.rglob("test_*.py"))]
    assert len(tests) == 2 * len(KINDS)
    options = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={written}"]
    modules = set(sys.modules)
    try:
        assert pytest.main([*options, *tests]) == pytest.ExitCode.OK
    finally:
        for name in set(sys.modules) - modules:
            if "local_" in name or "packed_" in name:
                del sys.modules[name]


def test_the_entry_point_of_a_package_names_its_class(written: Path) -> None:
    text = (written / "packages/subl-packed-filter/pyproject.toml").read_text()
    assert (
        '[project.entry-points."subl.filters"]\npacked_filter = "subl_packed_filter.packed_filter:PackedFilter"' in text
    )
    plugin = (written / "packages/subl-packed-filter/subl_packed_filter/packed_filter.py").read_text()
    assert "@subl.filter" not in plugin, "a name is written once"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("filters", "short", "unknown kind 'filters'; did you mean 'filter'?"),
        ("filter", "Short-Rows", "use small letters, digits and _, e.g. 'short_rows'"),
        ("filter", "import", "e.g. 'my_import'"),
        ("filter", "9", "e.g. 'my_9'"),
        ("filter", "length", "a filter named 'length' is there already, from subl; try 'my_length'"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, kind: str, name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        scaffold(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plugins", "new", "filter", "mine", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    assert (
        f"next: pytest {tmp_path / 'test_mine.py'} && subl plugins show filter mine --plugin" in capsys.readouterr().out
    )
    (tmp_path / "mine.py").write_text("changed")
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "mine.py").read_text() == "changed"
    assert main([*arguments, "--package"]) == 0
    assert "pip install -e '.[dev]' && pytest && subl plugins check filter mine" in capsys.readouterr().out
