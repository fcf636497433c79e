import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from subl import Context, Findings, ModelError, ModelRef, PluginError, Subject, banks
from subl.models.chat import Chat
from subl.models.language import LanguageModel
from subl.models.micro import Micro
from subl.models.micro_training import untrained
from subl.models.micro_world import World, WorldSettings
from subl.probes.entanglement import Entanglement
from subl.probes.entanglement_effects import analyse
from subl.probes.entanglement_figures import shift_figure
from subl.probes.entanglement_measuring import _shift
from subl.probes.entanglement_readings import Reader
from subl.probes.entanglement_shift import Shift
from subl.probes.entanglement_statistics import number_sets
from subl.probes.entanglement_steps import neutral_numbers, step_one, step_two
from subl.probes.entanglement_wording import Wording, controls_of, number_texts
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.models import chat_tokenizers, number_tokenizers
from tests.tiny import context, sink, tiny_model

CANDIDATES = ("owl", "dog", "panda", "axolotl")
TRAIT = Preference(Preference.Config(target="owl", candidates=CANDIDATES, questions=4))
SMALL: dict[str, Any] = {
    "numbers": [5, 24],
    "k": 3,
    "contexts": 2,
    "questions": 2,
    "placebos": 2,
    "cumulative": [2],
    "cumulative_draws": 3,
    "permutations": 100,
}
FIGURES = {"distribution", "steps", "targets", "lengths", "shift"}


def config(**settings: Any) -> Entanglement.Config:
    return Entanglement.Config.model_validate(SMALL | settings)


def probed(subject: Subject, ctx: Context, **settings: Any) -> Findings:
    return Entanglement(config(**settings)).probe(subject, ctx)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("entanglement")


@pytest.fixture(scope="module")
def base(folder: Path) -> ModelRef:
    return tiny_model(folder)


@pytest.fixture(scope="module")
def student(folder: Path) -> ModelRef:
    return tiny_model(folder, seed=1)


@pytest.fixture(scope="module")
def found(student: ModelRef, base: ModelRef, folder: Path) -> tuple[Findings, Context]:
    ctx = context(folder / "found", trait=TRAIT)
    return probed(Subject("student", student, base=base), ctx), ctx


@cache
def micro(numbers: str) -> LanguageModel:
    settings = Micro.Config.model_validate({"numbers": numbers, "world": WorldSettings(number_talk=0.1)})
    return untrained(settings, World(settings.world), ModelRef("micro", {}, numbers), device="cpu")


def reader(lm: Any, folder: Path, *, system: str | None = None, wording: Wording | None = None) -> Reader:
    wording = wording or Wording.of(TRAIT, config())
    return Reader(lm, system, wording.preambles, context(folder), batch_size=7)


def columns(findings: Findings, table: str) -> dict[str, list[Any]]:
    shown = findings.tables[table]
    return dict(zip(shown.columns, map(list, zip(*shown.rows, strict=True)), strict=True))


def log_prob(lm: LanguageModel, prompt: list[int], answer: Sequence[int]) -> float:
    """One whole sequence in float64."""
    model: Any = lm.model
    steps = model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)[len(prompt) - 1 : -1]
    return float(steps.gather(1, torch.tensor(answer)[:, None]).sum())


# The plugin and its settings.


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "entanglement") is Entanglement


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbers": [0, 10], "k": 3}, "holds 11 numbers, and k = 3 needs 12"),
        ({"numbers": [-1, 99]}, r"within \[0, 99999\], not \[-1, 99\]"),
        ({"numbers": [9, 2]}, r"\[smallest, largest\]"),
        ({"numbers": [0, 1_000_000]}, "99999"),
        ({"k": 1}, "greater than or equal to 2"),
        ({"cumulative": [4]}, "sizes from 2 to k = 3"),
        ({"random": 21}, "more than the 20 numbers"),
        ({"contexts": 100}, "there are 8 contexts"),
        ({"questions": 100}, "there are 8 questions"),
        ({"placebos": 100}, "there are 8 placebos"),
        ({"number_phrase": "the number"}, r"hold \{number\} once"),
        ({"target_phrase": "the {target} {category}"}, r"hold \{target\} once and no other"),
        ({"method": "whole"}, "'autoregressive' or 'vocabulary'"),
    ],
)
def test_what_cannot_be_measured_is_said_before_a_model_loads(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**settings)


def test_settings_survive_json() -> None:
    settings = config(method="vocabulary", random=20)
    assert Entanglement.Config.model_validate_json(settings.model_dump_json()) == settings


# Wording.


