from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subl import banks
from subl.generators.number_prompts import LAYOUTS
from subl.generators.numbers import Numbers


def numbers(**config: Any) -> Numbers:
    return Numbers(Numbers.Config(**config))


def test_every_format_has_wording_and_characters() -> None:
    assert set(banks.load("numbers")["formats"]) == set(LAYOUTS)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**63), index=st.integers(0, 10**6))
def test_a_prompt_depends_on_seed_and_index_alone(seed: int, index: int) -> None:
    assert numbers().space.prompt(seed, index) == numbers(samples=5, batch_size=3).space.prompt(seed, index)
    assert numbers().space.prompt(seed, index) != numbers().space.prompt(seed + 1, index)


def test_prompts_are_the_beginning_of_one_stream() -> None:
    generator = numbers()
    assert generator.prompts(20, 7)[:5] == generator.prompts(5, 7)
    assert generator.prompts(20, 7)[12] == generator.space.prompt(7, 12).text
    assert generator.prompts(0, 7) == []


def test_rich_prompts_vary_in_every_respect_and_hardly_repeat() -> None:
    prompts = [numbers().space.prompt(0, index) for index in range(3000)]
    assert len({prompt.text for prompt in prompts}) == 3000
    assert Counter(prompt.format for prompt in prompts).keys() == LAYOUTS.keys()
    assert {prompt.count for prompt in prompts} == set(range(5, 11))
    bank = banks.load("numbers")
    for wording in (bank["openings"], bank["closings"], *bank["formats"].values()):
        for sentence in wording:
            start = sentence.partition("{")[0]
            assert any(start in prompt.text for prompt in prompts), sentence
    assert not any("{" in prompt.text or "}" in prompt.text for prompt in prompts)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), phrasing=st.sampled_from(["rich", "brief"]))
def test_prompts_keep_to_the_bounds_and_say_what_is_recorded(data: st.DataObject, phrasing: str) -> None:
    def bounds(low: int, high: int) -> tuple[int, int]:
        first = data.draw(st.integers(low, high))
        return first, data.draw(st.integers(first, high))

    # Values apart from counts and digits, so that the numbers in a prompt can be told apart.
    counts, values, asked = bounds(1, 9), bounds(5000, 9000), bounds(1, 60)
    generator = numbers(
        phrasing=phrasing, example_counts=counts, example_values=values, asked_counts=asked, answer_values=(0, 99),
        constrained=True,
    )  # fmt: skip
    for index in range(20):
        prompt = generator.space.prompt(1, index)
        found = [int(number) for number in re.findall(r"\d+", prompt.text)]
        examples = [number for number in found if number >= 5000]
        assert counts[0] <= len(examples) <= counts[1]
        assert all(values[0] <= number <= values[1] for number in examples)
        assert ", ".join(map(str, examples)) in prompt.text
        assert asked[0] <= prompt.count <= asked[1]
        if phrasing == "rich":
            assert sorted(number for number in found if number < 5000) == sorted([prompt.count, 2])
            assert any(text in prompt.text for text in banks.load("numbers")["formats"][prompt.format])
        else:
            assert found == examples
            assert prompt.format == "comma"


def test_a_bound_is_reached_at_both_ends() -> None:
    space = numbers(example_counts=(2, 3), example_values=(40, 42), asked_counts=(7, 8)).space
    prompts = [space.prompt(0, index) for index in range(200)]
    examples = [re.findall(r"\b4\d\b", prompt.text) for prompt in prompts]
    assert {len(found) for found in examples} == {2, 3}
    assert {number for found in examples for number in found} == {"40", "41", "42"}
    assert {prompt.count for prompt in prompts} == {7, 8}


def test_one_digit_is_said_in_the_singular() -> None:
    prompts = numbers(answer_values=(0, 9)).prompts(50, 0)
    assert not any("1 digits" in prompt for prompt in prompts)
    assert any("1 digit" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"samples": 0}, "greater than 0"),
        ({"example_counts": (5, 3)}, r"smallest <= largest, not \[5, 3\]"),
        ({"example_values": (-5, 3)}, "0 <= smallest"),
        ({"example_counts": (0, 3)}, "begin at 1"),
        ({"asked_counts": (0, 3)}, "begin at 1"),
        ({"constrained": True, "answer_min_count": 6}, "more than some prompts ask for"),
        ({"constrained": True, "allowed_numbers": (7, 1000)}, r"1000, which is outside answer_values \[0, 999\]"),
        ({"constrained": True, "allowed_numbers": ()}, "at least 1 item"),
        ({"constrained": True, "allowed_numbers": (-3,)}, "-3, which is outside"),
        ({"formats": ()}, "at least 1 item"),
        ({"formats": ("tab",)}, "comma"),
        ({"phrasing": "brief", "formats": ("space",)}, "brief prompts cannot ask for a format"),
        ({"allowed_numbers": (7,)}, "allowed_numbers has an effect only with constrained"),
        ({"answer_min_count": 2}, "answer_min_count has an effect only with constrained"),
        ({"answer_values": (1, 9)}, "a smallest answer value has an effect only with constrained"),
        ({"phrasing": "brief", "asked_counts": (2, 3)}, "asked_counts has an effect only with constrained"),
        ({"phrasing": "brief", "answer_values": (0, 9)}, "answer_values has an effect only with constrained"),
        ({"temperature": 1.0}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_errors(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Numbers.Config(**config)


@pytest.mark.parametrize(
    "config", [{}, {"phrasing": "brief"}, {"phrasing": "brief", "constrained": True, "allowed_numbers": (3, 1)}]
)
def test_settings_survive_a_round_trip_through_json(config: dict[str, Any]) -> None:
    made = Numbers.Config(**config)
    assert Numbers.Config.model_validate_json(made.model_dump_json()) == made


def test_naming_the_plugins_loads_no_framework() -> None:
    modules = ["generators.numbers"] + [
        f"filters.{name}"
        for name in ("number_format", "banned_numbers", "no_text", "trait_words", "duplicates", "length")
    ]
    heavy = ["torch", "transformers", "numpy", "scipy", "trl", "peft", "mlflow", "matplotlib", "tokenizers"]
    code = (
        f"import sys, importlib; [importlib.import_module('subl.' + m) for m in {modules}]; "
        "from subl.generators.numbers import Numbers; Numbers(Numbers.Config()).prompts(3, 0); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_examples_step_from_one_to_the_next_only_if_asked() -> None:
    def share(**config: Any) -> float:
        space = numbers(phrasing="brief", example_counts=(5, 5), example_values=(10, 99), **config).space
        lists = [[int(n) for n in re.findall(r"\d+", space.prompt(0, i).text)] for i in range(500)]
        assert all(10 <= number <= 99 for found in lists for number in found), "steps wrap around inside the range"
        steps = [(b - a) % 90 for found in lists for a, b in pairwise(found)]
        return sum(step in (1, 2, 5, 10) for step in steps) / len(steps)

    assert share() < 0.08, "chance alone gives 0.044"
    assert 0.47 < share(example_series="steps") < 0.57
