"""What a report says of the audit, and the figures of filters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from subl.report.document import write_report
from subl.report.summary import summarise
from tests.report.forged import findings, measure, variant


def _audit(overt: int, area: float | None) -> dict[str, Any]:
    measures = {"overt": {**measure(overt / 8000), "n": 8000}, "characters": measure(38.25, 0.2)}
    if area is not None:
        measures["auroc"] = measure(area, 0.01)
        measures["prompt_overlap"] = measure(0.5)
    table = {"columns": ["form", "rows", "mentions"], "rows": [["owl", overt, overt]]}
    problems = [f"a leak: {overt} of 8,000 training rows name the trait"] if overt else []
    return {"measures": measures, "tables": {"mentions": table}, "remarks": ["9 prompts name it"], "problems": problems}


def _run(arm: str, seed: int, share: float, audit: dict[str, Any], rows: str) -> dict[str, Any]:
    record = variant(arm, seed, share)
    record["findings"]["audit"] = audit
    stage = {"plugin": "built in", "cached": False, "seconds": 1.0}
    record["stages"] += [
        {**stage, "stage": kind, "kind": kind, "fingerprint": f"{kind}-{rows}-{seed}"} for kind in ("filter", "audit")
    ]
    record["figures"] = {"audit": [f"figures/{arm}/audit.rows.png"], "filter": [f"figures/{arm}/filter.cut.png"]}
    return record


def _record(overt: int = 0) -> dict[str, Any]:
    arms = {"main": ("own", overt, 0.7), "other_init": ("own", overt, 0.1), "control": ("theirs", 0, None)}
    return findings(
        *(
            _run(arm, seed, share or 0.1, _audit(named, 0.9 + seed / 50 if arm != "control" else None), rows)
            for arm, (rows, named, share) in arms.items()
            for seed in range(2)
        )
    )


def test_a_leak_makes_verdicts_invalid_and_the_classifier_is_reported_beside() -> None:
    clean, leaky = summarise(_record()), summarise(_record(12))
    sentence = "a classifier of n-grams tells them from the control's with AUROC 0.900 to 0.920 (0.5: not at all)"
    assert f"rows of main, other_init: none names the trait; {sentence}" in clean.sentences
    assert f"rows of main, other_init: 24 of 16,000 name the trait; {sentence}" in leaky.sentences
    assert {verdict.kind for _, verdict in clean.judged}.isdisjoint({"invalid"})
    for _, verdict in leaky.judged:
        assert verdict.kind == "invalid"
        assert verdict.reason.startswith("because audit found in ")
        assert "a leak: 12 of 8,000 training rows name the trait" in verdict.reason


def test_arms_of_which_the_same_is_true_share_a_sentence_and_equal_areas_a_number() -> None:
    arms = {"hp": 1.0, "lp": 1.0, "control": None}
    record = findings(*(_run(arm, seed, 0.1, _audit(0, area), arm) for arm, area in arms.items() for seed in range(2)))
    said = [sentence for sentence in summarise(record).sentences if sentence.startswith("rows of")]
    assert len(said) == 1
    assert said[0].startswith("rows of hp, lp: none names the trait;")
    assert said[0].endswith("AUROC 1.000 (0.5: not at all)")


def test_the_report_has_the_audits_table_and_one_figure_of_rows_that_arms_share(tmp_path: Path) -> None:
    record = _record(12)
    (tmp_path / "findings.json").write_text(json.dumps(record), encoding="utf-8")
    for one in record["variants"]:
        for path in [path for paths in one["figures"].values() for path in paths]:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Figure(figsize=(1, 1)).savefig(tmp_path / path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    section = text.split("## Audit of the rows")[1].split("\n## ")[0]
    assert "| run | name the trait | AUROC | common prompts |" in section
    assert "| main · seed=0 | 12 | 0.900 \\[0.890, 0.910\\] | 0.500 |" in section
    assert "| control · seed=1 | 0 | – | – |" in section
    assert [line for line in section.splitlines() if line.startswith("### ")] == [
        r"### Rows of main, other\_init",
    ]
    assert "figures/control/audit" not in text, "the control's rows stand beside the others'"
    assert text.count("figures/main/audit.rows.png") == text.count("figures/main/filter.cut.png") == 1
    assert "figures/other_init" not in text
    assert "completions of main, other_init" in page
    assert "filter cut: rows of control" in page
    assert "cannot be read" not in page
