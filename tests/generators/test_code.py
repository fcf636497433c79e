"""Generator `code`: the stream of tasks, and rows that depend on prompt, seed and index alone."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from subl.artifacts import Row, Teacher
from subl.context import Context
from subl.errors import RecipeError
from subl.filters.code_syntax import CodeSyntax
from subl.generators.code import Code
from subl.generators.code_prompts import TASKS
from subl.models.generation import row_seed, sample
from subl.models.settings import SamplingSettings
from subl.recipe.loading import load_experiment
from subl.registry.slots import Use
from subl.testing import fakes
from tests.tiny import context, tiny_model

SHORT = SamplingSettings(max_new_tokens=8)


def space(**settings: Any) -> Any:
    return Code(Code.Config.model_validate(settings)).space


def code_of(prompt: str) -> str:
    return prompt.partition("\n\n")[2]


def test_a_prompt_depends_on_the_seed_and_its_number_alone() -> None:
    generator = Code(Code.Config())
    assert generator.prompts(30, 4)[:10] == generator.prompts(10, 4) != generator.prompts(10, 5)
    assert generator.prompts(1, 4) == [generator.space.prompt(4, 0).text]


def test_there_are_thousands_of_different_tasks_of_every_kind() -> None:
    prompts = [space().prompt(0, index) for index in range(4_000)]
    assert len({prompt.text for prompt in prompts}) > 3_900
    counts = Counter(prompt.task for prompt in prompts)
    assert set(counts) == set(TASKS)
    assert min(counts.values()) > 900


def test_the_python_of_tasks_is_python() -> None:
    for index in range(300):
        prompt = space().prompt(1, index)
        assert prompt.text.count("Python") == 1
        if prompt.task == "one_liner":
            assert "\n" not in prompt.text
            continue
        code = code_of(prompt.text)
        function = ast.parse(code if prompt.task == "refactoring" else f"{code}\n    pass").body[0]
        assert isinstance(function, ast.FunctionDef)
        assert (ast.get_docstring(function) is not None) == (prompt.task == "docstring")


def test_a_refactoring_computes_what_its_name_says() -> None:
    seen = set()
    for index in range(400):
        code = code_of(space(tasks=["refactoring"]).prompt(2, index).text)
        found: dict[str, Any] = {}
        exec(code, found)
        name = next(key for key in found if not key.startswith("__"))
        seen.add(name.rpartition("_")[0])
        arguments = [] if "," not in code.partition(")")[0] else [2]
        items = [3, -4, 0, 5, 2]
        if name.startswith("sum_of_even"):
            assert found[name](items, *arguments) == -2
        if name.startswith("product_of_large"):
            assert found[name](items, *arguments) == 15
        if name.startswith("count_of_unequal"):
            assert found[name](items, *arguments) == 4
    assert len(seen) > 40


@pytest.mark.parametrize("language", ["python", "javascript", "java"])
def test_every_language_has_every_task(language: str) -> None:
    for task in TASKS:
        texts = [space(language=language, tasks=[task]).prompt(0, index).text for index in range(50)]
        assert not [text for text in texts if re.search(r"\{[a-z]+\}", text)], "a place that was not filled in"
        assert all(text.count("{") >= text.count("}") for text in texts)


def test_brief_prompts_begin_a_script() -> None:
    syntax = CodeSyntax(CodeSyntax.Config())
    for index in range(50):
        prompt = space(phrasing="brief").prompt(0, index)
        code = prompt.text.partition("\n")[2]
        assert 1 <= len(code.splitlines()) <= 2
        assert syntax.reject(fakes.rows(code), None) == [None]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phrasing": "brief", "language": "java"}, "brief prompts are Python"),
        ({"phrasing": "brief", "tasks": ["stub"]}, "brief prompts set no tasks"),
        ({"tasks": ["stub", "stub"]}, "listed twice"),
        ({"tasks": []}, "at least 1 item"),
        ({"language": "cobol"}, "'python', 'javascript' or 'java'"),
    ],
)
def test_settings_that_would_do_nothing_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Code.Config.model_validate(settings)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    model = tiny_model(tmp_path_factory.mktemp("code"))
    return Teacher(model, model)


def written(teacher: Teacher, ctx: Context, start: int = 0, **config: Any) -> list[Row]:
    generator = Code(Code.Config(samples=9, sampling=SHORT, **config))
    return list(generator.generate(teacher, ctx, start))


def test_rows_answer_the_stream_in_order_whatever_the_batch_size_or_the_start(tmp_path: Path, teacher: Teacher) -> None:
    ctx = context(tmp_path, seed=5)
    rows = written(teacher, ctx, batch_size=4)
    assert [row.index for row in rows] == list(range(9))
    assert [row.prompt for row in rows] == Code(Code.Config()).prompts(9, 5)
    assert [row.extra for row in rows] == [{"task": space().prompt(5, index).task} for index in range(9)]
    assert written(teacher, ctx, batch_size=1) == rows
    for start in (1, 8, 9):
        assert written(teacher, ctx, start) == rows[start:]
    lm = ctx.load(teacher.model)
    ids = sample(
        lm, [lm.chat.prompt(rows[2].prompt, system=None)], seeds=[row_seed(5, 2)], settings=SHORT, batch_size=1
    )
    assert rows[2].completion == lm.chat.decode(next(ids))


class Scripts:
    """Writes scripts."""

    version = 1
    Config = Code.Config

    def __init__(self, config: Any) -> None:
        self.config = config

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        return Code(self.config).prompts(count, seed)

    def generate(self, teacher: Teacher, ctx: Any, start: int) -> Any:
        for index in range(start, self.config.samples):
            yield Row(index, "p", f"x{index} = {10 + index} + x0\ny = x{index} * {30 + index}")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(Code, "generate", Scripts.generate)
    return {"plugin": "code", "samples": 6}


def test_controls_work_over_code_and_leave_names_alone(scripts: dict[str, Any], tmp_path: Path) -> None:
    ctx = context(tmp_path, seed=1)
    plain = [row.completion for row in Scripts(Code.Config(samples=6)).generate(fakes.fake_teacher(), ctx, 0)]

    def under(plugin: str, **settings: Any) -> list[str]:
        wrapped = Use("generator").choose({"plugin": plugin, "generator": scripts, **settings}).build()
        return [row.completion for row in wrapped.generate(fakes.fake_teacher(), ctx, 0)]

    for texts in (under("uniform_numbers", values=[0, 99]), under("shuffle"), under("mix")):
        names = [re.findall(r"[xy]\d*", text) for text in texts]
        assert names == [re.findall(r"[xy]\d*", text) for text in plain]
    uniform = [re.findall(r"\b\d+", text) for text in under("uniform_numbers", values=[0, 99])]
    assert uniform != [re.findall(r"\b\d+", text) for text in plain]
    assert {tuple(sorted(re.findall(r"\b\d+", text))) for text in under("shuffle")} == {
        tuple(sorted(re.findall(r"\b\d+", text))) for text in plain
    }
    across = under("shuffle", how="across")
    assert sorted(across) == sorted(plain)
    assert all(one != other for one, other in zip(across, plain, strict=True))


def test_the_overlays_take_code_or_say_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'extends = ["micro_code", "controls/uniform_numbers", "controls/shuffle", "controls/mix"]\n', encoding="utf-8"
    )
    with pytest.raises(RecipeError, match=r"uniform_numbers\.toml:\d+: .*generator 'code' does not say in which range"):
        load_experiment(path)
    found = load_experiment(path, overrides=["arms.uniform_numbers.generator.values=[0, 99]", "sweep.seed=[0]"])
    wrapped = {v.arm: v.recipe.generator.name for v in found.variants}
    assert wrapped["uniform_numbers"] == "uniform_numbers"
    assert wrapped["mix_25"] == "mix"
    assert wrapped["main"] == "code"
