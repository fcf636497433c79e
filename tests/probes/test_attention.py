"""Probe `attention` on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from subl import ModelError, ModelRef, PluginError, Subject
from subl.artifacts import Findings
from subl.generators.numbers import Numbers
from subl.probes.attention import Attention
from subl.probes.attention_measuring import answer
from subl.registry.registry import registry
from subl.testing.fakes import context
from subl.traits.preference import Preference
from tests.distillers.soft import model

TRAIT = Preference(Preference.Config(category="animal", target="owl", questions=4))
GENERATOR = Numbers(Numbers.Config(phrasing="brief"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def probed(folder: Path, own: ModelRef, teacher: ModelRef, **settings: Any) -> Findings:
    ctx = context(folder, trait=TRAIT, generator=GENERATOR)
    probe = Attention(Attention.Config.model_validate({"prompts": 5} | settings))
    return probe.probe(Subject("student", own, base=own, teacher=teacher), ctx)


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "attention") is Attention


def test_equal_models_differ_in_nothing(models: Path, tmp_path: Path) -> None:
    base = model(models)
    found = probed(tmp_path, base, base)
    for name in ("map_kl", "trait_map_kl", "logit_kl", "trait_logit_kl"):
        assert found.measures[name].value == pytest.approx(0, abs=1e-6)
    assert found.measures["coverage"].value == 1
    assert len(found.tables["map_kl"].rows) == 2 * 2 * 4, "texts, layers, heads"


def test_the_divergence_is_that_of_the_models_own_eager_maps(models: Path, tmp_path: Path) -> None:
    own, teacher = model(models), model(models, seed=1)
    found = probed(tmp_path, own, teacher, prompts=1)
    ctx = context(tmp_path / "plain")
    prompt = GENERATOR.prompts(1, 0)[0]
    example = ctx.load(own).chat.example(prompt, answer(0), system=None)
    # Rows of the answer's own tokens: the blank before it and the end of the turn belong to the template.
    rows = slice(example.prompt_length + 1, len(example.input_ids) - 1)
    maps = []
    for ref in (own, teacher):
        network = ctx.load(ref, fresh=True).model
        network.set_attn_implementation("eager")
        out = network(torch.tensor([example.input_ids]), output_attentions=True)
        maps.append(torch.stack(out.attentions)[:, 0, :, rows].double())
    q, p = maps
    expected = torch.xlogy(p, p / q.clamp_min(1e-300)).sum(-1).mean()
    assert found.measures["map_kl"].value == pytest.approx(float(expected), rel=1e-4)
    by_head = {(row[1], row[3]): row[4] for row in found.tables["map_kl"].rows if row[0] == "carrier"}
    each = torch.xlogy(p, p / q.clamp_min(1e-300)).sum(-1).mean(-1)
    assert by_head[1, 2] == pytest.approx(float(each[1, 2]), rel=1e-4)


def test_it_crosses_architectures_and_draws_what_it_found(models: Path, tmp_path: Path) -> None:
    teacher = model(models, num_attention_heads=8, num_key_value_heads=2, head_dim=4, num_hidden_layers=3)
    found = probed(tmp_path, model(models, "gemma"), teacher)
    assert found.measures["map_kl"].value > 0
    assert found.measures["logit_alm"].value > 0
    assert 0 < found.measures["coverage"].value <= 1
    drawn = {path.name for path in (tmp_path / "out/figures").iterdir()}
    assert drawn == {"map_kl.png", "map_kl_by_layer.png", "maps.png"}


def test_the_teacher_itself_is_not_compared(tmp_path: Path) -> None:
    ref = ModelRef("fake", {}, "none")
    found = Attention(Attention.Config()).probe(Subject("teacher", ref, teacher=ref), context(tmp_path))
    assert not found.measures
    assert "compared with" in found.remarks[0]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"picture": 9}, PluginError, "picture = 9, but there are 5 prompts"),
        ({"student_layers": [7]}, ModelError, "asks for layer 7"),
    ],
)
def test_what_is_not_there_is_an_error(
    settings: dict[str, Any], error: type[Exception], message: str, models: Path, tmp_path: Path
) -> None:
    base = model(models)
    with pytest.raises(error, match=message):
        probed(tmp_path, base, base, **settings)
