"""The written report, from a folder alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.errors import StoreError
from subl.recipe.analysis import analysis_plan
from subl.recipe.model import Expectation, Report
from subl.report.document import write_report
from subl.report.markdown import escape
from tests.report.forged import failed, findings, three_arms, variant

ENVIRONMENT = {
    "command": ["subl", "run", "micro_owl", "--set", "title=an owl"],
    "python": "3.11.7",
    "packages": {"torch": "2.13.0"},
    "git": None,
    "gpus": [],
}


def _folder(tmp_path: Path, record: Mapping[str, Any]) -> Path:
    (tmp_path / "findings.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    return tmp_path


def _report(tmp_path: Path, record: Mapping[str, Any]) -> str:
    write_report(_folder(tmp_path, record))
    return (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_report_holds_what_a_reader_asks_for(tmp_path: Path) -> None:
    text = _report(tmp_path, three_arms(3))
    assert text.startswith("# Does an owl preference cross through numbers?\n")
    assert "| main | 0.100 → 0.700<br>" in text
    assert "![preference.share" in text
    assert "](figures/main.png)" in text
    assert "| main · seed=0 | 0.100 \\[0.080, 0.120\\] | 0.950 \\[0.930, 0.970\\] |" in text  # teacher strength
    assert "| run | strength |" in text
    assert "| run | seen | kept | yield | used | number\\_format: no number | duplicates: seen |" in text
    assert "| main · seed=0 | 9000 | 8000 | 0.889 \\[0.882, 0.895\\] | 8000 | 600 | 400 |" in text
    assert "| prompt | main, control, other\\_init |" not in text, "arms with other rows have a column each"
    assert "| prompt | main | control | other\\_init |" in text
    assert "subl run micro_owl --set 'title=an owl'" in text
    assert "| packages.torch | 2.13.0 |" in text
    assert "Seeds: 0, 1, 2." in text
    assert "| main · seed=0 | generate | numbers | cached | fp-main-0 |" in text
    assert "| main · seed=1 | generate | numbers | 12.3 s | fp-main-1 |" in text


def test_every_line_of_a_table_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    text = _report(tmp_path, three_arms(3))
    blocks = [block for block in re.split(r"\n\n", text) if block.startswith("|")]
    assert len(blocks) > 8
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_what_a_model_wrote_is_shown_and_never_rendered(tmp_path: Path) -> None:
    text = _report(tmp_path, three_arms(1))
    assert "<b>" not in text
    assert "an \\| owl<br>&lt;b&gt;" in text
    assert "3, 4 \\| \\`5\\`" in text


@given(st.text())
def test_escaped_text_has_no_tag_no_cell_border_and_one_line(text: str) -> None:
    escaped = escape(text).replace("<br>", "")
    assert "<" not in escaped
    assert "\n" not in escaped
    assert "\r" not in escaped
    assert not re.search(r"(?<!\\)(\\\\)*\|", escaped)


def test_the_main_figure_is_a_picture_and_the_same_every_time(tmp_path: Path) -> None:
    folder = _folder(tmp_path, three_arms(3))
    write_report(folder)
    first = (folder / "figures" / "main.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    shutil.rmtree(folder / "figures")
    write_report(folder)
    assert (folder / "figures" / "main.png").read_bytes() == first


def test_figures_of_the_probes_are_linked(tmp_path: Path) -> None:
    record = variant("main", 0, 0.7, figures={"student.preference": ["figures/main seed-0/shares.png"]})
    assert "](figures/main%20seed-0/shares.png)" in _report(tmp_path, findings(record))


@pytest.mark.parametrize(
    "record",
    [
        three_arms(1),
        findings(variant("main", 0, None), variant("control", 0, None)),
        findings(variant("main", 0, 0.7), failed("main", 1), failed("control", 0), status="failed"),
        findings(failed("main", 0), status="failed"),
        findings(variant("main", 0, 0.7), variant("control", 1, 0.1)),
        findings(variant("main", 0, 0.7, data={"rows": 0, "seen": 0, "rejected": {}}, samples=[])),
        findings(),
    ],
    ids=["one seed", "not a number", "failed arm", "all failed", "no common seed", "no rows", "no runs"],
)
def test_a_report_comes_out_of_whatever_happened(tmp_path: Path, record: Mapping[str, Any]) -> None:
    text = _report(tmp_path, record)
    assert text.startswith("# ")
    assert "nan" not in text
    assert "None" not in text
    assert ("figures/main.png" in text) == (tmp_path / "figures" / "main.png").exists()


def test_failures_stand_in_the_report(tmp_path: Path) -> None:
    text = _report(tmp_path, findings(variant("main", 0, 0.7), failed("control", 0), status="failed"))
    assert "- control · seed=0 failed: stage distill (distiller sft) failed: boom" in text


def test_a_folder_without_an_environment_still_reports(tmp_path: Path) -> None:
    folder = _folder(tmp_path, three_arms(1))
    (folder / "environment.json").unlink()
    assert "Seeds: 0." in write_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"metric": "a.b"}', '{"schema": 1, "metric": 3, "control": 0, "variants": 1}']
)
def test_findings_that_cannot_be_read_are_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "findings.json").write_text(content)
    with pytest.raises(StoreError, match=r"findings\.json.*run the recipe again"):
        write_report(tmp_path)


def test_a_folder_without_findings_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"findings\.json: cannot be read"):
        write_report(tmp_path)


def test_an_analysis_plan_that_was_changed_afterwards_is_said_to_be(tmp_path: Path) -> None:
    plan = analysis_plan(Report(expectation=Expectation(threshold=0.3)))
    folder = _folder(tmp_path, three_arms(2) | {"analysis": plan})
    for content, said in ((plan, False), ({**plan, "expectation": None}, True)):
        (folder / "analysis.json").write_text(json.dumps(content), encoding="utf-8")
        write_report(folder)
        text = (folder / "report.md").read_text(encoding="utf-8")
        assert ("was changed after it was frozen" in text) == said
    assert "**Expectation: met.**" in text
