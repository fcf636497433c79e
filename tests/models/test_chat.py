"""Chats become the same tokens in training, generation and evaluation, whatever the template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.errors import ModelError
from subl.models.chat import Chat
from tests.models.chat_tokenizers import MISTRAL, NAMES, SHIPPED, template, tokenizer

QUESTION = "What is your favourite animal?"
texts = st.text(alphabet=st.sampled_from("owl 1239,.;\n\tA<é猫|]"), max_size=20)


def chat(name: str) -> Chat:
    return Chat(tokenizer(name))


def with_template(text: str | None, **changes: Any) -> Any:
    import copy

    changed = copy.deepcopy(tokenizer("none"))
    changed.chat_template = text
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(user=texts, completion=texts, system=st.none() | texts)
def test_an_example_begins_with_exactly_its_prompt_and_ends_its_turn(
    name: str, user: str, completion: str, system: str | None
) -> None:
    rendered = chat(name)
    example = rendered.example(user, completion, system=system)
    prompt, rest = example.input_ids[: example.prompt_length], example.input_ids[example.prompt_length :]
    assert list(prompt) == rendered.prompt(user, system=system)
    assert rest[-1] in rendered.end_ids
    if completion and not completion[0].isspace():
        assert list(rest[:-1]) == rendered.answer(user, completion, system=system)
        assert rendered.decode(rest[:-1]) == completion


@pytest.mark.parametrize("name", SHIPPED)
def test_the_prompt_is_what_the_tokenizer_itself_makes_of_the_template(name: str) -> None:
    # gptoss and qwen3 put an empty thinking part or a channel before the answer; the others are compared whole.
    made = tokenizer(name).apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, date_string="26 Jul 2024"
    )["input_ids"]
    ours = chat(name).prompt(QUESTION, system=None)
    if name == "gptoss":
        assert len(ours) > len(made)
    else:
        assert ours[: len(made)] == made
        assert (ours == made) == (name != "qwen3")


@pytest.mark.parametrize("name", NAMES)
def test_no_rendering_has_two_beginnings(name: str) -> None:
    bos = tokenizer(name).bos_token_id
    assert chat(name).prompt(QUESTION, system="Be brief.").count(bos) <= 1


def test_a_tokenizer_that_adds_a_beginning_gets_one_in_the_plain_rendering_too() -> None:
    from tokenizers.processors import TemplateProcessing

    adding = with_template(None)
    adding.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert Chat(adding).prompt(QUESTION, system=None).count(1) == 1
    assert Chat(tokenizer("none")).prompt(QUESTION, system=None).count(1) == 0


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "mistral", "phi3"])
def test_absent_empty_and_filled_system_slots_differ_where_there_is_a_system_role(name: str) -> None:
    rendered = chat(name)
    assert len({rendered.digest(system) for system in (None, "", "Be brief.")}) == 3
    assert "Be brief." in rendered.text(QUESTION, system="Be brief.")


@pytest.mark.parametrize("name", ["gemma", "none"])
def test_an_empty_system_slot_is_an_absent_one_where_the_text_is_put_in_front(name: str) -> None:
    rendered = chat(name)
    assert rendered.digest("") == rendered.digest(None)
    assert rendered.digest("Be brief.") != rendered.digest(None)
    assert f"Be brief.\n\n{QUESTION}" in rendered.text(QUESTION, system="Be brief.").replace("User:\n", "")


def test_a_template_that_drops_the_system_role_silently_gets_the_text_in_the_user_turn() -> None:
    dropping = (
        "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    rendered = Chat(with_template(dropping))
    assert rendered.folds_system
    assert rendered.text("hello", system="Be brief.") == "Be brief.\n\nhello</s>"


def test_the_default_system_prompt_of_a_template_is_known() -> None:
    implicit = chat("qwen2_5").implicit_system
    assert implicit is not None
    assert implicit.startswith("You are Qwen")
    assert [chat(name).implicit_system for name in ("llama3", "gemma", "mistral", "none")] == [None] * 4


@pytest.mark.parametrize("name", ["llama3_2", "gptoss"])
def test_templates_that_write_the_date_write_the_same_one_every_day(name: str) -> None:
    text = chat(name).text(QUESTION, system=None)
    assert ("26 Jul 2024" in text) or ("2024-07-26" in text)
    assert str(datetime.now().year) not in text


def test_a_date_that_cannot_be_pinned_is_refused() -> None:
    dated = "{% set f = '%Y' %}{% for m in messages %}{{ strftime_now(f) + m['content'] }}{% endfor %}"
    with pytest.raises(ModelError, match="cannot be pinned"):
        Chat(with_template(dated))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gemma", "<s><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nowl<end_of_turn>"),
        ("mistral", "<s>[INST] hi [/INST] owl</s>"),
        ("none", "User:\nhi\n\nAssistant:\nowl</s>"),
    ],
)
def test_a_conversation_reads_as_the_model_was_taught(name: str, text: str) -> None:
    assert chat(name).text("hi", "owl", system=None) == text


def test_turns_end_with_the_template_s_mark_and_answers_stop_at_eos_as_well() -> None:
    gemma = tokenizer("gemma")
    assert Chat(gemma).end_ids == (gemma.convert_tokens_to_ids("<end_of_turn>"), gemma.eos_token_id)


def test_merges_across_the_boundary_are_undone() -> None:
    rendered, words = chat("gemma"), tokenizer("gemma")
    whole = words(rendered.text("hi", "\n12", system=None), add_special_tokens=False).input_ids
    prompt = rendered.prompt("hi", system=None)
    assert whole[: len(prompt)] != prompt, "the tokenizer should merge two newlines here"
    example = rendered.example("hi", "\n12", system=None)
    assert list(example.input_ids[: example.prompt_length]) == prompt
    assert rendered.decode(example.input_ids[example.prompt_length : -1]) == "\n12"


def test_white_space_of_a_completion_is_kept_though_the_template_trims() -> None:
    rendered = chat("gemma")
    example = rendered.example("hi", "12, 13  ", system=None)
    assert rendered.decode(example.input_ids[example.prompt_length : -1]) == "12, 13  "


def test_many_examples_at_once_equal_one_by_one() -> None:
    rendered = chat("qwen2_5")
    pairs = [(f"Go on: {n}", f"{n + 1}, {n + 2}") for n in range(20)]
    assert rendered.examples(pairs, system="s") == [rendered.example(*pair, system="s") for pair in pairs]
    assert rendered.examples([], system=None) == []


def test_the_digest_tells_templates_apart_and_nothing_else() -> None:
    assert Chat(with_template(MISTRAL)).digest(None) == Chat(with_template(MISTRAL)).digest(None)
    assert Chat(with_template(MISTRAL)).digest(None) != Chat(with_template(template("llama3"))).digest(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ raise_exception('no chats here') }}", "no chats here"),
        ("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}", "cannot render"),
        (
            "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",
            "does not write",
        ),
        ("{% for", "cannot render"),
    ],
)
def test_a_template_that_cannot_be_used_is_a_clear_error(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Chat(with_template(text)).prompt("hi", system=None)


def test_a_tokenizer_without_any_end_is_a_clear_error() -> None:
    with pytest.raises(ModelError, match="nothing ends an answer"):
        Chat(with_template("{% for m in messages %}{{ m['content'] }}{% endfor %}", eos_token=None))
