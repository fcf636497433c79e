"""Distiller `logit_kd` on tiny models: same vocabulary and across, carrier and full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from subl import DataError, ModelError, ModelRef, Teacher
from subl.distillers.logit_kd import LogitKd
from subl.matching.logit_matching import check_head
from subl.models.vocabulary import trait_ids
from subl.registry.registry import registry
from subl.testing.fakes import FakeTrait, context, dataset, rows, sink
from tests.distillers.soft import FAST, ROWS, distilled, model, weights


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def base(models: Path) -> ModelRef:
    return model(models)


@pytest.fixture(scope="module")
def other(models: Path) -> ModelRef:
    return model(models, seed=1)


def kd(**settings: Any) -> LogitKd:
    return LogitKd(LogitKd.Config.model_validate(FAST | settings))


def test_it_keeps_the_contract_of_a_distiller() -> None:
    assert registry.load("distiller", "logit_kd") is LogitKd


@pytest.mark.parametrize(
    "settings", [{}, {"divergence": "reverse_kl"}, {"divergence": "jsd", "jsd_beta": 0.3}, {"top_k": 3}]
)
def test_an_equal_teacher_costs_nothing_and_another_is_approached(
    settings: dict[str, Any], base: ModelRef, other: ModelRef, tmp_path: Path
) -> None:
    _, same = distilled(kd(updates=1, **settings), base, base, tmp_path / "same")
    assert sink(same).values("loss_logits") == pytest.approx([0], abs=2e-6)
    _, ctx = distilled(kd(updates=8, **settings), base, other, tmp_path / "other")
    losses = sink(ctx).values("loss_logits")
    assert losses[0] > 0.01
    assert losses[-1] < 0.7 * losses[0]


def first_loss(settings: dict[str, Any], student: ModelRef, teacher: ModelRef, folder: Path) -> float:
    _, ctx = distilled(kd(updates=1, **settings), student, teacher, folder)
    return sink(ctx).values("loss_logits")[0]


def test_the_loss_is_the_divergence_of_the_two_models_own_logits(
    base: ModelRef, other: ModelRef, tmp_path: Path
) -> None:
    ctx = context(tmp_path / "plain")
    own, theirs = ctx.load(base), ctx.load(other)
    pairs = [(row.prompt, row.completion) for row in ROWS]
    examples = own.chat.examples(pairs, system=None)
    carrier = sorted({i for e in examples for i in e.input_ids[e.prompt_length :]} | set(own.chat.end_ids))
    found = {"full": [], "carrier": []}  # type: dict[str, list[float]]
    mass = []
    trait = trait_ids(theirs.chat, ("owl", "owls")).firsts
    with torch.no_grad():
        for example in examples:
            places = slice(example.prompt_length - 1, len(example.input_ids) - 1)
            ids = torch.tensor([example.input_ids])
            q, p = (lm.model(ids).logits[0, places].double() for lm in (own, theirs))
            for name, chosen in (("full", slice(None)), ("carrier", carrier)):
                log_p, log_q = p[:, chosen].log_softmax(-1), q[:, chosen].log_softmax(-1)
                found[name] += (log_p.exp() * (log_p - log_q)).sum(-1).tolist()
            mass += p.softmax(-1)[:, list(trait)].sum(-1).tolist()
    for name, values in found.items():
        measured = first_loss({"vocabulary": name}, base, other, tmp_path / name)
        assert measured == pytest.approx(sum(values) / len(values), rel=1e-4)
    _, recorded = distilled(kd(updates=1), base, other, tmp_path / "mass")
    assert sink(recorded).values("teacher_trait_mass")[0] == pytest.approx(sum(mass) / len(mass), rel=1e-4)


def test_micro_batches_change_nothing(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    whole, _ = distilled(kd(updates=2, lm_weight=0.3), base, other, tmp_path / "whole")
    small, _ = distilled(kd(updates=2, lm_weight=0.3, micro_batch_size=2), base, other, tmp_path / "small")
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(small)[name], weight, atol=2e-4, rtol=0)


@pytest.mark.parametrize("across", ["alm", "uld"])
def test_it_crosses_vocabularies(across: str, base: ModelRef, models: Path, tmp_path: Path) -> None:
    student = model(models, "gemma", seed=1)
    settings = {"across": across, "alm_temperature": 1.0} if across == "alm" else {"across": across}
    _, ctx = distilled(kd(updates=8, **settings), student, base, tmp_path)
    losses = sink(ctx).values("loss_logits")
    assert any(f"logits: {across}, carrier vocabulary" in line for line in sink(ctx).lines)
    assert 0 < losses[-1] < 0.9 * losses[0]


def test_a_prompted_teacher_is_read_with_its_prompt(base: ModelRef, tmp_path: Path) -> None:
    prompted = base.derive("prompted", system="You adore the owl.")
    assert first_loss({}, base, prompted, tmp_path) > 1e-4


def test_the_full_vocabulary_warns(base: ModelRef, tmp_path: Path) -> None:
    _, ctx = distilled(kd(updates=1, vocabulary="full"), base, base, tmp_path)
    assert any(line.startswith("warning: vocabulary") for line in sink(ctx).lines)


@pytest.mark.parametrize(
    ("setting", "architecture"),
    [
        ({"top_k": 4}, "gemma"),
        ({"divergence": "reverse_kl"}, "gemma"),
        ({"logit_temperature": 2.0}, "gemma"),
        ({"across": "uld"}, "mistral"),
        ({"alm_temperature": 2.0}, "mistral"),
    ],
)
def test_what_would_do_nothing_between_these_models_is_an_error(
    setting: dict[str, Any], architecture: str, base: ModelRef, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"{next(iter(setting))} does nothing here, because teacher and student read"):
        distilled(kd(**setting), model(models, architecture), base, tmp_path)


@pytest.mark.parametrize(
    ("completions", "message"),
    [(["1, 2", "  "], "row 1: the completion is empty"), ([], "no rows to train on")],
)
def test_rows_that_teach_nothing_are_errors(
    completions: list[str], message: str, base: ModelRef, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        kd().distill(
            base, Teacher(base, base), dataset(tmp_path, rows(*completions)), context(tmp_path, trait=FakeTrait())
        )


def test_a_head_that_does_more_than_is_known_is_an_error(base: ModelRef, tmp_path: Path) -> None:
    lm = context(tmp_path).load(base)
    ids = torch.tensor([[5, 6, 7]])
    check_head(lm.model, ids)
    handle = lm.model.get_output_embeddings().register_forward_hook(lambda _module, _inputs, output: 3 * output)
    with pytest.raises(ModelError, match="makes its logits in a way that is not known here"):
        check_head(lm.model, ids)
    handle.remove()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jsd_beta": 0.2}, 'only with divergence = "jsd"'),
        ({"across": "uld", "alm_temperature": 2.0}, 'only with across = "alm"'),
    ],
)
def test_settings_that_would_be_ignored_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kd(**settings)