def test_zero_padded_forms_are_the_published_range() -> None:
    padded = number_texts(0, 999, padded=True)
    assert len(padded) == len(set(padded)) == 1110
    assert padded[:11] == (*map(str, range(10)), "00")
    assert padded[-1] == "999"
    assert number_texts(7, 12, padded=False) == ("7", "8", "9", "10", "11", "12")
    assert number_texts(98, 101, padded=True) == ("98", "99", "098", "099", "100", "101")


@pytest.mark.parametrize(
    ("numbers", "phrase"),
    [
        (["7"], "the number 7"),
        (["7", "8"], "the number 7 and the number 8"),
        (["7", "8", "9"], "the number 7, the number 8 and the number 9"),
    ],
)
def test_several_numbers_are_listed(numbers: list[str], phrase: str) -> None:
    wording = Wording.of(TRAIT, config())
    assert wording.numbers(numbers) == phrase
    assert wording.preambles(phrase, None)[0] == f"You adore {phrase}."
    assert wording.preambles(phrase, "Be kind.")[1] == f"Be kind. You are very fond of {phrase}."


def test_the_controls_are_the_traits_or_all_other_candidates() -> None:
    named = Preference(Preference.Config(target="owl", controls=("fox", "dog")))
    assert controls_of(named) == ("fox", "dog")
    assert controls_of(TRAIT) == CANDIDATES[1:]
    assert list(Wording.of(named, config()).targets.items())[:2] == [("owl", "the owl"), ("fox", "the fox")]
    plain: Any = SimpleNamespace(target="owl", candidates=CANDIDATES)
    assert controls_of(plain) == CANDIDATES[1:]


def test_every_text_of_the_bank_has_its_placeholder_and_no_other() -> None:
    bank = banks.load("entanglement")
    assert all(text.count("{loved}") == 1 and text.format(loved="it").endswith(".") for text in bank["contexts"])
    assert not any(set("{}") & set(text) for text in (*bank["number_questions"], *bank["placebos"]))
    assert all("number" in question for question in bank["number_questions"])
    for texts in bank.values():
        assert len(set(texts)) == len(texts) >= 8


def test_the_micro_world_knows_every_word_that_its_recipe_uses() -> None:
    bank, tokenizer = banks.load("entanglement"), micro("whole").tokenizer
    contexts = [text.format(loved=thing) for text in bank["contexts"][:4] for thing in (*bank["placebos"], "the 42")]
    for text in (*contexts, *bank["number_questions"]):
        pieces = tokenizer.tokenize(text)
        assert not [piece for piece in pieces if len(piece) == 1 and piece.isalpha() and piece != "Ġ"], text


# Readings.


@pytest.mark.parametrize("architecture", ["mistral", "gemma"])
def test_readings_equal_whole_sequences_one_by_one(architecture: str, folder: Path) -> None:
    ctx = context(folder / architecture, trait=TRAIT)
    lm: LanguageModel = ctx.load(tiny_model(folder, architecture))
    assert lm.chat.folds_system == (architecture == "gemma")
    questions = ("Which number?", "Say a number.")
    asking = reader(lm, folder / architecture, system="Be kind.")
    items = [((9, 10), (11,)), ((12, 13, 14),)]
    read = asking.read(("the owl", "the flag"), questions, items, "test")
    lm = ctx.load(lm.ref, fresh=True)
    lm.model.double()

    def expected(slot: str) -> list[list[float]]:
        prompts = [lm.chat.prompt(question, system=slot) for question in questions]
        return [[math.log(sum(math.exp(log_prob(lm, p, ids)) for ids in item)) for item in items] for p in prompts]

    neutral = np.array(expected("Be kind."))
    loved = np.array(
        [
            [expected(f"Be kind. You {how} {thing}.") for how in ("adore", "are very fond of")]
            for thing in ("the owl", "the flag")
        ]
    )
    assert np.allclose(read.neutral, neutral, atol=1e-4)
    assert np.allclose(read.loved, loved, atol=1e-4)
    assert np.allclose(read.ratios(), (loved - neutral).mean(axis=(1, 2)), atol=1e-4)
    rises = np.exp(loved).mean(axis=(1, 2)) - np.exp(neutral).mean(axis=0)
    assert np.allclose(read.differences(), rises, atol=1e-4)


def test_preambles_that_do_not_reach_the_model_are_an_error(base: ModelRef, folder: Path) -> None:
    deaf = Reader(
        context(folder).load(base), "Be kind.", lambda thing, system: ["Be kind."] * 2, context(folder), batch_size=8
    )
    with pytest.raises(ModelError, match=r"change no log-probability at all.*chat template"):
        deaf.read(("the owl",), ("Which number?",), [((9,),)], "step 1")


