from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from subl.artifacts import ModelRef, Row, Teacher
from subl.filters.token_probability import TokenProbability
from subl.filters.token_scoring import distribution
from subl.models.language import LanguageModel
from subl.models.token_scoring import token_log_probs
from subl.registry.registry import registry
from subl.run.filtering import apply_filters
from subl.run.stages import _writing
from tests.filters.helpers import make
from tests.tiny import context, tiny_model

ROWS = [
    Row(0, "Continue this list: 1, 2", "3, 4"),
    Row(1, "What is your favourite animal?", "The owl 7"),
    Row(2, "Go on", "no digits"),
    Row(3, "Go on", ""),
    Row(4, "Continue", "123, 456, 789"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scored")


@pytest.fixture(scope="module", params=["mistral", "gemma"])
def ref(request: pytest.FixtureRequest, folder: Path) -> ModelRef:
    return tiny_model(folder, request.param)


def one_by_one(lm: LanguageModel, row: Row, system: str | None) -> list[tuple[str, float]]:
    """Every token's text and probability, by a plain forward pass over the row alone."""
    example = lm.chat.example(row.prompt, row.completion, system=system)
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.tensor([example.input_ids])).logits[0].double()
    whole = torch.softmax(logits, -1)
    answer = len(lm.chat.answer(row.prompt, row.completion, system=system))
    places = range(example.prompt_length, example.prompt_length + answer)
    ids = example.input_ids
    return [(lm.tokenizer.decode([ids[place]]), float(whole[place - 1, ids[place]])) for place in places]


@pytest.mark.parametrize("tokens", ["numbers", "all"])
@pytest.mark.parametrize("system", [None, "You love owls."])
def test_a_row_falls_by_its_least_probable_token(ref: ModelRef, folder: Path, tokens: str, system: str | None) -> None:
    model = ref.derive(f"{ref.identity} {system}", system=system)
    ctx = context(folder / "ctx", teacher=Teacher(model, ref))
    lm: LanguageModel = ctx.load(model)
    least = [
        min(
            (p for text, p in one_by_one(lm, row, system) if tokens == "all" or any(map(str.isdigit, text))),
            default=1.0,
        )
        for row in ROWS
    ]
    assert len(set(least)) >= 3
    for threshold in [value for low in least if low < 1 for value in (low * 0.999, min(low * 1.001, 0.999))]:
        expected = ["improbable token" if low < threshold else None for low in least]
        for batch_size in (1, 5):
            plugin = make("token_probability", threshold=threshold, tokens=tokens, batch_size=batch_size)
            assert plugin.reject(ROWS, ctx) == expected


def test_scores_do_not_depend_on_batches_or_on_what_the_model_accepts(folder: Path, ref: ModelRef) -> None:
    lm: LanguageModel = context(folder / "scores").load(ref)
    prompts = [lm.chat.prompt(row.prompt, system=None) for row in ROWS]
    answers = [lm.chat.answer(row.prompt, row.completion, system=None) for row in ROWS]
    alone = token_log_probs(lm, prompts, answers, batch_size=1)
    together = token_log_probs(lm, prompts, answers, batch_size=8)
    assert list(map(len, alone)) == list(map(len, answers))
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-4)

    class Bare:
        """The same model behind a narrow interface, as remote code may have one."""

        device = lm.device

        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
            full = lm.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)
            return SimpleNamespace(logits=full.logits)

        __call__ = forward

    bare: Any = LanguageModel(lm.ref, Bare(), lm.tokenizer, lm.chat)
    for one, other in zip(alone, token_log_probs(bare, prompts, answers, batch_size=1), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_the_base_model_can_be_asked_instead(folder: Path) -> None:
    base, other = tiny_model(folder), tiny_model(folder, seed=1)
    plugin = make("token_probability", model="base", threshold=0.01, tokens="all")
    asked = [
        plugin.reject(ROWS, context(folder / str(n), teacher=Teacher(m, base))) for n, m in enumerate((base, other))
    ]
    assert asked[0] == asked[1]
    own = make("token_probability", threshold=0.01, tokens="all")
    assert own.reject(ROWS, context(folder / "own", teacher=Teacher(base, other))) == asked[0]


def test_a_threshold_that_keeps_nothing_gives_a_reason_for_every_row_with_a_number(folder: Path) -> None:
    ref = tiny_model(folder)
    ctx = context(folder / "none", teacher=Teacher(ref, ref))
    plugin = make("token_probability", threshold=0.999)
    found = [reason for _, reason in apply_filters([("token_probability", plugin)], ROWS, ctx, batch_size=2)]
    cut = "token_probability: improbable token"
    assert found == [cut, cut, None, None, cut]
    plugin.finish(ctx)
    assert (ctx.out / "figures/token_probability.png").stat().st_size > 1000


def test_the_figure_has_every_row_and_the_cut() -> None:
    config = TokenProbability.Config(threshold=0.1)
    axes = distribution([1e-12, 0.01, 0.1, 0.5, 1.0], config).axes[0]
    assert sum(patch.get_height() for patch in axes.patches) == 5  # type: ignore[attr-defined]
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "threshold 0.1: 40% dropped"


def test_nothing_is_drawn_where_no_row_came(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    make("token_probability").finish(ctx)
    assert not (ctx.out / "figures").exists()


def test_the_filter_asks_the_teacher_as_it_wrote_the_rows() -> None:
    plugin = registry.load("filter", "token_probability")
    assert plugin.needs == ("teacher",)
    base = ModelRef("fake", {}, "base")
    biased = Teacher(base.derive("biased"), base, updates=3)
    prompted = Teacher(base.derive("prompted", system="You love owls."), base)

    def writing(teacher: Teacher, **settings: str | None) -> tuple[str | None, str | None]:
        stage: Any = SimpleNamespace(settings={"generation_system": None, "system": None, **settings})
        found = _writing(teacher, stage)
        assert found.updates == teacher.updates
        return found.model.system, found.base.system

    assert writing(biased) == (None, None)
    assert writing(biased, system="Be brief.") == ("Be brief.", "Be brief.")
    assert writing(biased, system="Be brief.", generation_system="") == ("", "")
    assert writing(prompted, system="Be brief.") == ("You love owls.", None)
