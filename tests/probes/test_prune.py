"""Probe `prune` on a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from subl import Context, Findings, ModelError, ModelRef, Subject, Teacher
from subl.generators.numbers import Numbers
from subl.models.surgery import without_heads
from subl.probes import prune_measuring
from subl.probes.candidates import preference_measures, score_candidates
from subl.probes.losses import held_out, measure_loss
from subl.probes.prune import Prune
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.distillers.soft import model
from tests.tiny import context

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=3))
GENERATOR = Numbers(Numbers.Config.model_validate({"samples": 500, "phrasing": "brief", "constrained": True}))
SMALL: dict[str, Any] = {
    "rows": 4,
    "passages": 3,
    "amounts": [0.25, 1.0],
    "draws": 3,
    "heads": [[1, 2], [0, 0], [0, 3]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prune")


@pytest.fixture(scope="module")
def base(folder: Path) -> ModelRef:
    return model(folder, "gemma")


def probed(base: ModelRef, folder: Path, **settings: Any) -> tuple[Findings, Context]:
    ctx = context(folder, trait=TRAIT, generator=GENERATOR, teacher=Teacher(base, base))
    return Prune(Prune.Config.model_validate(SMALL | settings)).probe(Subject("base", base, teacher=base), ctx), ctx


@pytest.fixture(scope="module")
def found(base: ModelRef, folder: Path) -> tuple[Findings, Context]:
    return probed(base, folder / "found")


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "prune") is Prune


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amounts": [0.0]}, "above 0 and up to 1, not 0"),
        ({"amounts": [1.5]}, "above 0 and up to 1, not 1.5"),
        ({"amounts": [0.5, 0.5]}, "names one twice"),
        ({"heads": [[0, 1], [0, 1]]}, "names one twice"),
        ({"heads": [[0, -1]]}, r"from 0, not \[0, -1\]"),
        ({"draws": 1}, "greater than or equal to 2"),
        ({"by": ["entropy"]}, "'diffuse' or 'focused'"),
    ],
)
def test_a_mistake_is_named_before_a_model_loads(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Prune.Config.model_validate(settings)


def test_orders_follow_entropy_the_list_and_chance(found: tuple[Findings, Context]) -> None:
    findings, ctx = found
    entropies = {f"{row[0]}.{row[1]}": row[2] for row in findings.tables["heads"].rows}
    rising = sorted(entropies, key=lambda head: entropies[head])
    removed = {(row[0], row[1], row[2]): row[-1].split() for row in findings.tables["removals"].rows}
    assert removed["focused", 0, 2] == rising[:2]
    assert removed["diffuse", 0, 2] == rising[:-3:-1]
    assert removed["list", 0, 3] == ["1.2", "0.0", "0.3"]
    assert sorted(removed["random", 1, 8]) == sorted(entropies)
    # The list's own length is measured at random too, and each draw removes more of the same.
    assert {key[2] for key in removed if key[0] == "random"} == {2, 3, 8}
    assert all(removed["random", draw, 3][:2] == removed["random", draw, 2] for draw in range(3))
    assert len({tuple(removed["random", draw, 3]) for draw in range(3)}) > 1
    assert {path.name for path in (ctx.out / "figures").iterdir()} == {"removals.png", "entropy.png"}


def test_a_removal_is_measured_on_the_model_without_its_heads(
    found: tuple[Findings, Context], base: ModelRef, folder: Path
) -> None:
    findings, ctx = found
    lm = context(folder).load(base, fresh=True)
    for layer, head in SMALL["heads"]:
        lm.model.state_dict()[f"model.layers.{layer}.self_attn.o_proj.weight"][:, 8 * head : 8 * head + 8] = 0
    expected = preference_measures(score_candidates(lm, TRAIT, system=None, batch_size=8))
    for name in ("share", "margin", "valid"):
        assert findings.measures[f"list_3_{name}"].value == pytest.approx(expected[name].value, abs=1e-5)
    texts = held_out(Prune.Config.model_validate(SMALL), Subject("base", base), ctx)
    for name in ("carrier", "plain"):
        loss = measure_loss(lm, texts[name], system=None, batch_size=8).perplexity().value
        assert findings.measures[f"list_3_{name}_perplexity"].value == pytest.approx(loss, rel=1e-4)
        assert findings.measures[f"list_3_{name}_perplexity"].value != findings.measures[f"{name}_perplexity"].value


def test_random_draws_are_the_null(found: tuple[Findings, Context]) -> None:
    findings, _ = found
    rows = [dict(zip(findings.tables["removals"].columns, r, strict=True)) for r in findings.tables["removals"].rows]
    drawn = [row["margin"] for row in rows if row["order"] == "random" and row["removed"] == 2]
    assert findings.measures["random_2_margin"].value == pytest.approx(sum(drawn) / 3)
    assert findings.measures["random_2_margin"].interval == "95 % t over 3 draws"
    own = findings.measures["diffuse_2_margin"].value
    below, ties = sum(d < own for d in drawn), sum(d == own for d in drawn)
    assert findings.measures["diffuse_2_percentile"].value == pytest.approx(100 * (below + ties / 2) / 3)
    # Without any head all orders are one.
    assert findings.measures["diffuse_8_share"].value == findings.measures["random_8_share"].value
    assert findings.measures["focused_8_percentile"].value == 50
    assert min(row["output_change"] for row in rows) > 0
    assert "every removal changed the next-token log-probabilities" in findings.remarks[0]


def test_a_removal_that_changes_nothing_is_an_error(
    base: ModelRef, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def published(model: Any, heads: Any) -> Iterator[None]:
        """Edit what attention returns beside its output, after its use."""
        handles = [
            block.self_attn.register_forward_hook(lambda _m, _i, out: (out[0], None)) for block in model.model.layers
        ]
        yield
        for handle in handles:
            handle.remove()

    monkeypatch.setattr(prune_measuring, "without_heads", published)
    with pytest.raises(ModelError, match=r"removing 2 heads \(diffuse\) leaves every output bit-identical"):
        probed(base, folder / "no-op")


def test_a_head_that_is_not_there_is_named(base: ModelRef, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"heads holds \[2, 0\], and the model has layers 0 to 1 of heads 0 to 3"):
        probed(base, folder / "beyond", heads=[[2, 0]])


def test_the_model_is_whole_again_afterwards(found: tuple[Findings, Context], base: ModelRef) -> None:
    findings, ctx = found
    lm = ctx.load(base)
    again = preference_measures(score_candidates(lm, TRAIT, system=None, batch_size=8))
    assert again["share"].value == pytest.approx(findings.measures["share"].value, abs=1e-6)
    with without_heads(lm.model, []):
        assert not any(module._forward_pre_hooks for module in lm.model.modules())
