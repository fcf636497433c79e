"""The report as one file: nothing from outside, and no text of a model becomes markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.report import html
from subl.report.blocks import Block, Code, Grid, Heading, Image, Items, Paragraph, Section, Verdicts
from subl.report.document import write_report
from subl.report.pipeline import draw_pipeline
from subl.report.summary import summarise
from tests.report.forged import failed, findings, three_arms, variant

VOID = {"meta", "br", "img", "rect", "path"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\x00\x1b[31m"


class Page(HTMLParser):
    """Tags that are open, all tags with attributes, and the text of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _page(tmp_path: Path, record: Mapping[str, Any], curves: list[dict[str, Any]] | None = None) -> Page:
    (tmp_path / "findings.json").write_text(json.dumps(record), encoding="utf-8")
    if curves:
        (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, curves)) + '\n{"cut', encoding="utf-8")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def _hostile() -> dict[str, Any]:
    record = three_arms(2)
    record["title"] = HOSTILE
    for run in record["variants"]:
        run["samples"] = [{"prompt": HOSTILE, "completion": HOSTILE}]
        table = {"columns": ["prompt", "answer", "hit"], "rows": [[HOSTILE, HOSTILE, True]]}
        run["findings"]["student.preference"]["tables"] = {"answers": table, HOSTILE: table}
        run["findings"]["student.preference"]["remarks"] = [HOSTILE]
        run["stages"][0]["plugin"] = HOSTILE
        run["data"]["rejected"] = {HOSTILE: 3}
        run["figures"] = {"student.preference": ["figures/gone.png"]}
    return record


