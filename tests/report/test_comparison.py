"""Several runs side by side: what is refused, what is counted, and what is said."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subl.errors import StoreError
from subl.report.comparison import By, Comparison, compare_runs
from subl.report.comparison_view import cells, draw_comparison, note, section, to_json
from subl.report.markdown import render
from subl.report.recorded import Recorded, read_recorded
from subl.report.statistics import welch_difference
from subl.report.summary import summarise
from tests.report.forged import failed, findings, measure, variant


def _run(
    name: str, lifts: Mapping[str, float], *, seeds: range = range(3), target: str = "owl", **recipe: Any
) -> Recorded:
    """Forge a run: arm → lift, above a control of about 0.1; every seed adds its number in thousandths."""
    records, stages, recipes = [], {}, {}
    for arm, lift in {**lifts, "control": 0.0}.items():
        for seed in seeds:
            record = variant(arm, seed, 0.1 + lift + (arm != "control") * seed / 1000, target=target)
            fingerprint = f"{name}-{arm}-{seed}"
            record["stages"] = [
                {"stage": "student model", "kind": "model", "plugin": "micro", "fingerprint": "base"},
                {"stage": "student.preference", "kind": "probe", "plugin": "preference", "fingerprint": fingerprint},
            ]
            record["rendering"] = "r1"
            probe = {"kind": "probe", "plugin": "preference", "version": 1, "config": {"samples": 4}}
            trait = {"plugin": "preference", "version": 1, "config": {"target": target, "questions": 48}}
            key = {"plugins": [probe], "extras": {"trait": trait}, "settings": {"system": None, "dtype": "float32"}}
            stages[fingerprint] = {"name": "student.preference", "key": key}
            table = {"distiller": {"plugin": "sft", "rate": 1}, "trait": {"target": target}, "seed": seed}
            recipes[record["label"]] = {**table, **recipe}
            records.append(record)
    return Recorded(Path(name), findings(*records, run=name), recipes, stages)


def _changed(one: Recorded, path: str, value: Any) -> Recorded:
    """Change a part of every probe's key."""
    stages = copy.deepcopy(dict(one.stages))
    for stage in stages.values():
        *parents, last = path.split(".")
        place = stage["key"]
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = value
    return Recorded(one.folder, one.findings, one.recipes, stages)


def _table(comparison: Comparison) -> dict[str, dict[str, str]]:
    columns, rows = cells(comparison)
    return {
        " · ".join(row[:2]) if comparison.by != "arm" else row[0]: dict(zip(columns, row, strict=True)) for row in rows
    }


def test_every_run_and_arm_is_a_line_with_its_interval_over_runs() -> None:
    found = compare_runs([_run("a", {"main": 0.5}), _run("b", {"main": 0.2, "shd": 0.3})])
    assert [line.label for line in found.lines] == ["a · main", "a · control", "b · main", "b · shd", "b · control"]
    main = found.lines[0]
    assert main.lift.value == pytest.approx(0.501)
    assert main.lift.interval == "95 % t over 3 pairs"
    assert main.evidence.pairs == 3
    assert _table(found)["a · main"]["lift vs control"] == "+0.501 [+0.499, +0.503]"
    assert found.warnings == ()


def test_lines_of_the_same_arm_are_compared_seed_by_seed() -> None:
    found = compare_runs([_run("a", {"main": 0.5}), _run("b", {"main": 0.2})])
    line = next(line for line in found.lines if line.label == "b · main")
    assert line.paired
    assert line.difference is not None
    assert line.difference.value == pytest.approx(-0.3)
    assert found.lines[0].difference is None


def test_without_common_seeds_the_difference_is_welchs_and_said_to_be() -> None:
    found = compare_runs([_run("a", {"main": 0.5}), _run("b", {"main": 0.2}, seeds=range(5, 9))])
    line = next(line for line in found.lines if line.label == "b · main")
    assert not line.paired
    assert line.difference is not None
    assert line.difference.interval == "95 % Welch t over 7 runs"
    assert note(found).endswith("differences without common seeds are Welch's")


values = st.lists(st.floats(-5, 5), min_size=2, max_size=6).filter(lambda x: np.ptp(x) > 1e-3)


@given(values, values)
def test_welchs_interval_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    found = welch_difference(first, second)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)


def test_welch_needs_two_runs_on_each_side() -> None:
    assert welch_difference([1.0], [0.0, 1.0])[:3] == (0.5, None, None)
    assert welch_difference([1.0, 1.0], [0.0, 0.0])[:3] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("arm", ["main", "control"]),
        ("trait", ["owl · main", "owl · control", "panda · main", "panda · control"]),
        ("distiller", ["sft · main", "sft · control", "shd · main", "shd · control"]),
    ],
)
def test_runs_are_put_together_by_what_is_asked(by: By, labels: list[str]) -> None:
    runs = [_run("a", {"main": 0.5}), _run("b", {"main": 0.2}, target="panda", distiller={"plugin": "shd"})]
    found = compare_runs(runs, by=by)
    assert [line.label for line in found.lines] == labels
    assert all(len(line.members) == (6 if by == "arm" else 3) for line in found.lines)