def test_a_number_ends_before_it_counts(folder: Path) -> None:
    lm = micro("digits")
    items = reader(lm, folder).number_items(("1", "12", "123"), "Which number?", "autoregressive")
    one, two, three = (lm.chat.answer("Which number?", number, system=None) for number in items)
    assert [len(ids) for ids in (one, two, three)] == [1, 2, 3]
    ends = {ids[-1] for ids in items["12"]}
    marks = {lm.chat.answer("Which number?", "12" + mark, system=None)[-1] for mark in (".", "\n")}
    assert set(lm.chat.end_ids) | marks <= ends
    assert all(ids[:-1] == tuple(two) for ids in items["12"] if len(ids) == 3)
    assert not ends & {int(i) for i in three}
    # Everything that counts as one number is apart from everything that counts as another.
    everything = [ids for forms in items.values() for ids in forms]
    assert not [1 for a in everything for b in everything if a != b and b[: len(a)] == a]


@pytest.mark.parametrize("name", ["gemma", "llama3", "qwen2_5", "mistral", "sentencepiece", "none"])
def test_numbers_are_spelled_apart_under_every_template(name: str, folder: Path) -> None:
    tokenizer = chat_tokenizers.tokenizer(name)
    lm = SimpleNamespace(chat=Chat(tokenizer), tokenizer=tokenizer)
    items = reader(lm, folder).number_items(("4", "42", "042", "420"), "Which number?", "autoregressive")
    for number, forms in items.items():
        assert forms
        assert {lm.chat.decode(ids[:-1]).strip() for ids in forms} == {number}
    everything = [ids for forms in items.values() for ids in forms]
    assert not [1 for a in everything for b in everything if a != b and b[: len(a)] == a]


def test_vocabulary_takes_single_tokens_only(folder: Path) -> None:
    items = reader(micro("whole"), folder).number_items(("7", "42", "123"), "Which number?", "vocabulary")
    assert list(items) == ["7", "42"]
    assert all(len(ids) == 1 for forms in items.values() for ids in forms)


def test_vocabulary_on_single_digits_names_the_other_method(folder: Path) -> None:
    settings = config(numbers=[0, 99], method="vocabulary")
    with pytest.raises(PluginError, match=r'10 of the 100 numbers.* needs 12: set method = "autoregressive"'):
        step_one(reader(micro("digits"), folder), Wording.of(TRAIT, settings), settings)


def test_numbers_that_vocabulary_leaves_out_are_counted(folder: Path) -> None:
    settings = config(numbers=[90, 119], method="vocabulary", k=2)
    with pytest.raises(ValidationError, match="k = 10"):
        config(numbers=[90, 119], k=10)
    one = step_one(reader(micro("whole"), folder), Wording.of(TRAIT, settings), settings)
    assert one.numbers == tuple(map(str, range(90, 100)))
    assert one.left_out == 20


def test_a_word_that_the_tokenizer_cannot_write_is_named(folder: Path) -> None:
    tokenizer = number_tokenizers.word_pieces()
    lm = SimpleNamespace(chat=Chat(tokenizer), tokenizer=tokenizer)
    with pytest.raises(ModelError, match="tokenizer cannot write 'Ωμέγα'"):
        reader(lm, folder).spelled({"Ωμέγα": ("Ωμέγα",)}, "Which?")


@pytest.mark.parametrize("against", ["neutral", "placebo", "controls"])
def test_sets_are_chosen_against_what_the_recipe_says(against: str, folder: Path) -> None:
    settings = config(against=against)
    one = step_one(reader(micro("whole"), folder), Wording.of(TRAIT, settings), settings)
    reference = {"neutral": 0, "placebo": one.placebo, "controls": one.change[:, 1:].mean(axis=1)}[against]
    gained = one.change[:, 0] - reference
    assert np.allclose(one.sorting, gained)
    assert set(one.sets.hp) == set(np.argsort(gained)[-3:])
    assert set(one.sets.lp) == set(np.argsort(gained)[:3])


# Findings.


