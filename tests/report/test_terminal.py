from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from subl.report.summary import summarise
from subl.report.terminal import print_summary
from tests.report.forged import findings, three_arms, variant


def _printed(record: Mapping[str, Any], *, width: int = 80) -> str:
    file = io.StringIO()
    print_summary(summarise(record), Console(file=file, width=width))
    return file.getvalue()


def test_a_run_of_three_seeds_fits_80_columns() -> None:
    text = _printed(three_arms(3))
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()
    (main,) = (number for number, line in enumerate(lines) if line.strip().startswith("main "))
    assert lines[main].split() == ["main", "0.100", "→", "0.700", "0.980", "−1.000", "→", "0.500", "+0.600", "3"]
    assert lines[main + 1].split() == ["[0.601,", "0.799]", "[+0.525,", "+0.675]"]
    assert "Does an owl preference cross through numbers?" in lines


def test_a_run_of_one_seed_shows_no_interval_for_the_lift() -> None:
    text = _printed(three_arms(1))
    assert "[0.680, 0.720]" in text
    assert "[+" not in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_long_names_fold_and_numbers_do_not(width: int) -> None:
    records = [
        variant(arm, 0, 0.5, point={"seed": 0, "inducer.train.learning_rate": 0.001})
        for arm in ("main", "control", "a_rather_long_name_of_an_arm")
    ]
    text = _printed(findings(*records), width=width)
    assert "0.100 → 0.500" in text or width == 40
    assert "control" in text


def test_text_of_a_recipe_is_not_read_as_markup() -> None:
    assert "[bold]owl[/bold] [/]" in _printed(findings(variant("main", 0, 0.5), title="[bold]owl[/bold] [/]"))


def test_columns_that_no_run_fills_are_left_out() -> None:
    record = variant("main", 0, 0.5)
    for found in record["findings"].values():
        found["measures"].pop("valid", None)
        found["measures"].pop("margin", None)
    text = _printed(findings(record))
    assert "margin" not in text
    assert "valid" not in text


def test_findings_without_any_run_print_why() -> None:
    assert "no run has a value" in _printed(findings())


def test_a_grid_of_many_contrasts_is_told_by_verdict() -> None:
    records = [
        variant(
            arm, seed, 0.1 + 0.0001 * seed * len(arm) + (arm == "main") * 0.5, point={"seed": seed, "data.rows": rows}
        )
        for arm in ("main", "other", "control")
        for rows in range(5)
        for seed in range(2)
    ]
    text = " ".join(_printed(findings(*records)).split())
    assert "transferred: main · rows=0, main · rows=1" in text
    assert "no transfer detected: other · rows=0" in text
    assert "each of the 10 contrasts" in text
    assert "rows=3 0.100" in text or "rows=3" in text
