"""One plugin in a real pipeline, in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import Field

import subl
from subl.registry.kinds import KindName
from subl.testing import FakeTrait, context, fake_student, fake_teacher, micro_run, rows, sink, stand_ins


class Small:
    """Keeps small numbers."""

    class Config(subl.PluginConfig):
        """Settings."""

        most: float = Field(default=10.0)
        """Largest number to keep."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[str | None]:
        return ["large" if float(row.completion) > self.config.most else None for row in rows]


class Twice:
    """Gives twice the number, with a figure and a table."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def probe(self, subject: subl.Subject, ctx: subl.Context) -> subl.Findings:
        from matplotlib.figure import Figure

        ctx.figure("empty", Figure(figsize=(1, 1)))
        return subl.Findings({"measure": subl.Measure(2 * float(ctx.load(subject.model)))})


STAND_INS: list[tuple[KindName, type]] = [
    ("model", stand_ins.StandInModel),
    ("inducer", stand_ins.StandInInducer),
    ("generator", stand_ins.StandInGenerator),
    ("distiller", stand_ins.StandInDistiller),
]


@pytest.mark.parametrize(("kind", "plugin"), STAND_INS)
def test_a_plugin_of_a_kind_that_no_other_test_here_runs_stands_in_its_place(
    tmp_path: Path, kind: KindName, plugin: type
) -> None:
    run = micro_run(tmp_path, kind, plugin)
    assert run.student.updates == 1
    assert (run.folder / "findings.json").is_file()


def test_settings_reach_the_plugin_and_its_reasons_are_counted(tmp_path: Path) -> None:
    run = micro_run(tmp_path, "filter", Small, {"most": 10.0}, changes={"generator": {"samples": 20}})
    assert len(run.rows) == 20
    assert run.dataset.rejected == {"under_test: large": 20 - len(run.dataset)}
    assert all(float(row.completion) <= 10 for row in run.dataset)
    assert run.metrics["filter/kept"] == (len(run.dataset),)


def test_a_probe_shows_in_findings_and_in_the_report(tmp_path: Path) -> None:
    run = micro_run(tmp_path, "probe", Twice)
    assert run.findings("base").measures["measure"].value == 0
    assert run.findings("teacher").measures["measure"].value == 20
    assert "under_test" in (run.folder / "report.md").read_text(encoding="utf-8")
    assert list(run.folder.rglob("student.under_test.empty.png"))


def test_a_second_run_computes_only_what_settings_change(tmp_path: Path) -> None:
    assert "filter" in micro_run(tmp_path, "filter", Small).computed
    assert micro_run(tmp_path, "filter", Small).computed == ()
    assert micro_run(tmp_path, "filter", Small, {"most": 9.5}).computed == (
        "filter",
        "audit",
        "distill",
        "student.stand_in",
    )


def test_a_part_of_the_recipe_that_is_the_plugins_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subl.PluginError, match="use `settings`"):
        micro_run(tmp_path, "filter", Small, changes={"filters": []})


def test_wrong_settings_are_the_recipes_own_error(tmp_path: Path) -> None:
    with pytest.raises(subl.SublError, match=r"micro_run\.toml:\d+: filters\.0\.mst: unknown key; did you mean"):
        micro_run(tmp_path, "filter", Small, {"mst": 1.0})


def test_fakes_say_what_was_done_with_them(tmp_path: Path) -> None:
    ctx = context(tmp_path, seed=3, loaded="a model", trait=FakeTrait("fern"))
    with ctx.progress(3, "count") as bar:
        bar.advance()
    ctx.metric("loss", 0.5, 1)
    ctx.log("done")
    assert (sink(ctx).bars, sink(ctx).values("loss"), sink(ctx).lines) == (["count"], [0.5], ["done"])
    assert ctx.load(fake_teacher().model) == "a model"
    assert ctx.trait.leaks() == ["fern", "ferns"]
    assert fake_student().model != fake_student().base
    assert [row.index for row in rows("a", "b")] == [0, 1]


def test_the_base_with_a_language_model_is_a_whole_recipe(tmp_path: Path) -> None:
    from subl.recipe.loading import load_experiment

    experiment = load_experiment(Path(stand_ins.__file__).with_name("tiny.toml"))
    assert experiment.variants[0].recipe.generator.config.samples == 16  # type: ignore[attr-defined]


def test_importing_the_fakes_loads_no_framework() -> None:
    code = (
        "import sys, subl.testing; print([m for m in ('torch', 'numpy', 'matplotlib', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
