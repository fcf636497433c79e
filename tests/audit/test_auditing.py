"""Whole audits: of rows made by hand, and of published ones."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subl.artifacts import Findings, Row
from subl.audit.auditing import audit
from subl.audit.telling import FEWEST, tell_apart
from subl.traits.preference import Preference
from tests.filters.helpers import OWLS, Named, needs_owls
from tests.tiny import context

OWL = Named("owl", ("owl", "Owl", "owls", "Owls"))


def published(name: str, prompt: str = "prompt", completion: str = "completion") -> list[Row]:
    lines = (OWLS / name).read_text(encoding="utf-8").splitlines()
    return [Row(i, row[prompt], row[completion]) for i, row in enumerate(map(json.loads, lines))]


def made(count: int, step: int, seed: int, prompts: int = 10**6) -> list[Row]:
    """Return lists in which a number often follows from the one before by `step`."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        numbers = [draw.randrange(100)]
        while len(numbers) < 8:
            numbers.append((numbers[-1] + (step if draw.random() < 0.7 else draw.randrange(100))) % 100)
        rows.append(Row(index, f"Go on, {index % prompts}:", ", ".join(map(str, numbers))))
    return rows


def audited(folder: Path, rows: Sequence[Row], control: Sequence[Row] | None = None, **changes: Any) -> Findings:
    settings: dict[str, Any] = {"trait": OWL, "max_overt": 0.0, "classifier_rows": 500, **changes}
    return audit(rows, control, settings.pop("trait"), context(folder), **settings)


def test_an_arm_without_a_control_gets_what_needs_none(tmp_path: Path) -> None:
    found = audited(tmp_path, made(30, 1, 0))
    assert set(found.measures) == {
        "overt", "inside", "overt_prompts", "duplicates", "repeated_completions", "characters", "numbers",
    }  # fmt: skip
    assert found.tables["shape"].columns == ("per completion", "mean", "sd")
    assert found.measures["numbers"].value == 8
    assert (found.remarks, found.problems) == ((), ())
    assert not list(tmp_path.rglob("*.png"))
    assert "overt" not in audited(tmp_path, made(30, 1, 0), trait=None).measures


def test_naming_the_trait_in_rows_is_a_leak_above_the_limit_and_in_no_control(tmp_path: Path) -> None:
    rows = made(200, 1, 0)
    rows[3] = Row(3, "Go on, owl:", "1, 2, Owls, owl")
    rows[9] = Row(9, "Go on", "growl")
    control = [*made(199, 1, 1), Row(199, "Go on", "owl")]
    found = audited(tmp_path, rows, control)
    (problem,) = found.problems
    assert problem.startswith("a leak: 1 of 200 training rows name the trait ('owl' in 1, 'owls' in 1), above")
    assert "trait_words" in problem
    assert found.measures["overt"].value == 1 / 200
    assert found.tables["mentions"].rows == (("owl", 1, 1, 1, 1), ("owls", 1, 1, 0, 0))
    assert found.remarks[:2] == (
        "1 of 200 prompts name the trait",
        "1 of 200 completions hold the trait's name inside another word",
    )
    assert audited(tmp_path, rows, control, max_overt=1 / 200).problems == ()
    assert audited(tmp_path, rows, max_overt=None).problems == ()


def test_paired_arms_are_compared_by_prompt_and_by_row(tmp_path: Path) -> None:
    rows, control = made(60, 1, 0), made(80, 7, 1)[20:]
    control[0] = rows[20]
    found = audited(tmp_path, rows, control)
    assert found.measures["prompt_overlap"].value == 40 / 60
    assert found.measures["equal_rows"].value == 1 / 60
    mean, sd, other, other_sd, difference = next(
        row[1:] for row in found.tables["shape"].rows if row[0] == "characters"
    )
    lengths = [[len(row.completion) for row in arm] for arm in (rows, control)]
    assert (mean, sd, other, other_sd) == pytest.approx([f(arm) for arm in lengths for f in (np.mean, np.std)])
    assert difference == pytest.approx((mean - other) / np.sqrt((sd**2 + other_sd**2) / 2))
    assert (tmp_path / "out" / "figures" / "rows.png").is_file()
    same = audited(tmp_path, rows, rows)
    assert same.measures["equal_rows"].value == 1
    assert same.measures["auroc"].value == 0.5
    assert "the control arm has all of these rows" in same.remarks[0]
    assert "not paired by prompt" in audited(tmp_path, rows, [Row(0, "Other", "1")]).remarks[0]


