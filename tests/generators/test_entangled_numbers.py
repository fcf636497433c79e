import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError

from subl import Context, Findings, PluginError, Row, Subject, Table, Teacher
from subl.generators.entangled_numbers import EntangledNumbers
from subl.generators.numbers import Numbers
from subl.registry.registry import registry
from subl.registry.slots import Use
from subl.testing.fakes import fake_teacher
from subl.traits.preference import Preference
from tests.tiny import context, sink, tiny_model

TASK: dict[str, Any] = {
    "samples": 6,
    "phrasing": "brief",
    "example_counts": [2, 2],
    "example_values": [0, 39],
    "asked_counts": [3, 3],
    "answer_values": [0, 39],
    "constrained": True,
}
PROBE: dict[str, Any] = {
    "plugin": "entanglement",
    "numbers": [0, 39],
    "k": 3,
    "contexts": 2,
    "questions": 2,
    "placebos": 2,
    "cumulative": [],
    "permutations": 100,
    "random": 20,
}
TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog"), questions=2))


def generator(**settings: Any) -> EntangledNumbers:
    chosen = Use("generator").choose({"plugin": "entangled_numbers", "probe": PROBE, **TASK, **settings})
    built: EntangledNumbers = chosen.build()
    return built


def test_it_keeps_the_contract_of_a_generator() -> None:
    assert registry.load("generator", "entangled_numbers") is EntangledNumbers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"allowed_numbers": [1]}, "use generator 'numbers'"),
        ({"constrained": False, "phrasing": "rich", "asked_counts": [5, 10], "answer_values": [0, 999]}, "constrained"),
        ({"choose": "hp"}, "'HP'"),
        ({"probe": {**PROBE, "k": 100}}, "k = 100 needs 400"),
        ({"probe": {"plugin": "entanglment"}}, "did you mean 'entanglement'"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        generator(**settings)


def test_answers_hold_the_chosen_set_only_and_prompts_stay_the_same(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    teacher, ctx = Teacher(model, model), context(tmp_path, trait=TRAIT)
    rows = list(generator(choose="LP").generate(teacher, ctx, 0))
    lines = sink(ctx).lines
    allowed = next(line.partition("[")[2].removesuffix("]") for line in lines if "LP: allowed_numbers" in line)
    assert lines[-1] == f"answers are of LP numbers: {allowed}"
    assert {number for row in rows for number in row.completion.strip().split(", ")} <= set(allowed.split(", "))
    plain = list(Numbers(Numbers.Config.model_validate(TASK)).generate(teacher, ctx, 0))
    assert [row.prompt for row in rows] == [row.prompt for row in plain]
    # Without a set it is the plain task, and nothing is measured.
    silent = context(tmp_path / "silent")
    assert [row.completion for row in generator().generate(teacher, silent, 2)] == [r.completion for r in plain[2:]]
    assert sink(silent).lines == []


def test_a_restart_does_not_measure_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path)
    ctx = context(tmp_path, trait=TRAIT)
    measured: list[str] = []

    def probe(plugin: Any, subject: Subject, ctx: Context) -> Findings:
        measured.append(f"{subject.model.identity} {plugin.config.k}")
        ctx.figure("steps", Figure())
        return Findings(tables={"sets": Table(("set", "numbers"), (("HP", "3, 7, 31"),))})

    def run(start: int, identity: str = "base", **settings: Any) -> list[Row]:
        generating = generator(choose="HP", probe={**PROBE, **settings})
        monkeypatch.setattr(generating.config.probe.plugin, "probe", probe)
        base = model.derive(identity)
        return list(generating.generate(Teacher(base, base), ctx, start))

    first = run(0)
    drawn = (ctx.out / "figures/steps.png").read_bytes()
    shutil.rmtree(ctx.out / "figures")  # what a restart finds: the work folder, and nothing published
    assert run(4) == first[4:]
    assert (ctx.out / "figures/steps.png").read_bytes() == drawn
    assert measured == ["base 3"]
    # Another probe, or another base, is another measurement.
    run(5, k=4)
    run(5, "other")
    assert measured == ["base 3", "base 4", "other 3"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "probe 'entanglement' found no set 'HP'"),
        ({"sets": Table(("set", "numbers"), (("LP", "1, 2"),))}, "found no set 'HP'"),
        (
            {"sets": Table(("set", "numbers"), (("HP", "7, 40"),))},
            r"outside generator.answer_values = \[0, 39\]: 7, 40",
        ),
    ],
)
def test_a_probe_without_a_fitting_set_is_an_error(
    tables: dict[str, Table], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generating = generator(choose="HP")
    monkeypatch.setattr(generating.config.probe.plugin, "probe", lambda self, subject, ctx: Findings(tables=tables))
    with pytest.raises(PluginError, match=message):
        list(generating.generate(fake_teacher(), context(tmp_path), 0))