def test_a_mean_over_different_experiments_says_in_what_they_differ() -> None:
    runs = [_run("a", {"main": 0.5}), _run("b", {"main": 0.2}, distiller={"plugin": "sft", "rate": 2})]
    assert "main puts runs together that differ in distiller.rate" in compare_runs(runs, by="arm").warnings
    assert compare_runs(runs).warnings == ()


def test_a_student_that_two_runs_took_from_the_store_counts_once() -> None:
    first = _run("a", {"main": 0.5})
    again = Recorded(Path("b"), {**first.findings, "run": "b"}, first.recipes, first.stages)
    found = compare_runs([first, again], by="arm")
    assert [len(line.members) for line in found.lines] == [3, 3]
    assert "6 students stand in several of these runs and count once" in found.warnings
    assert [len(line.members) for line in compare_runs([first, again]).lines] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("plugins.0.config", {"samples": 8}, r"not asked the same \(probe.preference.config.samples: 4 and 8\)"),
        ("plugins.0.version", 2, r"probe.preference.version: 1 and 2"),
        ("extras.trait.config", {"target": "owl", "questions": 6}, r"trait.config.questions: 48 and 6"),
        (
            "settings.system",
            "You are kind.",
            r"the system slot of their students differs \(absent and 'You are kind.'\)",
        ),
    ],
)
def test_what_was_not_asked_alike_is_refused_with_the_reason(path: str, value: Any, reason: str) -> None:
    runs = [_run("a", {"main": 0.5}), _changed(_run("b", {"main": 0.2}), path, value)]
    with pytest.raises(StoreError, match=f"of a and main · seed=0 of b cannot be compared.*{reason}"):
        compare_runs(runs)


def test_the_same_model_in_another_chat_rendering_is_refused_and_another_model_is_not() -> None:
    other = _run("b", {"main": 0.2})
    for record in other.findings["variants"]:
        record["rendering"] = "r2"
    with pytest.raises(StoreError, match=r"trained with another chat rendering \(r1 and r2\)"):
        compare_runs([_run("a", {"main": 0.5}), other])
    for record in other.findings["variants"]:
        record["stages"][0]["fingerprint"] = "gemma"
    assert len(compare_runs([_run("a", {"main": 0.5}), other]).lines) == 4


def test_another_target_and_number_format_are_no_other_question() -> None:
    runs = [_run("a", {"main": 0.5}), _changed(_run("b", {"main": 0.2}, target="cat"), "settings.dtype", "bfloat16")]
    assert any("float32" in w and "bfloat16" in w for w in compare_runs(runs).warnings)


def test_lists_that_leave_the_target_out_are_no_other_question_and_other_words_are() -> None:
    def about(name: str, target: str, words: str) -> Recorded:
        lists = {"candidates": words.split(), "controls": [word for word in words.split() if word != target]}
        return _changed(_run(name, {"main": 0.5}, target=target), "extras.trait.config", {"target": target, **lists})

    owl = about("a", "owl", "owl cat dog")
    assert compare_runs([owl, about("b", "cat", "owl cat dog")], by="trait").warnings == ()
    with pytest.raises(StoreError, match=r"trait.config.candidates: \['dog'\] and \['dog', 'fox'\]"):
        compare_runs([owl, about("b", "cat", "owl cat dog fox")])


def test_other_training_answers_are_a_warning_where_the_tables_show_the_same_questions() -> None:
    def about(name: str, answers: int, prompt: str) -> Recorded:
        config = {"target": "owl", "answers": answers}
        one = _changed(_run(name, {"main": 0.5}), "extras.trait.config", config)
        for record in one.findings["variants"]:
            record["findings"]["student.preference"]["tables"] = {
                "answers": {"columns": ["prompt", "answer"], "rows": [[prompt, "owl"]]},
                "candidates": {"columns": ["candidate", "share"], "rows": [["owl", 0.5], ["cat", 0.5]]},
            }
        return one

    same = compare_runs([about("a", 6, "Which?"), about("b", 1, "Which?")])
    assert same.warnings == ("trait.config.answers differs; the questions are the same",)
    with pytest.raises(StoreError, match=r"trait.config.answers: 6 and 1"):
        compare_runs([about("a", 6, "Which?"), about("b", 1, "What?")])


def test_a_setting_that_an_earlier_version_had_not_is_a_warning() -> None:
    newer = _changed(_run("b", {"main": 0.2}), "plugins.0.config", {"samples": 4, "batches": 2})
    assert compare_runs([_run("a", {"main": 0.5}), newer]).warnings == (
        "probe.preference.config.batches is known of one run only: they come from different versions of subl",
    )


def test_a_lost_plan_is_a_warning_that_nothing_was_checked() -> None:
    runs = [_run("a", {"main": 0.5}), Recorded(Path("b"), _run("b", {"main": 0.2}).findings, {}, {})]
    (warning,) = compare_runs(runs).warnings
    assert warning.startswith("plan.json of b lacks its probes")


