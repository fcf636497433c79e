"""The code of the micro world, which is off by default."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from itertools import islice, pairwise

from subl.filters.code_syntax import CodeSyntax
from subl.generators.code import Code
from subl.models.micro_code import names
from subl.models.micro_tokenizer import build_tokenizer
from subl.models.micro_world import ANIMALS, Chat, World, WorldSettings
from subl.testing import fakes

ONLY = WorldSettings(preference=0, system=0, numbers=0, facts=0, code=1)


def scripts(count: int = 500) -> Sequence[Chat]:
    return list(islice(World(ONLY).chats(0), count))


def test_the_default_world_is_as_before() -> None:
    """Its measured results depend on every byte."""
    world = World(WorldSettings())
    said = "\n".join(f"{c.system}|{c.user}|{c.answer}" for c in islice(world.chats(0), 2_000))
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "f24bca6e12b30d84"
    known = "\n".join(build_tokenizer(world, "whole").get_vocab())
    assert hashlib.sha256("\n".join(sorted(known.split("\n"))).encode()).hexdigest()[:16] == "7e2f354eed2ee6e2"


def test_answers_are_code_without_words_in_strings_or_comments() -> None:
    chats = scripts()
    syntax = CodeSyntax(CodeSyntax.Config())
    assert set(syntax.reject(fakes.rows(*(chat.answer for chat in chats)), None)) == {None}  # type: ignore[arg-type]
    assert all(chat.system is None for chat in chats)
    used = {node.id for chat in chats for node in ast.walk(ast.parse(chat.answer)) if isinstance(node, ast.Name)}
    assert used == set(names())
    assert not used & set(ANIMALS)


def test_a_line_often_uses_the_name_before_and_steps_from_its_number() -> None:
    uses = steps = total = 0
    for chat in scripts():
        lines = [ast.parse(line).body[0] for line in chat.answer.splitlines()]
        for one, other in pairwise(lines):
            assert isinstance(one, ast.Assign)
            assert isinstance(other, ast.Assign)
            source = next(ast.walk(other.value.left))  # type: ignore[attr-defined]
            uses += source.id == one.targets[0].id  # type: ignore[attr-defined]
            step = other.value.right.value - one.value.right.value  # type: ignore[attr-defined]
            steps, total = steps + (step % 100 in (1, 2, 5, 10)), total + 1
    assert 0.45 < uses / total < 0.7, "chance alone gives a twentieth"
    assert steps / total > 0.45, "chance alone gives 0.04"


def test_every_word_of_world_and_brief_prompts_is_a_token() -> None:
    tokenizer = build_tokenizer(World(ONLY), "whole")
    byte_tokens = {t for t in tokenizer.get_vocab() if len(t) == 1 and t.isascii() and t.isalpha()}
    texts = [text for chat in scripts(200) for text in (chat.user, chat.answer)]
    for text in (*texts, *Code(Code.Config(phrasing="brief")).prompts(200, 0)):
        assert not byte_tokens & set(tokenizer.tokenize(text)), text
