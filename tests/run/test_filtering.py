import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subl.artifacts import Row
from subl.context import Context
from subl.errors import PluginError
from subl.registry.config import PluginConfig
from subl.run.filtering import FORECASTS, Counts, apply_filters, forecast, hopeless, subset
from subl.testing import micro_run
from tests.tiny import context


class Odd:
    def reject(self, rows: Sequence[Row], ctx: Context) -> list[str | None]:
        return ["odd" if row.index % 2 else None for row in rows]


class Fives:
    def __init__(self) -> None:
        self.saw: list[int] = []

    def reject(self, rows: Sequence[Row], ctx: Context) -> list[str | None]:
        self.saw += [row.index for row in rows]
        return ["five" if row.index % 5 == 0 else None for row in rows]


def rows(count: int) -> list[Row]:
    return [Row(i, "p", f"c{i}") for i in range(count)]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_first_filter_that_objects_is_named_and_later_ones_do_not_see_the_row(
    tmp_path: Path, batch_size: int
) -> None:
    fives = Fives()
    judged = list(apply_filters([("odd", Odd()), ("fives", fives)], rows(11), context(tmp_path), batch_size=batch_size))
    assert [row.index for row, _ in judged] == list(range(11))
    assert [reason for _, reason in judged[:6]] == ["fives: five", "odd: odd", None, "odd: odd", None, "odd: odd"]
    assert fives.saw == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(("answer", "said"), [([], "0 reasons for 4 rows"), ([False] * 4, "a reason is text")])
def test_a_filter_that_breaks_its_contract_is_named(tmp_path: Path, answer: list[object], said: str) -> None:
    class Broken:
        def reject(self, rows: list[Row], ctx: Context) -> list[object]:
            return answer

    with pytest.raises(PluginError, match=said):
        list(apply_filters([("broken", Broken())], rows(4), context(tmp_path), batch_size=4))  # type: ignore[list-item]


def test_rejections_are_described_with_shares_and_examples() -> None:
    counts = Counts()
    for row in rows(10):
        counts.add(row, "length: too long" if row.index < 8 else None)
    text = counts.describe()
    assert "80%  length: too long" in text
    assert text.count("e.g.") == 3
    assert "'c0'" in text


@given(seen=st.integers(1, 5000), share=st.floats(0, 1), samples=st.integers(1, 50_000), wanted=st.integers(1, 50_000))
def test_the_bound_is_wilsons(seen: int, share: float, samples: int, wanted: int) -> None:
    kept = round(seen * share)
    outlook = forecast(kept, seen, samples, wanted)
    # Scipy's interval is two-sided: 98 % leaves 1 % above.
    upper = stats.binomtest(kept, seen).proportion_ci(0.98, method="wilson").high
    assert outlook.at_most == pytest.approx(kept + upper * max(samples - seen, 0), rel=1e-6)
    if outlook.expected >= wanted and kept:
        assert not outlook.hopeless


def test_rows_that_are_all_kept_and_just_enough_give_hope() -> None:
    assert forecast(78, 78, 174, 174).at_most == 174


def test_the_classic_failure_is_seen_after_256_rows() -> None:
    assert forecast(0, 256, 800, 1).hopeless, "0 of 800 rows kept"
    assert not forecast(1, 256, 800, 1).hopeless
    assert forecast(20, 256, 30_000, 10_000).hopeless


@given(st.sets(st.integers(0, 400), min_size=50), st.sets(st.integers(0, 400), min_size=50), st.integers(0, 99))
def test_two_arms_keep_as_many_prompts_in_common_as_they_can(one: set[int], two: set[int], seed: int) -> None:
    def kept(indices: set[int]) -> list[int]:
        return [row.index for row in subset([Row(i, "", "") for i in sorted(indices)], 40, seed)]

    first, second = kept(one), kept(two)
    assert len(first) == len(second) == 40
    assert first == sorted(first)
    # Whatever one arm keeps and the other has, the other keeps too, unless rows that only it has rank before.
    lost = [i for i in first if i in two and i not in second]
    assert len(lost) <= len([i for i in second if i not in one])


def test_a_filter_that_draws_is_told_once_when_all_rows_were_seen(tmp_path: Path) -> None:
    class Watching:
        """Counts rows, and draws when it has seen all of them."""

        version = 1
        finished: ClassVar[list[int]] = []

        class Config(PluginConfig):
            """Nothing to set."""

        def __init__(self, config: Config) -> None:
            self.seen = 0

        def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:
            self.seen += len(rows)
            return [None] * len(rows)

        def finish(self, ctx: Context) -> None:
            from matplotlib.figure import Figure

            self.finished.append(self.seen)
            ctx.figure("seen", Figure(figsize=(1, 1)))

    run = micro_run(tmp_path, "filter", Watching, until="filter")
    assert Watching.finished == [40]
    figures = json.loads((run.folder / "findings.json").read_text())["variants"][0]["figures"]
    assert figures == {"filter": ["figures/main/filter.seen.png"]}
    assert (run.folder / figures["filter"][0]).is_file()


def test_rows_are_not_filtered_while_they_come_once_the_last_forecast_is_made(tmp_path: Path) -> None:
    fives = Fives()
    source = iter(rows(FORECASTS[-1] + 300))
    told = list(hopeless([("fives", fives)], source, context(tmp_path), samples=10_000, wanted=9_000))
    assert fives.saw == list(range(FORECASTS[-1]))
    assert [row.index for row in source] == list(range(FORECASTS[-1], FORECASTS[-1] + 300)), "the rest is left"
    assert [message.split(" ")[1] for message in told] == ["256", "1024", "4096"]
    assert "20%  fives: five" in told[0]
    assert list(hopeless([("fives", Fives())], iter(rows(5000)), context(tmp_path), samples=10_000, wanted=8)) == []
