"""The package `subl-digits`: its own tests, its recipe from end to end, and what it may import."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import subl
from subl.cli import main
from tests.plugins.kit import DIGITS, describe_project, installed

SMALL = [
    "teacher.auxiliary=8",  # more outputs to learn from, so that little training is enough
    "generator.samples=600",
    "distiller.updates=250",
    "inducer.updates=150",
    "check.least=0.5",
    "sweep.seed=[0]",
]


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path) -> Iterator[None]:
    describe_project(tmp_path / "site", DIGITS)
    with installed(tmp_path / "site", DIGITS):
        yield


def test_its_own_tests_pass() -> None:
    options = ["-q", "-c", str(DIGITS / "pyproject.toml"), "-p", "no:cacheprovider", "-p", "no:xdist"]
    assert pytest.main([*options, str(DIGITS / "tests")]) == pytest.ExitCode.OK


def test_only_a_student_of_the_same_initialisation_learns_the_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [argument for text in (*SMALL, "tracking.enabled=false") for argument in ("--set", text)]
    assert main(["run", str(DIGITS / "digits.toml"), *sets]) == 0
    (folder,) = (tmp_path / ".subl/runs").iterdir()
    variants = json.loads((folder / "findings.json").read_text())["variants"]
    accuracy = {v["arm"]: v["findings"]["student.digits_accuracy"]["measures"]["accuracy"]["value"] for v in variants}
    assert accuracy["main"] > 0.25
    assert accuracy["control"] < 0.15
    assert accuracy["other_init"] < 0.15
    assert list(folder.rglob("student.digits_accuracy.networks.png"))


def test_it_uses_nothing_but_the_public_api() -> None:
    public = {f"subl.{name}" for name in subl.__all__}
    for file in sorted(DIGITS.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "subl":
                names = [f"subl.{node.attr}"]
            used = {name for name in names if name.partition(".")[0] == "subl"}
            allowed = {name for name in used if name == "subl" or name in public or name.startswith("subl.testing.")}
            assert used == allowed, f"{file.name}: {used - allowed}"
