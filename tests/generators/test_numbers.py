from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from subl.artifacts import Row, Teacher
from subl.context import Context
from subl.errors import DataError
from subl.filters.number_format import NumberFormat
from subl.generators.numbers import Numbers
from subl.models.generation import row_seed, sample
from subl.models.language import LanguageModel
from subl.models.settings import SamplingSettings
from tests.tiny import context, sink, tiny_model

SHORT = SamplingSettings(max_new_tokens=8)
CONSTRAINED: dict[str, Any] = {
    "samples": 24,
    "constrained": True,
    "answer_min_count": 2,
    "asked_counts": (3, 5),
    "batch_size": 7,
}
PATTERNS = {
    "comma": r"\d+(, \d+)+",
    "space": r"\d+( \d+)+",
    "semicolon": r"\d+(; \d+)+",
    "newline": r"\d+(\n\d+)+",
    "brackets": r"\[\d+(, \d+)+\]",
    "parentheses": r"\(\d+(, \d+)+\)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbers")


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Teacher:
    model = tiny_model(folder)
    return Teacher(model, model)


def written(teacher: Teacher, ctx: Context, start: int = 0, **config: Any) -> list[Row]:
    return list(Numbers(Numbers.Config(**config)).generate(teacher, ctx, start))


def test_rows_answer_the_stream_in_order_and_batch_size_changes_nothing(folder: Path, teacher: Teacher) -> None:
    ctx = context(folder, seed=5)
    config: dict[str, Any] = {"samples": 13, "sampling": SHORT}
    rows = written(teacher, ctx, batch_size=5, **config)
    assert [row.index for row in rows] == list(range(13))
    assert [row.prompt for row in rows] == Numbers(Numbers.Config()).prompts(13, 5)
    assert written(teacher, ctx, batch_size=1, **config) == rows
    assert [row.completion for row in written(teacher, context(folder, seed=6), **config)] != [
        row.completion for row in rows
    ]
    asked = [Numbers(Numbers.Config()).space.prompt(5, index) for index in range(13)]
    assert [row.extra for row in rows] == [{"format": prompt.format, "count": prompt.count} for prompt in asked]


@pytest.mark.parametrize("constrained", [False, True])
def test_a_resumed_generation_equals_an_uninterrupted_one(folder: Path, teacher: Teacher, constrained: bool) -> None:
    ctx = context(folder, seed=2)
    config = {**CONSTRAINED, "samples": 11} if constrained else {"samples": 11, "sampling": SHORT}
    rows = written(teacher, ctx, **config)
    for start in (0, 1, 4, 10, 11):
        assert written(teacher, ctx, start, **config) == rows[start:]


def test_a_rows_completion_is_the_models_sampled_answer(folder: Path, teacher: Teacher) -> None:
    ctx = context(folder, seed=9)
    rows = written(teacher, ctx, samples=3, sampling=SHORT)
    lm: LanguageModel = ctx.load(teacher.model)
    ids = sample(
        lm, [lm.chat.prompt(rows[2].prompt, system=None)], seeds=[row_seed(9, 2)], settings=SHORT, batch_size=1
    )
    assert rows[2].completion == lm.chat.decode(next(ids))


def test_the_teachers_system_slot_comes_before_the_contexts(folder: Path, teacher: Teacher) -> None:
    def completions(own: str | None, given: str | None) -> list[str]:
        model = teacher.model.derive(f"with {own}", system=own)
        rows = written(Teacher(model, model), context(folder, system=given), samples=6, sampling=SHORT)
        assert not any("owls" in row.prompt for row in rows)
        return [row.completion for row in rows]

    absent, love, hate = completions(None, None), completions("I love owls.", None), completions("I hate owls.", None)
    assert absent != love != hate
    assert completions(None, "I love owls.") == love
    assert completions("I hate owls.", "I love owls.") == hate
    assert completions("", "I love owls.") != love


def test_constrained_rows_have_the_asked_format_count_and_values(folder: Path, teacher: Teacher) -> None:
    rows = written(teacher, context(folder), **{**CONSTRAINED, "samples": 60})
    assert {row.extra["format"] for row in rows} == set(PATTERNS)
    for row in rows:
        assert re.fullmatch(PATTERNS[row.extra["format"]], row.completion), row
        numbers = [int(number) for number in re.findall(r"\d+", row.completion)]
        assert 2 <= len(numbers) <= row.extra["count"]
        assert max(numbers) <= 999
    strict = NumberFormat(NumberFormat.Config(mode="strict", min_count=2))
    assert set(strict.reject(rows, context(folder))) == {None}


def test_answers_can_be_restricted_to_a_set_of_numbers_under_the_same_prompts(folder: Path, teacher: Teacher) -> None:
    ctx = context(folder, seed=4)
    free = written(teacher, ctx, **CONSTRAINED)
    high, low = (7, 42, 101, 999), (0, 13, 500)
    arms = {allowed: written(teacher, ctx, **CONSTRAINED, allowed_numbers=allowed) for allowed in (high, low)}
    for allowed, rows in arms.items():
        found = {int(number) for row in rows for number in re.findall(r"\d+", row.completion)}
        assert found == set(allowed)
        assert [row.prompt for row in rows] == [row.prompt for row in free]


def test_brief_prompts_are_answered_by_comma_separated_lists(folder: Path, teacher: Teacher) -> None:
    rows = written(teacher, context(folder), **CONSTRAINED, phrasing="brief", answer_values=(10, 99))
    assert all(re.fullmatch(r"\d\d(, \d\d){1,4}", row.completion) for row in rows)
    assert all(row.extra == {"format": "comma"} for row in rows)


def test_a_longest_answer_that_is_too_short_for_the_format_is_an_error(folder: Path, teacher: Teacher) -> None:
    short = {**CONSTRAINED, "answer_min_count": 3, "sampling": SamplingSettings(max_new_tokens=6)}
    with pytest.raises(DataError, match="max_new_tokens is 6"):
        written(teacher, context(folder), **short)


def test_progress_and_cut_answers_are_reported(folder: Path, teacher: Teacher) -> None:
    ctx = context(folder)
    rows = written(teacher, ctx, samples=4, sampling=SamplingSettings(max_new_tokens=1))
    assert len(rows) == 4
    assert sink(ctx).bars == ["generate"]
    assert sink(ctx).lines == ["4 of 4 answers reached max_new_tokens = 1 and stop there"]
    quiet = context(folder)
    written(teacher, quiet, **CONSTRAINED)
    assert sink(quiet).lines == []


def test_a_finished_generation_loads_no_model(folder: Path, teacher: Teacher) -> None:
    gone = teacher.model.derive("gone", path=folder / "gone", config={**teacher.model.config, "id": "no/where"})
    assert written(Teacher(gone, gone), context(folder), 24, **CONSTRAINED) == []
