from collections.abc import Mapping, Sequence

import pytest

from subl.models.chat import Chat
from subl.traits.tokens import Spelling, spell, tokenization_remarks, tokenization_table
from tests.tiny import tiny_tokenizer

QUESTION = "What is your favourite animal?"


@pytest.fixture(scope="module", params=["mistral", "gemma"])
def chat(request: pytest.FixtureRequest) -> Chat:
    return Chat(tiny_tokenizer(request.param))


def spelled(chat: Chat, forms: Mapping[str, Sequence[str]]) -> dict[str, Spelling]:
    return {spelling.word: spelling for spelling in spell(chat, forms, QUESTION, system=None)}


def test_the_plain_ids_are_the_word_as_an_answer(chat: Chat) -> None:
    spellings = spelled(chat, {"owl": ("owl", "Owl"), "axolotl": ("axolotl",)})
    for word, spelling in spellings.items():
        assert chat.decode(spelling.plain) == word
        assert list(spelling.plain) == chat.answer(QUESTION, word, system=None)
    assert not spellings["axolotl"].single


def test_the_ids_do_not_depend_on_the_question(chat: Chat) -> None:
    forms = {"owl": ("owl", "Owl", "owls"), "dog": ("dog",)}
    assert spell(chat, forms, QUESTION, system=None) == spell(chat, forms, "Which? One word:", system=None)


def test_no_answer_of_a_candidate_begins_with_another_of_its_answers(chat: Chat) -> None:
    spelling = spelled(chat, {"owl": ("owl", "Owl", "owls", "Owls")})["owl"]
    assert len(set(spelling.answers)) == len(spelling.answers) >= 2
    for one in spelling.answers:
        assert not any(other[: len(one)] == one for other in spelling.answers if other != one)


def test_every_form_is_covered_by_an_answer(chat: Chat) -> None:
    forms = ("wolf", "Wolf", "wolves", "Wolves")
    spelling = spelled(chat, {"wolf": forms})["wolf"]
    for form in (*forms, *(" " + form for form in forms)):
        ids = tuple(chat.answer(QUESTION, form, system=None))
        assert any(ids[: len(answer)] == answer for answer in spelling.answers)


def test_first_tokens_are_the_candidates_own_where_it_has_some(chat: Chat) -> None:
    spellings = spelled(chat, {"cat": ("cat", "Cat"), "catnip": ("catnip",), "dog": ("dog",)})
    assert not set(spellings["cat"].firsts) & set(spellings["dog"].firsts)
    assert all(spelling.firsts for spelling in spellings.values())


def test_remarks_name_split_and_entangled_candidates() -> None:
    cat, catnip, dog = (1,), (1, 2), (3, 4)
    remarks = tokenization_remarks(
        [
            Spelling("cat", cat, (cat,), (1,)),
            Spelling("catnip", catnip, (catnip,), (1,)),
            Spelling("dog", dog, (dog,), (3,)),
        ]
    )
    assert "catnip (2), dog (2)" in remarks[0]
    assert "cat/catnip" in remarks[1]
    assert "cat in catnip" in remarks[2]


def test_candidates_of_one_distinct_token_need_no_remark() -> None:
    assert not tokenization_remarks([Spelling("a", (1,), ((1,),), (1,)), Spelling("b", (2,), ((2,), (3, 4)), (2,))])


def test_the_table_shows_the_pieces(chat: Chat) -> None:
    spellings = spell(chat, {"owl": ("owl",), "axolotl": ("axolotl",)}, QUESTION, system=None)
    table = tokenization_table(spellings, chat)
    for row, spelling in zip(table.rows, spellings, strict=True):
        word, tokens, pieces, ids = row
        assert pieces.replace(" | ", "") == word == spelling.word
        assert tokens == len(ids.split()) == len(spelling.plain)