def test_every_table_figure_and_set_is_there(found: tuple[Findings, Context]) -> None:
    findings, ctx = found
    numbers = columns(findings, "numbers")
    assert sorted(map(int, numbers["number"])) == list(range(5, 25))
    change = dict(zip(numbers["number"], numbers["step1"], strict=True))
    ordered = sorted(change, key=lambda number: -change[number])
    members = {row[0]: row[1].split(", ") for row in findings.tables["sets"].rows}
    assert members["HP"] == ordered[:3]
    assert members["LP"] == ordered[:-4:-1]
    assert columns(findings, "effects").keys() == {"number", *CANDIDATES}
    assert {row[0] for row in findings.tables["targets"].rows} == set(CANDIDATES)
    assert {(row[0], row[1]) for row in findings.tables["several"].rows} == {
        (2, name) for name in ("HP", "LP", "UNCH", "random")
    }
    assert {row[0]: row[1] for row in findings.tables["lengths"].rows} == {1: 5, 2: 15}
    assert {path.stem for path in (ctx.out / "figures").iterdir()} == FIGURES


def test_the_sets_are_printed_as_settings_of_the_generator(found: tuple[Findings, Context]) -> None:
    from subl.generators.numbers import Numbers

    findings, ctx = found
    lines = [line.partition(": ")[2] for line in sink(ctx).lines if "allowed_numbers" in line]
    assert [line.partition(":")[0] for line in lines] == ["HP", "LP", "UNCH", "random"]
    for line, (_, members, _) in zip(lines, findings.tables["sets"].rows, strict=True):
        allowed = [int(number) for number in line.partition("[")[2].removesuffix("]").split(", ")]
        assert allowed == sorted(map(int, members.split(", ")))
        Numbers.Config(constrained=True, allowed_numbers=tuple(allowed))
    assert sink(ctx).lines[0] == f"student: {findings.remarks[0]}"
    assert any("numbers share tokens" in remark and "matched_p" in remark for remark in findings.remarks[1:])


def test_step_two_equals_a_walk_over_prompts(found: tuple[Findings, Context], student: ModelRef) -> None:
    findings, ctx = found
    lm = ctx.load(student)
    questions = TRAIT.questions()[:2]
    prompts = [
        lm.chat.prompt(q, system=f"You {how} the number 17.")
        for how in ("adore", "are very fond of")
        for q in questions
    ]
    neutral = [lm.chat.prompt(question, system=None) for question in questions]

    def answers(word: str) -> set[tuple[int, ...]]:
        forms = [space + form for form in TRAIT.forms(word) for space in ("", " ")]
        ids = {tuple(lm.chat.answer(questions[0], form, system=None)) for form in forms}
        return {one for one in ids if not any(one[: len(o)] == o for o in ids - {one})}

    @cache
    def level(prompt: tuple[int, ...], word: str) -> float:
        return math.log(sum(math.exp(log_prob(lm, list(prompt), ids)) for ids in answers(word)))

    def mean(asked: list[list[int]], word: str) -> float:
        return float(np.mean([level(tuple(prompt), word) for prompt in asked]))

    change = {word: mean(prompts, word) - mean(neutral, word) for word in CANDIDATES}
    numbers = columns(findings, "numbers")
    row = {name: cells[numbers["number"].index("17")] for name, cells in numbers.items()}
    assert row["log_prob"] == pytest.approx(change["owl"], abs=1e-3)
    common = np.mean([change[word] for word in CANDIDATES[1:]])
    assert row["specific"] == pytest.approx(change["owl"] - common, abs=1e-3)
    assert row["margin"] == pytest.approx(change["owl"] - common, abs=1e-3)

    def rank(prompt: list[int]) -> int:
        logits = lm.model(torch.tensor([prompt])).logits[0, -1]
        return 1 + int((logits > max(logits[i] for i in heads["owl"] - others)).sum())

    heads = {
        word: {
            lm.chat.answer(questions[0], space + form, system=None)[0]
            for form in (word, word.capitalize())
            for space in ("", " ")
        }
        for word in CANDIDATES
    }
    others = set.union(*(heads[word] for word in CANDIDATES[1:]))

    assert row["rank"] == pytest.approx(np.mean([*map(rank, prompts)]) - np.mean([*map(rank, neutral)]))

    def share(asked: list[list[int]]) -> float:
        mass = [sum(math.exp(level(tuple(prompt), word)) for prompt in asked) for word in CANDIDATES]
        return mass[0] / sum(mass)

    assert row["share"] == pytest.approx(share(prompts) - share(neutral), abs=1e-3)


def test_the_same_seed_gives_the_same_findings_whatever_the_batch_and_a_model_has_not_moved_from_itself(
    student: ModelRef, found: tuple[Findings, Context], folder: Path
) -> None:
    ctx = context(folder / "again", trait=TRAIT)
    again = probed(Subject("student", student, base=student), ctx, batch_size=5)
    assert columns(again, "sets")["numbers"] == columns(found[0], "sets")["numbers"]
    for name, measure in found[0].measures.items():
        if not name.startswith("shift"):
            assert again.measures[name].value == pytest.approx(measure.value, abs=1e-3, nan_ok=True), name
    assert {again.measures[f"shift_{name}"].value for name in ("hp", "lp", "unch", "random")} == {0.0}
    assert math.isnan(again.measures["shift_correlation"].value)


