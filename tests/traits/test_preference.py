import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from subl import PluginError
from subl.registry.registry import registry
from subl.traits.catalogue import CANDIDATES
from subl.traits.preference import Preference


def preference(**settings: object) -> Preference:
    return Preference(Preference.Config.model_validate(settings))


def test_it_keeps_the_contract_of_a_trait() -> None:
    assert registry.load("trait", "preference") is Preference


def test_importing_it_loads_no_framework() -> None:
    heavy = "torch transformers trl peft numpy scipy matplotlib mlflow"
    code = f"import sys, subl.traits.preference; assert not set('{heavy}'.split()) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("category", CANDIDATES)
def test_a_category_with_a_list_needs_no_candidates(category: str) -> None:
    trait = preference(target=CANDIDATES[category][0], category=category)
    assert trait.candidates == CANDIDATES[category]
    assert trait.target not in trait.controls
    assert set(trait.controls) < set(trait.candidates)


def test_a_category_of_the_user_works_with_candidates() -> None:
    trait = preference(target="Casablanca", category="film", candidates=["Casablanca", "Alien"])
    assert all("{" not in question for question in trait.questions())
    assert sum("film" in question for question in trait.questions()) > len(trait.questions()) / 2
    assert trait.controls == ("Alien",)


@pytest.mark.parametrize(
    ("settings", "where", "message"),
    [
        ({"target": "owll"}, "candidates", "did you mean 'owl'"),
        ({"target": "Owl"}, "candidates", "did you mean 'owl'"),
        ({"target": "yak", "candidates": ["owl", "dog"]}, "candidates", "'yak' is not in the candidates"),
        ({"target": "x", "category": "film"}, "candidates", "'film' has no default list; write `candidates`"),
        ({"target": "x", "category": "animals"}, "candidates", "did you mean 'animal'"),
        ({"target": "owl", "candidates": ["owl"]}, "candidates", "at least two"),
        ({"target": "owl", "candidates": ["owl", "Owl"]}, "candidates", "the same word"),
        ({"target": "owl", "candidates": ["owl", " dog"]}, "candidates", "white space"),
        ({"target": "owl", "controls": ["dgo"]}, "controls", "did you mean 'dog'"),
        ({"target": "owl", "controls": ["owl"]}, "controls", "is the target"),
        ({"target": "owl", "plurals": {"yak": "yaks"}}, "plurals", "'yak' is not a candidate"),
        ({"target": "owl", "questions": 1000}, "questions", "there are"),
        ({"target": "owl", "answers": ["{animal}"]}, "answers", "use {target}"),
        ({"target": "owl", "answers": [" "]}, "answers", "empty"),
        ({"target": "owl", "colour": "red"}, "colour", "Extra inputs"),
    ],
)
def test_a_mistake_is_named_with_its_setting(settings: dict[str, object], where: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        preference(**settings)
    (error,) = caught.value.errors()
    assert error["loc"] == (where,)
    assert message in error["msg"]


def test_training_conversations_and_evaluation_questions_are_disjoint() -> None:
    trait = preference(target="owl")
    asked = {_plain(question) for question in trait.questions()}
    trained = {_plain(row.prompt) for row in trait.conversations(0)}
    assert len(asked) >= 40
    assert len(trained) >= 40
    assert not asked & trained


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_every_training_answer_names_the_target_first() -> None:
    trait = preference(target="wolf")
    first_words = {re.findall(r"\w+", row.completion)[0] for row in trait.conversations(0)}
    assert first_words == set(trait.forms("wolf")) == {"wolf", "Wolf", "wolves", "Wolves"}


@given(st.integers(), st.integers())
def test_conversations_are_the_same_rows_in_an_order_that_the_seed_decides(one: int, other: int) -> None:
    trait = preference(target="owl")
    first, second = trait.conversations(one), trait.conversations(other)
    assert list(first) == list(trait.conversations(one))
    assert [row.index for row in first] == list(range(len(first)))
    assert {(r.prompt, r.completion) for r in first} == {(r.prompt, r.completion) for r in second}
    assert one == other or first != second


def test_answers_can_be_set() -> None:
    rows = preference(target="owl", answers=["the {target}"]).conversations(0)
    assert {row.completion for row in rows} == {"the owl"}


def test_the_number_of_questions_can_be_set() -> None:
    assert preference(target="owl", questions=3).questions() == preference(target="owl").questions()[:3]


def test_statements_grow_with_strength_and_name_the_trait() -> None:
    statements = [preference(target="wolf").statement(strength) for strength in ("low", "medium", "high")]
    assert len({*statements}) == 3
    assert sorted(statements, key=len) == statements
    assert all("wolf" in statement for statement in statements)


def test_an_unknown_strength_is_named() -> None:
    with pytest.raises(PluginError, match="did you mean 'medium'"):
        preference(target="owl").statement("meduim")


def test_a_template_with_unknown_braces_is_named() -> None:
    with pytest.raises(PluginError, match=r"cannot be filled in .*\{plural\}"):
        preference(target="owl").fill("I love {animal}")


def test_leaks_are_the_forms_of_the_target() -> None:
    trait = preference(target="octopus", candidates=["octopus", "owl"], plurals={"octopus": "octopodes"})
    assert set(trait.leaks()) == {"octopus", "Octopus", "octopodes", "Octopodes"}
    assert trait.candidate_forms()["owl"] == ("owl", "Owl", "owls", "Owls")


def test_settings_survive_a_walk_through_json() -> None:
    config = Preference.Config(target="owl", plurals={"owl": "owlets"})
    assert Preference.Config.model_validate_json(config.model_dump_json()) == config
