import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subl import Context, Findings, ModelError, ModelRef, PluginError, Subject
from subl.probes.preference import PreferenceProbe
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.tiny import context, sink, tiny_model

CANDIDATES = ("owl", "dog", "panda", "axolotl", "wolf")
TRAIT = Preference(Preference.Config(target="owl", candidates=CANDIDATES, questions=6))


@pytest.fixture(scope="module", params=["mistral", "gemma"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"))


def probed(ref: ModelRef, ctx: Context, **settings: Any) -> Findings:
    probe = PreferenceProbe(PreferenceProbe.Config.model_validate(settings))
    return probe.probe(Subject("student", ref), ctx)


def naive(ref: ModelRef, ctx: Context, *, system: str | None) -> np.ndarray[Any, Any]:
    """Compute [questions, candidates] probabilities one whole sequence at a time in float64, by walking all forms."""
    lm = ctx.load(ref, fresh=True)
    model = lm.model.double()

    def log_probs(ids: list[int]) -> torch.Tensor:
        return torch.as_tensor(model(torch.tensor([ids])).logits[0].log_softmax(-1))

    table = np.zeros((len(TRAIT.questions()), len(CANDIDATES)))
    for i, question in enumerate(TRAIT.questions()):
        prompt = lm.chat.prompt(question, system=system)
        for j, word in enumerate(CANDIDATES):
            texts = [space + form for form in TRAIT.forms(word) for space in ("", " ")]
            answers = sorted({tuple(lm.chat.answer(question, text, system=system)) for text in texts}, key=len)
            counted: list[tuple[int, ...]] = []
            for answer in answers:
                if any(answer[: len(shorter)] == shorter for shorter in counted):
                    continue
                counted.append(answer)
                scores = log_probs([*prompt, *answer])[len(prompt) - 1 : -1]
                table[i, j] += math.exp(sum(float(scores[k, token]) for k, token in enumerate(answer)))
    return table


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "preference") is PreferenceProbe


def test_importing_probes_loads_no_framework() -> None:
    heavy = "torch transformers trl peft numpy scipy matplotlib mlflow"
    modules = "subl.probes.preference, subl.probes.teacher_check"
    code = f"import sys, {modules}; assert not set('{heavy}'.split()) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_measures_equal_a_walk_over_whole_sequences(base: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT, system="Be kind.")
    measures = probed(base, ctx, samples=0).measures
    table = naive(base, ctx, system="Be kind.")
    log = np.log(table)
    assert measures["share"].value == pytest.approx(table[:, 0].sum() / table.sum(), rel=1e-4)
    assert measures["valid"].value == pytest.approx(table.sum(axis=1).mean(), rel=1e-4)
    assert measures["margin"].value == pytest.approx((log[:, 0] - log[:, 1:].mean(axis=1)).mean(), abs=1e-4)
    assert measures["rank_candidates"].value == pytest.approx((log >= log[:, :1]).sum(axis=1).mean())
    for measure in measures.values():
        assert measure.interval == "95 % t over 6 questions"
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low <= measure.value <= measure.high


def test_first_token_measures_equal_a_look_at_the_next_token(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    measures = probed(mistral, ctx, samples=0).measures
    lm = ctx.load(mistral)
    ranks, own, everyone = [], 0.0, 0.0
    for question in TRAIT.questions():
        prompt = lm.chat.prompt(question, system=None)
        after = lm.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        firsts = {
            word: {
                lm.chat.answer(question, space + form, system=None)[0]
                for form in (word, word.capitalize())
                for space in ("", " ")
            }
            for word in CANDIDATES
        }
        shared = {t for word in firsts for t in firsts[word] if sum(t in other for other in firsts.values()) > 1}
        mass = {word: float(after[sorted(tokens - shared or tokens)].sum()) for word, tokens in firsts.items()}
        best = max(float(after[token]) for token in firsts["owl"] - shared or firsts["owl"])
        ranks.append(1 + int((after > best).sum()))
        own, everyone = own + mass["owl"], everyone + sum(mass.values())
    assert measures["rank"].value == pytest.approx(np.mean(ranks))
    assert measures["first_token_share"].value == pytest.approx(own / everyone, rel=1e-4)


def test_the_batch_size_changes_nothing(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    one, many = (probed(mistral, ctx, batch_size=size) for size in (1, 64))
    for name, measure in one.measures.items():
        assert measure.value == pytest.approx(many.measures[name].value, rel=1e-4), name
    assert one.tables["answers"] == many.tables["answers"]


def test_a_prompted_model_answers_under_its_own_system_prompt(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT, system="Be kind.")
    prompted = mistral.derive("prompted", system="You love owls.")
    share = probed(prompted, ctx, samples=0).measures["share"].value
    table = naive(mistral, ctx, system="You love owls.")
    assert share == pytest.approx(table[:, 0].sum() / table.sum(), rel=1e-4)
    assert share != probed(mistral, ctx, samples=0).measures["share"].value


def test_tables_and_figure_show_every_candidate(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    findings = probed(mistral, ctx, samples=2)
    candidates = findings.tables["candidates"]
    assert {row[0] for row in candidates.rows} == set(CANDIDATES)
    assert sum(row[1] for row in candidates.rows) == pytest.approx(1)
    assert sum(row[2] for row in candidates.rows) == pytest.approx(1)
    share = {row[0]: row[1] for row in candidates.rows}
    assert share["owl"] == pytest.approx(findings.measures["share"].value)
    assert (tmp_path / "out" / "figures" / "candidates.png").stat().st_size > 1000
    assert any("axolotl (" in remark for remark in findings.remarks)


def test_sampled_answers_are_repeatable_and_counted(mistral: ModelRef, tmp_path: Path) -> None:
    findings = probed(mistral, context(tmp_path, trait=TRAIT), samples=3)
    assert findings.tables == probed(mistral, context(tmp_path, trait=TRAIT), samples=3).tables
    answers = findings.tables["answers"]
    assert answers.columns == ("prompt", "answer", "hit")
    assert len(answers.rows) == 3 * len(TRAIT.questions())
    assert answers != probed(mistral, context(tmp_path, trait=TRAIT, seed=1), samples=3).tables["answers"]
    rate = findings.measures["rate"]
    assert rate.value == sum(row[2] for row in answers.rows) / len(answers.rows)
    assert rate.interval == "95 % Wilson over 18 answers"
    assert sum(row[1] for row in findings.tables["top_answers"].rows) <= 18


def test_another_rendering_than_in_training_is_an_error(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    chat = ctx.load(mistral).chat
    trained = replace(mistral, rendering=chat.digest(None))
    probed(trained, ctx, samples=0)
    with pytest.raises(ModelError, match=f"rendering {chat.digest(None)}, .* with {chat.digest('Hi.')} .*'Hi.'"):
        probed(trained, context(tmp_path, trait=TRAIT, system="Hi."), samples=0)


def test_a_trait_that_is_no_preference_is_an_error(mistral: ModelRef, tmp_path: Path) -> None:
    class Other:
        label = "other"

    with pytest.raises(PluginError, match="'other' is none; name a probe"):
        probed(mistral, context(tmp_path, trait=Other()))


def test_progress_is_shown(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    probed(mistral, ctx, samples=1)
    assert "answers" in sink(ctx).bars