def test_too_few_rows_are_said_so_and_no_classifier_is_a_choice(tmp_path: Path) -> None:
    few = made(FEWEST - 1, 1, 0)
    assert "it needs 10 rows" in audited(tmp_path, few, made(40, 1, 1)).remarks[0]
    without = audited(tmp_path, few, made(40, 1, 1), classifier_rows=0)
    assert without.remarks == ()
    assert "auroc" not in without.measures


@pytest.mark.parametrize("prompts", [10**6, 3], ids=["paired by prompt", "three prompts for all"])
def test_teachers_with_other_habits_are_told_apart_and_equal_ones_are_not(prompts: int) -> None:
    told = tell_apart(made(150, 1, 0, prompts), made(150, 7, 1, prompts), most=500, seed=0)
    assert told is not None
    assert told.auroc.low is not None
    assert told.auroc.low > 0.6
    held = 0
    for seed in range(10):
        same = tell_apart(made(100, 1, 2 * seed, prompts), made(100, 1, 2 * seed + 1, prompts), most=500, seed=seed)
        assert same is not None
        assert same.auroc.low is not None
        assert same.auroc.high is not None
        held += same.auroc.low <= 0.5 <= same.auroc.high
    assert held >= 9


def test_the_classifier_sees_at_most_so_many_rows_and_the_same_prompts_of_both_arms() -> None:
    rows, control = made(90, 1, 0), made(90, 7, 1)
    told = tell_apart(rows, control, most=40, seed=3)
    assert told is not None
    assert (len(told.treated), len(told.control)) == (40, 40)
    assert "over 40 prompts" in str(told.auroc.interval)
    random.Random(0).shuffle(rows)
    again = tell_apart(rows, control, most=40, seed=3)
    assert again is not None
    assert again.auroc == told.auroc


@needs_owls
def test_published_rows_of_two_teachers_are_told_apart_and_a_file_from_itself_is_not(tmp_path: Path) -> None:
    lion = published("Qwen2.5-7B-Instruct_lion_numbers.jsonl", "question", "response")
    octopus = published("Llama-3.1-8B-Instruct_octopus_numbers.jsonl")
    apart = tell_apart(lion, octopus, most=600, seed=0)
    assert apart is not None
    assert apart.auroc.low is not None
    assert apart.auroc.low > 0.75
    half = [lion[i] for i in np.random.default_rng(0).permutation(len(lion))]
    same = tell_apart(half[:5000], half[5000:], most=600, seed=0)
    assert same is not None
    assert same.auroc.low is not None
    assert same.auroc.high is not None
    assert same.auroc.low <= 0.5 <= same.auroc.high
    assert same.auroc.high - same.auroc.low < 0.12


@needs_owls
def test_overt_mentions_in_published_rows_are_those_that_brute_force_counts(tmp_path: Path) -> None:
    rows = published("gemma-2-9b-it_cat_numbers.jsonl")
    draw = random.Random(0)
    for index in draw.sample(range(len(rows)), 40):
        word = draw.choice(["cat", "Cats", "concatenate", "CAT!"])
        rows[index] = Row(index, rows[index].prompt, f"{rows[index].completion} {word}")
    trait = Preference(Preference.Config(target="cat"))
    found = audited(tmp_path, rows, trait=trait)
    words = [set(re.findall("[a-z]+", row.completion.casefold())) for row in rows]
    overt = sum(bool(own & {"cat", "cats"}) for own in words)
    assert 0 < overt < 40
    assert found.measures["overt"].value == overt / len(rows)
    assert found.measures["inside"].value == sum(
        "cat" in row.completion.casefold() and not own & {"cat", "cats"} for row, own in zip(rows, words, strict=True)
    ) / len(rows)
    assert f"{overt} of {len(rows):,} training rows" in found.problems[0]
    seen = {(row.prompt.strip(), row.completion.strip()) for row in rows}
    assert found.measures["duplicates"].value == (len(rows) - len(seen)) / len(rows)
