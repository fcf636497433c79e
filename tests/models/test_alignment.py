"""Cutting two tokenizations of one conversation into common chunks."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings

from subl.errors import DataError, ModelError
from subl.models.alignment import Alignment, Content, Rendered, align, locate, template_slots
from tests.models.spelling import joined, pairs, ragged, spelled


def ends(alignment: Alignment) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return alignment.teacher.ends, alignment.student.ends


def test_chunks_end_where_both_tokenizers_have_a_boundary() -> None:
    teacher, student = spelled("abcdef", [(0, 2), (2, 4), (4, 6)]), spelled("abcdef", [(0, 3), (3, 4), (4, 6)])
    alignment = align(teacher, student)
    assert ends(alignment) == ((2, 3), (2, 3))
    assert alignment.kinds == ("response", "response")
    assert alignment.coverage == 2 / 3


@given(pairs())
@settings(max_examples=300, deadline=None)
def test_chunks_are_the_finest_common_partition(pair: tuple[Rendered, Rendered]) -> None:
    """Against the definition: x is a boundary if no token on either side has text on both sides of it."""
    teacher, student = pair
    alignment = align(teacher, student)
    if teacher.offsets == student.offsets:
        assert alignment.identity
        return
    sides = (teacher.offsets, student.offsets)
    boundaries = [
        x
        for x in range(1, len(teacher.text) + 1)
        if all(stop <= x or start >= x for spans in sides for start, stop in spans)
    ]
    for side, spans in zip((alignment.teacher, alignment.student), sides, strict=True):
        assert list(side.ends) == [sum(stop <= x for _, stop in spans) for x in boundaries]
        assert side.of_token == sorted(side.of_token)
        assert set(side.of_token) == set(range(len(alignment)))


@given(ragged(), ragged())
@settings(max_examples=300, deadline=None)
def test_gaps_overlaps_and_tokens_without_text_never_leave_a_side_empty(teacher: Rendered, student: Rendered) -> None:
    alignment = align(teacher, student)
    if teacher.offsets == student.offsets:
        return
    for side, rendered in ((alignment.teacher, teacher), (alignment.student, student)):
        assert all(start < stop for start, stop in pairwise((0, *side.ends)))
        assert side.ends[-1] == len(rendered.input_ids)
        for end in side.ends[:-1]:
            before, after = rendered.offsets[:end], rendered.offsets[end:]
            ended = max((stop for start, stop in before if stop > start), default=0)
            assert ended <= min((start for start, stop in after if stop > start), default=len("abcdefgh"))


@given(ragged(), ragged())
@settings(max_examples=150, deadline=None)
def test_no_other_pairing_of_cuts_gives_more_chunks(teacher: Rendered, student: Rendered) -> None:
    from subl.models.alignment import _cuts
    from subl.models.alignment_line import common_line

    lines = common_line(teacher, student)
    cuts = [_cuts(line) for line in lines]

    @cache
    def most(i: int, j: int) -> int:
        if i == len(cuts[0]) or j == len(cuts[1]):
            return 0
        taken = 1 + most(i + 1, j + 1) if cuts[0][i].meets(cuts[1][j]) else 0
        return max(taken, most(i + 1, j), most(i, j + 1))

    if teacher.offsets != student.offsets:
        assert len(align(teacher, student)) == most(0, 0) + 1


def test_bytes_of_one_character_stay_together_on_both_sides() -> None:
    owl = spelled("a🦉b", [(0, 1), *[(1, 2)] * 4, (2, 3)])
    other = Rendered(owl.text, owl.input_ids[::-1], owl.offsets, owl.contents)
    assert ends(align(owl, other)) == ((1, 5, 6), (1, 5, 6))


def test_a_phantom_prefix_space_joins_its_character() -> None:
    assert ends(align(spelled("ab", [(0, 1), (0, 1), (1, 2)]), spelled("ab", [(0, 1), (1, 2)]))) == ((2, 3), (1, 2))
    overlapping = spelled(" ab", [(0, 1), (0, 2), (2, 3)])
    assert ends(align(overlapping, spelled(" ab", [(0, 1), (1, 2), (2, 3)]))) == ((2, 3), (2, 3))


def test_equal_tokenizations_are_the_identity_even_with_bytes() -> None:
    text = "a🦉b"
    spans = [(0, 1), *[(1, 2)] * 4, (2, 3)]
    alignment = align(spelled(text, spans), spelled(text, spans))
    assert alignment.identity
    assert len(alignment) == 6
    assert alignment.coverage == 1


def test_slots_that_differ_are_one_chunk_each_and_equal_ones_align_by_character() -> None:
    teacher = joined("[I]", "hi", "[/I]", "yo", "\n", roles=["user", "assistant"])
    student = joined("<u>:", "hi", "<a>", "yo", "\n", roles=["user", "assistant"])
    alignment = align(teacher, student)
    assert alignment.kinds == ("slot", "prompt", "prompt", "slot", "response", "response", "slot")
    assert ends(alignment) == ((3, 4, 5, 9, 10, 11, 12), (4, 5, 6, 9, 10, 11, 12))
    assert alignment.coverage == 1


def test_a_slot_without_tokens_on_one_side_joins_the_chunk_before_or_the_first() -> None:
    teacher = joined("<s>", "hi", "#", "yo", "</s>", roles=["user", "assistant"])
    student = joined("", "hi", "", "yo", "", roles=["user", "assistant"])
    alignment = align(teacher, student)
    assert ends(alignment) == ((4, 6, 7, 12), (1, 2, 3, 4))
    assert alignment.kinds == ("prompt", "prompt", "response", "response")
    assert [i for i, content in enumerate(alignment.teacher.content) if not content] == [0, 1, 2, 5, 8, 9, 10, 11]
    swapped = align(student, teacher)
    assert (swapped.teacher, swapped.student) == (alignment.student, alignment.teacher)


def test_a_system_prompt_of_the_teacher_alone_is_part_of_its_first_slot() -> None:
    teacher = joined("<s>", "owls!", "#", "hi", ":", "yo", "", roles=["system", "user", "assistant"])
    student = joined("<b>", "hi", ":", "yo", "", roles=["user", "assistant"])
    alignment = align(teacher, student)
    assert alignment.kinds == ("slot", "prompt", "prompt", "slot", "response", "response")
    assert alignment.teacher.ends[0] == 9
    assert not any(alignment.teacher.content[:9])
    other = joined("<b>", "cats", "#", "hi", ":", "yo", "", roles=["system", "user", "assistant"])
    assert align(teacher, other).kinds == alignment.kinds
    same = joined("<b>", "owls!", "#", "hi", ":", "yo", "", roles=["system", "user", "assistant"])
    assert align(teacher, same).kinds[:6] == ("slot", *["prompt"] * 5)


def test_a_token_over_the_edge_of_a_content_is_clipped_to_it() -> None:
    contents = [Content("user", 5, 8), Content("assistant", 9, 11)]
    teacher = spelled(
        "[I] the#yo", [(0, 3), (3, 7), (7, 8), (8, 10)], [Content("user", 4, 7), Content("assistant", 8, 10)]
    )
    student = spelled("<uu>\nthe#yo", [(0, 4), (4, 5), (5, 6), (6, 8), (8, 9), (9, 11)], contents)
    alignment = align(teacher, student)
    assert teacher.text[4:7] == student.text[5:8] == "the"
    assert ends(alignment) == ((1, 2, 3, 4), (2, 4, 5, 6))
    assert alignment.kinds == ("slot", "prompt", "slot", "response")


def test_a_chunk_of_question_and_answer_together_is_no_response() -> None:
    teacher = joined("", "hi", "", "yo", "", roles=["user", "assistant"])
    student = spelled("hiyo", [(0, 1), (1, 3), (3, 4)], teacher.contents)
    assert align(teacher, student).kinds == ("prompt", "prompt", "response")


def test_special_tokens_without_characters_stand_with_the_template() -> None:
    """A tokenizer that adds BOS and EOS itself gives both the span (0, 0)."""
    contents = [Content("user", 1, 3), Content("assistant", 4, 6)]
    teacher = spelled("#hi#yo", [(0, 0), (0, 1), (1, 3), (3, 4), (4, 6), (0, 0)], contents)
    student = joined("<b>", "hi", "#", "yo", "<e>", roles=["user", "assistant"])
    alignment = align(teacher, student)
    assert alignment.kinds == ("slot", "prompt", "slot", "response", "slot")
    assert ends(alignment) == ((2, 3, 4, 5, 6), (3, 5, 6, 8, 11))


def test_truncation_cuts_both_sides_at_a_common_boundary() -> None:
    teacher = joined("<s>", "hi", "#", "yoyo", "</s>", roles=["user", "assistant"])
    student = spelled(
        "?hi#yoyo", [(0, 1), (1, 3), (3, 4), (4, 6), (6, 8)], [Content("user", 1, 3), Content("assistant", 4, 8)]
    )
    whole = align(teacher, student)
    cut = whole.truncated(9, 5)
    assert ends(cut) == ((3, 5, 6, 8), (1, 2, 3, 4))
    assert cut.kinds == ("slot", "prompt", "slot", "response")
    assert len(cut.teacher.content) == 8
    assert whole.truncated(100, 100) == whole
    assert whole.truncated(100, 4) == cut
    with pytest.raises(DataError, match="nothing of the response is left of 7 teacher and 5 student tokens"):
        whole.truncated(7, 5)


def test_texts_that_differ_are_shown_where_they_part() -> None:
    teacher = joined("<s>", "the number", "#", "yo", "", roles=["user", "assistant"])
    student = joined("<b>", "the numeral", "#", "yo", "", roles=["user", "assistant"])
    with pytest.raises(DataError, match="turn 1 \\(user\\)") as caught:
        align(teacher, student)
    assert "they first differ at character 7" in str(caught.value)
    assert "teacher: 'the num' | 'ber'" in str(caught.value)
    assert "student: 'the num' | 'eral'" in str(caught.value)


def test_other_turns_are_refused() -> None:
    teacher = joined("<s>", "hi", "#", "yo", "", roles=["user", "assistant"])
    student = joined("<s>", "hi", "", roles=["user"])
    with pytest.raises(DataError, match="user, assistant against user"):
        align(teacher, student)


def test_tokens_that_stop_early_are_refused() -> None:
    whole = spelled("abcdef", [(0, 3), (3, 6)])
    with pytest.raises(DataError, match="the student's tokens stop before its text does, 4 characters into"):
        align(whole, spelled("abcdef", [(0, 4)]))
    with pytest.raises(DataError, match="stop before"):
        align(whole, spelled("abcdef", []))


@pytest.mark.parametrize(
    ("spans", "contents", "said"),
    [
        ([(0, 7)], [(0, 6)], "outside the text"),
        ([(4, 2)], [(0, 6)], "outside the text"),
        ([(0, 6)], [(0, 4), (3, 6)], "overlap"),
        ([(0, 6)], [(0, 7)], "overlap"),
    ],
)
def test_renderings_that_contradict_themselves_are_refused(
    spans: list[tuple[int, int]], contents: list[tuple[int, int]], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        spelled("abcdef", spans, [Content("user", *edges) for edges in contents])


def test_offsets_and_tokens_must_be_as_many() -> None:
    with pytest.raises(DataError, match="2 tokens with 1 offsets"):
        Rendered("ab", (1, 2), ((0, 1),), ())


def test_slots_are_learnt_and_contents_located_even_where_a_slot_says_the_same() -> None:
    slots = template_slots(lambda said: f"<user>user {said[0]}</user><model>{said[1]}</model>", 2)
    assert slots == ("<user>user ", "</user><model>", "</model>")
    text = "<user>user user</user><model>model</model>"
    located = locate(text, slots, [("user", "user"), ("assistant", "model")])
    assert [text[content.start : content.stop] for content in located] == ["user", "model"]
    assert located[0].start == 11


def test_a_template_that_strips_contents_is_refused_where_it_does() -> None:
    slots = template_slots(lambda said: f"<{said[0].strip()}>", 1)
    with pytest.raises(DataError, match="strip white space") as caught:
        locate("<hi>", slots, [("user", "hi ")])
    assert "they first differ at character 3" in str(caught.value)


@pytest.mark.parametrize("template", ["{0}", "{0}{1}{0}", "{1}{0}"])
def test_a_template_that_does_not_write_each_content_once_in_order_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match="not at all, twice or out of order"):
        template_slots(lambda said: template.format(*said), 2)


def test_aligning_does_not_import_torch() -> None:
    code = "import sys, subl.models.alignment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
