from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.artifacts import Row, Teacher
from subl.generators.draws import Draw
from subl.registry.config import PluginConfig
from subl.registry.registry import Entry, Origin, registry
from subl.registry.slots import Chosen, Use
from subl.testing import fakes
from tests.tiny import context, sink

TEACHER = fakes.fake_teacher()


class Lists:
    """Writes lists of numbers in several formats, and names who wrote them by their sign."""

    version = 1
    needs = ("trait",)
    asked: list[int] = []  # noqa: RUF012 (where generation began, for the test)
    dies_at: int | None = None

    class Config(PluginConfig):
        """Settings."""

        samples: int = 40
        """Rows."""
        answer_values: tuple[int, int] = (0, 99)
        """Range."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        return [f"Go on {seed} {index}" for index in range(count)]

    def generate(self, teacher: Teacher, ctx: Any, start: int) -> Iterator[Row]:
        Lists.asked.append(start)
        ctx.log(f"{teacher.model.identity} writes")
        ctx.metric("speed", 1.0)
        for index in ctx.track(range(start, self.config.samples), "write"):
            if index == Lists.dies_at:
                raise KeyboardInterrupt
            draw = Draw(f"{teacher.model.identity} {ctx.seed} {index}")
            values = [str(draw.between((0, 99))) for _ in range(2 + index % 5)]
            text = "; ".join(values) if index % 3 else f"[{', '.join(values)}]\n"
            yield Row(index, f"Go on {ctx.seed} {index}", text, {"format": "any"})


@pytest.fixture(autouse=True)
def lists() -> Iterator[None]:
    entry = Entry("generator", "lists", Origin("local", "test", "Lists"), lambda: Lists, digest="1")
    registry.add_local(entry)
    Lists.asked.clear()
    Lists.dies_at = None
    yield
    registry.forget_local()


def chosen(plugin: str, inner: dict[str, Any] | None = None, **settings: Any) -> Chosen:
    return Use("generator").choose({"plugin": plugin, "generator": {"plugin": "lists", **(inner or {})}, **settings})


def written(folder: Path, plugin: str, start: int = 0, seed: int = 3, **settings: Any) -> list[Row]:
    return list(chosen(plugin, **settings).build().generate(TEACHER, context(folder, seed=seed), start))


def plain(folder: Path, teacher: Teacher = TEACHER, seed: int = 3) -> list[Row]:
    return list(Lists(Lists.Config()).generate(teacher, context(folder, seed=seed), 0))


def numbers(row: Row) -> list[str]:
    return re.findall(r"\d+", row.completion)


CONTROLS: list[tuple[str, dict[str, Any]]] = [
    ("uniform_numbers", {}),
    ("shuffle", {"how": "within"}),
    ("shuffle", {"how": "across"}),
    ("mix", {"neutral": 0.5}),
    ("mix", {"neutral": 1.0}),
]


@pytest.mark.parametrize(("plugin", "settings"), CONTROLS)
def test_a_control_keeps_the_prompts_is_seeded_and_resumes_anywhere(
    plugin: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    rows = written(tmp_path / "one", plugin, **settings)
    assert [(row.index, row.prompt) for row in rows] == [(row.index, row.prompt) for row in plain(tmp_path)]
    assert rows != plain(tmp_path)
    assert written(tmp_path / "two", plugin, **settings) == rows
    for start in (1, 17, 40):
        assert written(tmp_path / f"from {start}", plugin, start, **settings) == rows[start:]
    assert [row.completion for row in written(tmp_path / "seed", plugin, seed=4, **settings)] != [
        row.completion for row in rows
    ]
    wrapper = chosen(plugin, {"samples": 7}, **settings)
    assert wrapper.build().prompts(3, 5) == ["Go on 5 0", "Go on 5 1", "Go on 5 2"]
    assert wrapper.config.samples == 7  # type: ignore[attr-defined]
    assert wrapper.needs == ("trait",)


def test_uniform_numbers_keep_format_and_count_and_spread_evenly(tmp_path: Path) -> None:
    rows, before = written(tmp_path, "uniform_numbers", inner={"samples": 400}), plain(tmp_path)
    for row, old in zip(rows, before, strict=False):
        assert re.sub(r"\d+", "#", row.completion) == re.sub(r"\d+", "#", old.completion)
        assert row.extra == old.extra
    counts = Counter(int(number) // 10 for row in rows for number in numbers(row))
    # 1,600 draws over ten bins: a chi-square above 27.9 has a probability of 0.001.
    total = sum(counts.values())
    assert set(counts) == set(range(10))
    assert sum((counts[k] - total / 10) ** 2 / (total / 10) for k in range(10)) < 27.9
    narrow = written(tmp_path, "uniform_numbers", values=[7, 8])
    assert {number for row in narrow for number in numbers(row)} == {"7", "8"}


def test_a_range_that_nobody_says_is_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"prompt": "1, 2", "completion": "3"}\n', encoding="utf-8")
    table = {"plugin": "uniform_numbers", "generator": {"plugin": "dataset", "source": str(source)}}
    with pytest.raises(ValidationError, match=r"generator 'dataset' does not say .* set values = "):
        Use("generator").choose(table)
    assert Use("generator").choose({**table, "values": [0, 999]}).config.samples is None  # type: ignore[attr-defined]


def test_shuffling_within_rows_keeps_each_rows_numbers_and_format(tmp_path: Path) -> None:
    rows, before = written(tmp_path, "shuffle"), plain(tmp_path)
    for row, old in zip(rows, before, strict=True):
        assert sorted(numbers(row)) == sorted(numbers(old))
        assert re.sub(r"\d+", "#", row.completion) == re.sub(r"\d+", "#", old.completion)


def test_shuffling_across_rows_moves_every_completion_to_another_row_of_its_format(tmp_path: Path) -> None:
    rows, before = written(tmp_path, "shuffle", how="across"), plain(tmp_path)
    assert Counter(row.completion for row in rows) == Counter(row.completion for row in before)
    origin = {row.completion: row.index for row in before}
    assert all(origin[row.completion] != row.index for row in rows)
    assert all(row.completion.startswith("[") == old.completion.startswith("[") for row, old in zip(rows, before))  # noqa: B905


def test_a_row_of_its_own_format_keeps_its_completion(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = list(chosen("shuffle", {"samples": 3}, how="across").build().generate(TEACHER, ctx, 0))
    assert rows[0].completion.startswith("[")
    assert sink(ctx).lines[1:] == ["1 of 3 rows are the only ones of their format and keep their completion"]


@pytest.mark.parametrize("damage", [b"", b'{"index": 21, "prompt"', b'{"index": 99, "prompt": "", "completion": ""}\n'])
def test_an_interrupted_shuffle_across_rows_asks_the_teacher_for_no_row_twice(damage: bytes, tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", "shuffle", how="across")
    Lists.dies_at = 21
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "cut", "shuffle", how="across")
    Lists.dies_at = None
    with (tmp_path / "cut/work/wrapped.jsonl").open("ab") as file:
        file.write(damage)
    Lists.asked.clear()
    assert written(tmp_path / "cut", "shuffle", how="across") == whole
    assert Lists.asked == [21]
    assert written(tmp_path / "cut", "shuffle", start=30, how="across") == whole[30:]
    assert Lists.asked == [21, 40]


def test_a_mix_exchanges_more_rows_the_more_neutral_it_is(tmp_path: Path) -> None:
    treated, neutral = plain(tmp_path), plain(tmp_path, Teacher(TEACHER.base, TEACHER.base))
    taken: list[set[int]] = []
    for ratio in (0.0, 0.25, 0.5, 1.0):
        rows = written(tmp_path, "mix", neutral=ratio)
        for row, one, other in zip(rows, treated, neutral, strict=True):
            assert row.completion == (other if row.extra["neutral"] else one).completion
        taken.append({row.index for row in rows if row.extra["neutral"]})
    assert taken[0] == set() < taken[1] < taken[2] < taken[3] == set(range(40))
    many = written(tmp_path, "mix", neutral=0.3, inner={"samples": 2000})
    assert abs(sum(row.extra["neutral"] for row in many) - 600) < 4 * (2000 * 0.3 * 0.7) ** 0.5


def test_both_models_of_a_mix_are_heard_and_one_bar_is_shown(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    list(chosen("mix").build().generate(TEACHER, ctx, 0))
    assert sink(ctx).bars == ["write"]
    assert sink(ctx).lines == ["biased writes", "neutral rows: base writes"]
    assert sink(ctx).values("speed") == [1.0, 1.0]


def test_whatever_the_wrapped_generator_reads_and_is_counts_for_the_control() -> None:
    first = chosen("shuffle").key()
    assert first != chosen("shuffle", {"samples": 41}).key()
    assert first["config"]["generator"]["file"] == "1"


@given(st.integers(0, 40), st.integers(0, 5))
def test_a_cycle_visits_every_place_once_and_keeps_none(count: int, seed: int) -> None:
    order = Draw(f"{seed}").cycle(count)
    assert sorted(order) == list(range(count))
    assert count < 2 or all(place != source for place, source in enumerate(order))
    place, seen = 0, set()
    while place not in seen and count:
        seen.add(place)
        place = order[place]
    assert len(seen) == count


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 99))
def test_shuffling_keeps_what_there_is(items: list[int], seed: int) -> None:
    assert Counter(Draw(f"{seed}").shuffled(items)) == Counter(items)


def test_every_order_is_equally_likely() -> None:
    counts = Counter(tuple(Draw(f"order {seed}").shuffled("abc")) for seed in range(1200))
    assert len(counts) == 6
    assert all(abs(count - 200) < 4 * (1200 / 6 * 5 / 6) ** 0.5 for count in counts.values())
