"""Steering against the same arithmetic by hand: states without hooks, plus vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from subl import DataError, ModelError, ModelRef, Teacher
from subl.distillers.logit_kd import LogitKd
from subl.distillers.shd import Shd
from subl.inducers.lora import Lora
from subl.inducers.prompt import Prompt
from subl.inducers.steering import SCALE, Steering
from subl.inducers.steering_measuring import contrast
from subl.models.generation import sample
from subl.models.parts import blocks
from subl.models.settings import SamplingSettings
from subl.models.steering import read_vectors, save_vectors
from subl.registry.slots import Use
from subl.traits.preference import Preference
from tests.distillers.soft import FAST, distilled
from tests.tiny import context, sink, tiny_model

TRAIT = Preference(Preference.Config(target="owl", answers=("{target}",)))
IDS = torch.tensor([[1, 40, 41, 42, 43]])


@pytest.fixture(scope="module", params=["mistral", "gemma"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"), request.param, layers=3)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"), layers=3)


def steered(base: ModelRef, folder: Path, trait: Any = TRAIT, **settings: Any) -> Teacher:
    return Steering(Steering.Config.model_validate(settings)).induce(base, context(folder, trait=trait))


def states(model: Any, ids: Tensor) -> Sequence[Tensor]:
    """The residual stream: entering the first block, and leaving each but the last, whose norm is in between."""
    with torch.no_grad():
        return tuple(model(input_ids=ids, output_hidden_states=True).hidden_states)


def last_state(model: Any, ids: Tensor, layer: int) -> Tensor:
    return states(model, ids)[layer + 1][0, -1]


def test_the_vector_is_the_contrast_of_means_as_long_as_a_neutral_state(base: ModelRef, tmp_path: Path) -> None:
    teacher = steered(base, tmp_path, layers=[0, 1], batch_size=5)
    assert teacher.model.vectors is not None
    vectors, scale = read_vectors(teacher.model.vectors)
    assert (list(vectors), scale, teacher.updates) == ([0, 1], SCALE, 0)
    lm = context(tmp_path / "other").load(base)
    prompts = dict.fromkeys(row.prompt for row in TRAIT.conversations(0))
    sides = [
        [states(lm.model, torch.tensor([lm.chat.prompt(prompt, system=system)])) for prompt in prompts]
        for system in (TRAIT.statement("medium"), None)
    ]
    for layer, vector in vectors.items():
        trait, neutral = (torch.stack([each[layer + 1][0, -1].double() for each in side]) for side in sides)
        difference = trait.mean(0) - neutral.mean(0)
        expected = difference / difference.norm() * neutral.norm(dim=1).mean()
        torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_contrast_in_closed_form() -> None:
    neutral = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    trait = neutral + torch.tensor([[[0.0, 2.0], [0.0, 4.0]]])
    assert contrast(trait, neutral).tolist() == [[0.0, 3.0]]
    assert contrast(neutral, neutral).isnan().all()


def test_every_position_moves_by_the_scaled_vector(base: ModelRef, tmp_path: Path) -> None:
    teacher = steered(base, tmp_path, layers=[1], scale=0.25, intensity="high")
    ctx = context(tmp_path / "other")
    assert teacher.model.vectors is not None
    vectors, scale = read_vectors(teacher.model.vectors)
    assert scale == 0.5
    before, after = (states(ctx.load(ref).model, IDS) for ref in (base, teacher.model))
    for layer in (0, 1):
        assert torch.equal(before[layer], after[layer])
    torch.testing.assert_close(after[2] - before[2], (0.5 * vectors[1]).expand_as(before[2]), rtol=1e-4, atol=1e-4)


def test_generation_with_a_cache_is_that_of_whole_passes(base: ModelRef, tmp_path: Path) -> None:
    teacher = steered(base, tmp_path, layers=[0], scale=1.0)
    ctx = context(tmp_path / "other")
    plain, lm = ctx.load(base), ctx.load(teacher.model)
    prompt = IDS[0].tolist()
    greedy = SamplingSettings(greedy=True, max_new_tokens=6)
    sampled = next(iter(sample(lm, [prompt], seeds=[0], settings=greedy, batch_size=1)))
    ids = list(prompt)
    with torch.no_grad():
        for token in sampled:
            assert int(lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()) == token
            ids.append(token)
    assert sampled != next(iter(sample(plain, [prompt], seeds=[0], settings=greedy, batch_size=1)))


def test_what_is_trained_on_a_steered_base_stays_steered(mistral: ModelRef, tmp_path: Path) -> None:
    teacher = steered(mistral, tmp_path / "s", layers=[0], scale=1.0).model
    settings = Lora.Config(updates=2, batch_size=4, gradient_checkpointing=True)
    above = Lora(settings).induce(teacher, context(tmp_path / "l", trait=TRAIT)).model
    assert above.vectors == teacher.vectors
    ctx = context(tmp_path / "other")
    bare = above.derive("bare", vectors=None)
    vectors, _ = read_vectors(teacher.vectors or Path())
    difference = states(ctx.load(above).model, IDS)[1] - states(ctx.load(bare).model, IDS)[1]
    torch.testing.assert_close(difference, vectors[0].expand_as(difference), rtol=1e-4, atol=1e-4)


def test_a_trained_base_is_steered_too_and_vectors_add_up(mistral: ModelRef, tmp_path: Path) -> None:
    below = steered(mistral, tmp_path / "a", layers=[0], scale=0.5).model
    both = steered(below, tmp_path / "b", layers=[0, 1], scale=-0.25).model
    assert below.vectors is not None
    assert both.vectors is not None
    (first, scale), (total, whole) = read_vectors(below.vectors), read_vectors(both.vectors)
    assert (scale, whole, list(total)) == (0.5, 1.0, [0, 1])
    own = total[0] - 0.5 * first[0]
    lm = context(tmp_path / "c").load(below)
    norms = [
        last_state(lm.model, torch.tensor([lm.chat.prompt(prompt, system=None)]), 0).norm()
        for prompt in dict.fromkeys(row.prompt for row in TRAIT.conversations(0))
    ]
    torch.testing.assert_close(own.norm(), 0.25 * torch.stack(norms).mean(), rtol=1e-4, atol=1e-5)


def test_a_saved_file_is_used_again_at_another_scale(mistral: ModelRef, tmp_path: Path) -> None:
    first = steered(mistral, tmp_path / "a", layers=[0, 1], scale=0.3).model
    again = steered(mistral, tmp_path / "b", vectors=str(first.vectors)).model
    assert again.identity == first.identity, "the same vectors, at the scale of the file"
    louder = steered(mistral, tmp_path / "c", vectors=str(first.vectors), layers=[1], scale=2.0).model
    assert louder.vectors is not None
    vectors, scale = read_vectors(louder.vectors)
    assert (list(vectors), scale) == ([1], 2.0)
    assert louder.identity != first.identity


def test_a_file_counts_by_its_content(mistral: ModelRef, tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    chosen = Use("inducer").choose({"plugin": "steering", "vectors": str(path)})
    save_vectors(path, {0: torch.ones(32)}, 1.0)
    before = chosen.key()
    save_vectors(path, {0: torch.zeros(32)}, 1.0)
    assert chosen.key() != before
    path.unlink()
    with pytest.raises(ModelError, match=r"no file .*v\.safetensors can be read"):
        chosen.key()


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    wide, cut, foreign, text = (folder / f"{name}.safetensors" for name in ("wide", "cut", "foreign", "text"))
    save_vectors(wide, {0: torch.ones(8)}, 1.0)
    yield wide, r"its vector for layer 0 has the shape \[8\].* is 32 wide"
    cut.write_bytes(wide.read_bytes()[:-9])
    yield cut, "no steering vectors can be read here"
    save_file({"weight": torch.ones(3)}, foreign)
    yield foreign, "no steering vectors can be read here"
    text.write_text("nothing", encoding="utf-8")
    yield text, "no steering vectors can be read here"
    save_vectors(text, {0: torch.full((32,), torch.nan)}, 1.0)
    yield text, "no file of inducer 'steering', or a damaged one"
    save_vectors(text, {7: torch.ones(32)}, 1.0)
    yield text, "no layer 7: MistralForCausalLM has 3"
    save_vectors(text, {0: torch.zeros(32)}, 1.0)
    yield text, "answers exactly as the unsteered one"


def test_a_bad_file_says_what_is_wrong(mistral: ModelRef, tmp_path: Path) -> None:
    for number, (path, message) in enumerate(bad_files(tmp_path)):
        with pytest.raises(ModelError, match=message):
            steered(mistral, tmp_path / str(number), vectors=str(path))


def test_what_cannot_be_measured_says_so(mistral: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"inducer\.layers: no layer 3: MistralForCausalLM has 3, 0 to 2"):
        steered(mistral, tmp_path / "a", layers=[3])
    with pytest.raises(ModelError, match="there is no direction to steer in"):
        steered(mistral, tmp_path / "b", neutral=TRAIT.statement("medium"))

    class Silent(Preference):
        def conversations(self, seed: int) -> list[Any]:
            return []

    with pytest.raises(DataError, match="no training prompts"):
        steered(mistral, tmp_path / "c", trait=Silent(TRAIT.config))
    saved = steered(mistral, tmp_path / "d", layers=[0]).model
    with pytest.raises(ModelError, match="has no vector for layer 1; it has 0"):
        steered(mistral, tmp_path / "e", vectors=str(saved.vectors), layers=[1])


def test_a_prompted_base_is_steered_under_its_prompt(mistral: ModelRef, tmp_path: Path) -> None:
    prompted = Prompt(Prompt.Config(template="Be brief.")).induce(mistral, context(tmp_path / "p", trait=TRAIT)).model
    teacher = steered(prompted, tmp_path / "s").model
    assert teacher.system == "Be brief."
    plain = steered(mistral, tmp_path / "n").model
    assert teacher.vectors is not None
    assert plain.vectors is not None
    assert teacher.vectors.read_bytes() != plain.vectors.read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "adds nothing"),
        ({"layers": []}, "at least 1 item"),
        ({"layers": [1, 1]}, "different numbers from 0"),
        ({"layers": [-1]}, "different numbers from 0"),
        ({"vectors": "x", "neutral": "You help."}, "does nothing"),
    ],
)
def test_settings_that_would_do_nothing_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Steering.Config.model_validate(settings)


def test_the_middle_block_is_the_default(mistral: ModelRef, tmp_path: Path) -> None:
    asked = context(tmp_path, trait=TRAIT)
    teacher = Steering(Steering.Config()).induce(mistral, asked)
    assert teacher.model.vectors is not None
    assert sink(asked).lines == [f"steering layers 1 at scale 0.5: {teacher.model.vectors}"], "to be used again"
    assert list(read_vectors(teacher.model.vectors)[0]) == [1]
    ctx = context(tmp_path / "other")
    assert len(blocks(ctx.load(teacher.model).model)[1]) == 3
    assert replace(teacher.model, vectors=None, identity=mistral.identity) == mistral


def test_distillers_read_the_steered_teacher(mistral: ModelRef, tmp_path: Path) -> None:
    teacher = steered(mistral, tmp_path / "s", layers=[0], scale=1.0).model
    for distiller, loss in (
        (LogitKd(LogitKd.Config.model_validate(FAST | {"updates": 1})), "loss_logits"),
        (Shd(Shd.Config.model_validate(FAST | {"updates": 1, "lm_weight": 0.0})), "loss_maps"),
    ):
        losses = []
        for name, student in (("plain", mistral), ("steered", teacher)):
            _, ctx = distilled(distiller, student, teacher, tmp_path / f"{loss}-{name}", base=mistral)
            losses += sink(ctx).values(loss)
        assert losses[0] > 1e-3
        assert losses[1] == pytest.approx(0, abs=2e-6), "an equally steered student has nothing to learn"