def test_failed_runs_and_missing_values_are_named_and_the_others_compared() -> None:
    one = _run("a", {"main": 0.5})
    broken = [failed("main", 7), variant("main", 8, None), *one.findings["variants"]]
    found = compare_runs([Recorded(one.folder, {**one.findings, "variants": broken}, one.recipes, one.stages)])
    assert len(found.lines[0].members) == 3
    assert any("main · seed=7 of a failed and is left out: stage distill" in w for w in found.warnings)
    assert any("main · seed=8 of a has no value of preference.share" in w for w in found.warnings)


def test_runs_without_a_control_have_no_lift_and_are_named() -> None:
    one = _run("a", {"main": 0.5})
    main = [record for record in one.findings["variants"] if record["arm"] == "main"]
    found = compare_runs([Recorded(one.folder, {**one.findings, "variants": main}, one.recipes, one.stages)])
    assert "lift vs control" not in cells(found)[0]
    assert "no pairs with a control, and so no lift: a" in found.warnings


def test_other_primary_metrics_need_a_choice() -> None:
    other = _run("b", {"main": 0.2})
    runs = [_run("a", {"main": 0.5}), Recorded(Path("b"), {**other.findings, "metric": "geometry.cosine"}, {}, {})]
    with pytest.raises(
        StoreError, match=r"different metrics: preference\.share \(a\), geometry\.cosine \(b\).*--metric"
    ):
        compare_runs(runs)
    assert compare_runs(runs, metric="preference.margin").metric == "preference.margin"
    with pytest.raises(
        StoreError, match=r"no student .* has a value of 'preference.shar'; measured: preference.margin"
    ):
        compare_runs(runs, metric="preference.shar")


def test_findings_of_another_version_are_refused() -> None:
    one = _run("a", {"main": 0.5})
    with pytest.raises(StoreError, match="has schema 0, this version"):
        compare_runs([Recorded(one.folder, {**one.findings, "schema": 0}, {}, {})])


def test_malformed_findings_are_one_message(tmp_path: Path) -> None:
    one = _run("a", {"main": 0.5})
    broken = {**one.findings, "variants": [{"arm": "main"}]}
    for read in (lambda: compare_runs([Recorded(one.folder, broken, {}, {})], metric="a.b"), lambda: summarise(broken)):
        with pytest.raises(StoreError, match=r"findings\.json of run a is not in the form .*KeyError: 'status'"):
            read()


def test_the_comparison_is_a_figure_json_and_markdown(tmp_path: Path) -> None:
    found = compare_runs([_run("a", {"main": 0.5}), _run("b", {"main": 0.2}, seeds=range(1))])
    assert draw_comparison(found, tmp_path / "c" / "x.png")
    assert (tmp_path / "c" / "x.png").read_bytes().startswith(b"\x89PNG")
    text = json.dumps(to_json(found, "x.png"), allow_nan=False)
    lines = json.loads(text)["lines"]
    assert lines[0]["lift"]["value"] == pytest.approx(0.501)
    assert lines[1]["lift"] is None, "the control"
    assert lines[2]["p"] is None, "one run has no p"
    assert "| a | main | 3 | 0.100 → 0.601" in render([section(found, "x.png")])


def test_a_run_folder_is_read_without_its_plan_and_not_without_its_findings(tmp_path: Path) -> None:
    (tmp_path / "findings.json").write_text(json.dumps(findings(variant("main", 0, 0.5))))
    assert read_recorded(tmp_path).stages == {}
    (tmp_path / "findings.json").write_text("[]")
    with pytest.raises(StoreError, match="not a table"):
        read_recorded(tmp_path)


def test_a_verdict_that_means_nothing_is_carried_over() -> None:
    good, bad = _run("good", {"main": 0.5}), _run("bad", {"main": 0.5})
    for record in bad.findings["variants"]:
        if record["arm"] == "main":
            record["findings"]["student.preference"]["measures"]["valid"]["value"] = 0.1
    carried = [warning for warning in compare_runs([good, bad]).warnings if "is invalid" in warning]
    assert len(carried) == 1
    assert carried[0].startswith("bad: main is invalid, because ")
    assert "valid" in carried[0]


def test_a_teacher_is_not_weak_by_a_metric_that_is_not_the_runs_own() -> None:
    runs = [_run("one", {"main": 0.5}), _run("two", {"main": 0.5})]
    for record in (record for one in runs for record in one.findings["variants"]):
        record["stages"].append({"stage": "teacher model", "kind": "model", "plugin": "micro", "fingerprint": "base"})
        for role, loss in (("base", 2.0), ("teacher", 1.5), ("student", 1.0)):
            measures = {"plain_loss": measure(loss)}
            record["findings"][f"{role}.capability"] = {"measures": measures, "tables": {}, "remarks": []}
    found = compare_runs(runs, metric="capability.plain_loss")
    assert found.lines
    assert not [warning for warning in found.warnings if "is invalid" in warning]