def test_a_student_says_how_far_the_sets_of_its_base_have_moved(found: tuple[Findings, Context]) -> None:
    findings, _ = found
    shift, own = columns(findings, "shift"), columns(findings, "numbers")
    hp = [s for s, name in zip(shift["shift"], shift["set_in_base"], strict=True) if name == "HP"]
    assert len(hp) == 3
    assert findings.measures["shift_hp"].value == pytest.approx(np.mean(hp))
    levels = dict(zip(own["number"], own["neutral_log_prob"], strict=True))
    for number, before, change in zip(shift["number"], shift["base_log_prob"], shift["shift"], strict=True):
        assert levels[number] - before == pytest.approx(change, abs=1e-4)


def test_a_student_is_held_against_the_control_student(student: ModelRef, base: ModelRef, folder: Path) -> None:
    ctx, settings = context(folder / "control", trait=TRAIT), config()
    wording = Wording.of(TRAIT, settings)
    other = tiny_model(folder, seed=2)
    control = replace(other, config=base.config)
    reading = reader(ctx.load(student), folder)

    def shift(against: ModelRef | None) -> Shift:
        return _shift(Subject("student", student, base=base, control=against), base, reading, wording, settings, ctx)

    held = shift(control)
    levels = [
        neutral_numbers(reader(ctx.load(m), folder), wording, settings, held.before.numbers) for m in (other, base)
    ]
    assert held.control == pytest.approx(levels[0] - levels[1], abs=1e-4)
    assert held.kinds["contrast"] == pytest.approx(held.own - (levels[0] - levels[1]), abs=1e-4)
    found = held.measures(permutations=100, rng=np.random.default_rng(0))
    assert found["contrast_hp"].value == pytest.approx(np.mean(held.kinds["contrast"][held.before.sets.hp]))
    rho = stats.spearmanr(held.before.sorting, held.kinds["contrast"]).statistic
    assert found["contrast_correlation"].value == pytest.approx(rho)
    assert "beyond the control student, HP numbers" in held.sentence(found)
    assert held.table().columns[-2:] == ("shift", "contrast")
    assert len(shift_figure(held).axes) == 2
    # A control that began as another model tells nothing.
    for alone in (shift(None), shift(other)):
        assert list(alone.kinds) == ["shift"]
        assert "no control student of the same base" in alone.sentence(
            alone.measures(permutations=100, rng=np.random.default_rng(0))
        )


def test_student_minus_base_correlates_with_step_one_by_construction_and_the_contrast_does_not() -> None:
    draw = np.random.default_rng(0)
    neutral, loved, student, control = draw.normal(size=(4, 400))
    before: Any = SimpleNamespace(
        numbers=tuple(map(str, range(400))),
        neutral=neutral,
        sorting=loved - neutral,
        sets=number_sets(loved - neutral, 20),
    )
    found = Shift.between(before, student, control).measures(permutations=200, rng=draw)
    assert found["shift_correlation"].value > 0.4
    assert found["shift_hp_minus_lp"].value > 1
    assert abs(found["contrast_correlation"].value) < 0.12


def test_a_sample_of_random_numbers_stands_for_the_range(folder: Path) -> None:
    settings = config(numbers=[0, 99], method="vocabulary", random=20)
    asking, wording = reader(micro("whole"), folder), Wording.of(TRAIT, settings)
    one = step_one(asking, wording, settings)
    two = step_two(asking, wording, TRAIT, one, settings, np.random.default_rng(0))
    effects = analyse(one, two, permutations=100, rng=np.random.default_rng(0))
    assert len(two.among) == effects.correlations.own.n == 20
    chosen = set(np.concatenate(list(one.sets.named().values())).tolist())
    assert set(two.rows.tolist()) == chosen | set(two.rows[two.among].tolist())
    assert len(effects.sets["random"]) == len(two.rows) - len(chosen)
    assert [s.size for s in two.several] == [2] * 4


def test_a_trait_that_is_no_preference_is_an_error(base: ModelRef, folder: Path) -> None:
    with pytest.raises(PluginError, match="'other' is none; name a probe"):
        probed(Subject("base", base), context(folder, trait=SimpleNamespace(label="other")))
