import json

from subl.tracking.view import COLUMNS, LONGEST, view_state


def test_the_primary_metric_comes_first_and_sorts_the_runs() -> None:
    metrics = {"distill/loss": True, "base.p.share": False, "student.p.rank": False, "student.p.share": False}
    view = json.loads(view_state("abc", ["arm", "seed"], metrics, "student.p.share"))
    assert view["searchFilter"] == "tags.mlflow.parentRunId = 'abc'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`student.p.share`", False)
    assert view["selectedColumns"] == [
        "params.`arm`",
        "params.`seed`",
        "metrics.`student.p.share`",
        "metrics.`student.p.rank`",
    ]
    assert [chart["metricKey"] for chart in view["compareRunCharts"]] == [
        "student.p.share",
        "student.p.rank",
        "base.p.share",
        "distill/loss",
    ]
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == sections


def test_bounds_of_intervals_are_not_charted() -> None:
    metrics = {"student.p.share": False, "student.p.share.low": False, "student.p.share.high": False}
    view = json.loads(view_state("abc", [], metrics, "student.p.share"))
    assert [chart["metricKey"] for chart in view["compareRunCharts"]] == ["student.p.share"]


def test_without_its_metric_runs_are_sorted_by_name() -> None:
    view = json.loads(view_state("abc", [], {"distill/loss": True}, "student.p.share"))
    assert (view["orderByKey"], view["orderByAsc"]) == ("tags.`mlflow.runName`", True)


def test_with_many_metrics_the_view_still_fits_and_keeps_what_matters_most() -> None:
    metrics = {f"{role}.probe_{i}.measure": False for role in ("student", "teacher", "base") for i in range(150)}
    metrics |= {f"distill/curve_{i}": True for i in range(20)}
    text = view_state("abc" * 10, ["arm", "seed"], metrics, "student.probe_7.measure")
    view = json.loads(text)
    assert len(text) <= LONGEST
    charted = [chart["metricKey"] for chart in view["compareRunCharts"]]
    assert charted[0] == "student.probe_7.measure"
    assert len(charted) > 40
    assert not [name for name in charted if name.startswith(("base", "teacher"))]
    assert len(view["selectedColumns"]) == 2 + COLUMNS