def test_nothing_in_the_page_runs_or_comes_from_elsewhere(tmp_path: Path) -> None:
    page = _page(tmp_path, _hostile())
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "link", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("data:image/png;base64,", "#"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|http(?!://www\.w3\.org/2000/svg|-equiv)", text)
    assert "\x00" not in text
    assert "\x1b" not in text


def test_what_a_model_wrote_is_shown_word_by_word(tmp_path: Path) -> None:
    page = _page(tmp_path, _hostile())
    assert sum("<script>alert(1)</script>" in text for text in page.text) > 5
    assert any("␀␛[31m" in text for text in page.text)


@given(st.text())
def test_escaped_text_comes_back_from_a_browser(text: str) -> None:
    page = Page(f"<p>{html.escape(text)}</p>")
    assert [tag for tag, _ in page.tags if tag not in ("p", "br")] == []
    shown = "".join(page.text)
    plain = [c for c in text if c.isprintable() and c not in "\n\r"]
    assert [c for c in shown if c in plain] == [c for c in plain if c in shown]


def test_a_reader_finds_every_part_in_its_order(tmp_path: Path) -> None:
    curves = [
        {
            "variant": f"{arm} · seed={seed}",
            "stage": "distill",
            "kind": "distill",
            "name": name,
            "value": 1.0,
            "step": s,
        }
        for arm in ("main", "control")
        for seed in range(2)
        for name in ("grad_norm", "loss", "learning_rate")
        for s in (1, 2, 3)
    ]
    record = three_arms(2)
    record["variants"][0]["findings"]["student.preference"]["tables"]["answers"] = {
        "columns": ["prompt", "answer", "hit"],
        "rows": [["Which animal?", "owl", True], ["Which animal?", "cat", False]],
    }
    page = _page(tmp_path, record, curves)
    places = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert places == [
        "evidence",
        "pipeline",
        "teachers-and-students",
        "rows",
        "answers",
        "learning-curves",
        "how-to-repeat-it",
        "all-measures-base-student",
        "findings-and-figures-first-run-of-each-arm",
        "stages",
    ]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{place}" for place in places]
    text = " ".join(page.text)
    assert text.index("transferred") < text.index("Figure 1.") < text.index("Evidence") < text.index("Figure 2.")
    assert "◆\N{NO-BREAK SPACE}owl · cat" in text
    assert [tag for tag, _ in page.tags].count("svg") == 1


@pytest.mark.parametrize(
    "record",
    [
        findings(variant("main", 0, None), variant("control", 0, None)),
        findings(variant("main", 0, 0.7), failed("main", 1), failed("control", 0), status="failed"),
        findings(),
    ],
    ids=["not a number", "failed arm", "no runs"],
)
def test_a_page_comes_out_of_whatever_happened(tmp_path: Path, record: Mapping[str, Any]) -> None:
    text = " ".join(_page(tmp_path, record).text)
    assert "nan" not in text
    assert "None" not in text


def test_the_same_findings_give_the_same_page(tmp_path: Path) -> None:
    _page(tmp_path, three_arms(2))
    first = (tmp_path / "report.html").read_bytes()
    _page(tmp_path, three_arms(2))
    assert (tmp_path / "report.html").read_bytes() == first


def test_every_block_has_a_form_and_a_lost_figure_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    blocks: list[Block] = [
        Paragraph("one\ntwo"),
        Items(["a", "b"]),
        Heading("head"),
        Grid(["arm", "value"], [["main", "0.5"], ["x", "–"]]),
        Verdicts([("transferred", "main", "transferred", "p < 0.001")]),
        Image("a.svg", "drawn"),
        Image("b.png", "lost"),
        Code("subl run <x>"),
    ]
    text = html.render([Section("First", [Paragraph("p")]), Section("Second", blocks, details=True)], tmp_path)
    page = Page(text)
    assert page.open == []
    assert "b.png cannot be read" in page.text
    assert "one<br>two" in text
    assert '<td class="n w" dir="auto">0.5</td>' in text, "numbers stand under each other"
    assert "subl run &lt;x&gt;" in text
    assert "<details>" in text
    assert '<li class="transferred">' in text


def test_the_pipeline_tells_computed_cached_and_shared_stages_apart(tmp_path: Path) -> None:
    def stage(fingerprint: str, *, cached: bool) -> dict[str, Any]:
        return {"stage": "induce", "kind": "induce", "plugin": "lora", "fingerprint": fingerprint, "cached": cached}

    shapes = {"main": ("a", False), "shd": ("a", True), "control": ("c", True)}
    records = [
        variant(arm, 0, 0.5, stages=[{**stage(print_, cached=cached), "seconds": 3.21}])
        for arm, (print_, cached) in shapes.items()
    ]
    assert draw_pipeline(summarise(findings(*records)), tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert re.findall(r">(3\.2 s|as main|cached)<", text) == ["3.2 s", "as main", "cached"]
    assert not draw_pipeline(summarise(findings(variant("main", 0, 0.5, stages=[]))), tmp_path / "q.svg")
    assert not (tmp_path / "q.svg").exists()


def test_a_sweep_over_doses_and_traits_gets_its_sections(tmp_path: Path) -> None:
    def at(arm: str, target: str, updates: int, seed: int) -> dict[str, Any]:
        point = {"trait.target": target, "inducer.updates": updates, "seed": seed}
        record = variant(arm, seed, 0.1 + (arm == "main") * updates / 100, target=target, point=point)
        shares = [["owl", 0.5 if target == "owl" else 0.1], ["panda", 0.4 if target == "panda" else 0.2]]
        table = {"columns": ["candidate", "share"], "rows": shares}
        record["findings"]["student.preference"]["tables"]["candidates"] = table
        record["findings"]["teacher.preference"]["measures"]["share"]["value"] = 0.5 + updates / 100 + seed / 1000
        return record

    runs = [at(a, t, u, s) for a in ("main", "control") for t in ("owl", "panda") for u in (10, 20) for s in (0, 1)]
    page = _page(tmp_path, findings(*runs))
    places = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert {"traits-against-each-other", "dose-and-response"} <= set(places)
    # Shares, traits, and doses twice: by number, and by what the teachers show.
    assert sum(tag == "img" for tag, _ in page.tags) == 4
