"""Overt mentions against counting by hand."""

import re

from hypothesis import given
from hypothesis import strategies as st

from subl.audit.mentions import find_mentions

FORMS = ("owl", "Owl", "owls", "Owls", "snow owl")
PIECES = st.sampled_from(["owl", "Owls", "OWL", "growl", "owlet", "snow", "snow\nowl", "7", ",", " ", "_", "-", "é"])


@given(st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=12))
def test_mentions_are_those_that_brute_force_finds(texts: list[str]) -> None:
    found = find_mentions(texts, FORMS)
    words = [re.findall(r"[^\W_]+", text.casefold()) for text in texts]
    named = [bool({"owl", "owls"} & set(own)) for own in words]
    assert found.texts == len(texts)
    assert found.overt == sum(named)
    assert found.inside == sum("owl" in text.casefold() and not hit for text, hit in zip(texts, named, strict=True))
    assert found.by_form["owls"] == (sum("owls" in own for own in words), sum(own.count("owls") for own in words))
    both = [found.by_form[form][1] for form in ("owl", "snow owl")]
    assert sum(both) == sum(own.count("owl") for own in words), "the longer form takes the mention"


def test_forms_that_differ_in_case_are_one_and_blank_ones_none() -> None:
    found = find_mentions(["An OWL, an owl.", "1, 2"], ("Owl", "owl", " "))
    assert found.by_form == {"owl": (1, 2)}
    assert find_mentions(["anything"], ()).overt == find_mentions(["anything"], (" ",)).inside == 0
