"""`subl plugins check` and the contract in `subl plugins show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from subl.cli import main
from subl.registry.local import load_local
from subl.registry.registry import registry

SLOPPY = '''
import numpy

import subl


@subl.filter("sloppy")
class Sloppy:
    """Gives too few reasons."""

    class Config(subl.PluginConfig):
        limit: int = 3

    version = 1

    def __init__(self, config):
        self.config = config

    def reject(self, rows, ctx):
        return []
'''

FAULTS = [
    "setting 'limit' has no docstring",
    "its module imports numpy when it is named; import it in the method",
    "reject gave 0 reasons for 8 rows; one per row, or None",
]


@pytest.fixture
def sloppy(tmp_path: Path) -> str:
    path = tmp_path / "sloppy.py"
    path.write_text(SLOPPY, encoding="utf-8")
    return str(path)


def test_check_lists_every_fault_and_ends_with_2(sloppy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "filter", "sloppy", "--plugin", sloppy]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"fault: filter sloppy from {sloppy}", *(f"  - {fault}" for fault in FAULTS)]


def test_check_without_names_goes_through_all_of_a_kind(sloppy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "filter", "--plugin", sloppy, "--json"]) == 2
    records = json.loads(capsys.readouterr().out)
    found = {record["name"]: record["faults"] for record in records}
    assert found.pop("sloppy") == FAULTS
    assert not any(found.values())
    assert set(found) <= set(registry.names("filter"))


def test_show_says_whether_the_contract_is_kept(sloppy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "filter", "sloppy", "--plugin", sloppy]) == 0
    out = capsys.readouterr().out
    assert "contract: not kept\n  - setting 'limit' has no docstring\n" in out
    assert main(["plugins", "show", "filter", "length"]) == 0
    assert "contract: kept" in capsys.readouterr().out


def test_an_edited_local_file_is_looked_at_again(sloppy: str) -> None:
    assert main(["plugins", "check", "filter", "sloppy", "--plugin", sloppy]) == 2
    text = SLOPPY.replace("import numpy\n", "").replace("return []", "return [None for _ in rows]")
    Path(sloppy).write_text(text.replace("limit: int = 3", 'limit: int = 3\n        """A limit."""'), encoding="utf-8")
    assert main(["plugins", "check", "filter", "sloppy", "--plugin", sloppy]) == 0
    registry.forget_local()
    load_local(Path(sloppy))
    assert registry.load("filter", "sloppy").version == 1
    registry.forget_local()
