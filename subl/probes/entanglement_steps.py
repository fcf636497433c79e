"""The two steps: what the trait does to numbers, and what numbers do to the trait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subl.errors import PluginError
from subl.probes.entanglement import Entanglement
from subl.probes.entanglement_readings import Reader, Readings
from subl.probes.entanglement_statistics import Floats, NumberSets, Positions, number_sets, percentiles, specific
from subl.probes.entanglement_wording import Wording, number_texts
from subl.probes.number_settings import GROUPS, NumberSettings
from subl.probes.subject import PreferenceTrait


@dataclass(frozen=True, slots=True)
class StepOne:
    """Trait → numbers.

    Args:
        numbers: The numbers, as written.
        targets: The target and then its controls.
        neutral: [numbers], mean log-probability without a preamble.
        change: [numbers, targets], what a preamble about each target changes.
        placebo: [numbers], what preambles about other things change.
        sorting: [numbers], the change by which the sets were chosen.
        sets: HP, LP and UNCH.
        valid: Probability that an answer without a preamble is one of the numbers.
        left_out: How many numbers of the range the method cannot measure.
    """

    numbers: tuple[str, ...]
    targets: tuple[str, ...]
    neutral: Floats
    change: Floats
    placebo: Floats
    sorting: Floats
    sets: NumberSets
    valid: float
    left_out: int

    @property
    def digits(self) -> Floats:
        """[numbers], how many digits each has."""
        return np.array([len(number) for number in self.numbers], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Several:
    """Preambles that name several numbers at once.

    Args:
        size: How many.
        name: Whose most extreme numbers they are, or "random".
        log_prob, specific: Change of the target's log-probability, and that minus the controls' mean change.
        percentile: Of `specific` among random preambles of this size; None for these themselves.
    """

    size: int
    name: str
    log_prob: float
    specific: float
    percentile: float | None


@dataclass(frozen=True, slots=True)
class StepTwo:
    """Numbers → trait.

    Args:
        rows: [rows], positions of the measured numbers.
        among: [random], positions within `rows` of the numbers that are a fair sample of all.
        change: [rows, targets], change of each target's log-probability.
        share, margin, rank, rank_candidates: [rows], change of the target's share, of its log-probability over the mean
            of the other candidates', of its first token's rank in the vocabulary, and of its rank among the candidates.
        placebo: [targets], what preambles about other things change.
        several: Preambles with several numbers.
        valid: Probability that an answer without a preamble is a candidate.
        valid_in_context: The same under preambles about single numbers.
    """

    rows: Positions
    among: Positions
    change: Floats
    share: Floats
    margin: Floats
    rank: Floats
    rank_candidates: Floats
    placebo: Floats
    several: tuple[Several, ...]
    valid: float
    valid_in_context: float


VERSION = 1
"""Of step 1, which is kept for other stages: raise it with every change of what is measured."""


def step_one(reader: Reader, wording: Wording, config: NumberSettings) -> StepOne:
    """Measure what preambles about the targets and the placebos do to every number.

    Raises:
        PluginError: Method "vocabulary" on a tokenizer with too few numbers of one token.
        ModelError: The tokenizer cannot write a number, or the preambles do not reach the model.
    """
    everything = number_texts(*config.numbers, padded=config.padded)
    items = reader.number_items(everything, wording.number_questions[0], config.method)
    if len(items) < GROUPS * config.k:
        raise PluginError(
            f"method 'vocabulary' measures numbers of one token, and {len(items)} of the {len(everything)} numbers are "
            f'that for this tokenizer; k = {config.k} needs {GROUPS * config.k}: set method = "autoregressive"'
        )
    loved = (*wording.targets.values(), *wording.placebos)
    read = reader.read(loved, wording.number_questions, list(items.values()), "step 1: trait → numbers")
    changes = (read.ratios() if config.change == "ratio" else read.differences()).T
    change, placebo = changes[:, : len(wording.targets)], changes[:, len(wording.targets) :].mean(axis=1)
    sorting = {
        "neutral": change[:, 0],
        "placebo": change[:, 0] - placebo,
        "controls": specific(change)[:, 0],
    }[config.against]
    return StepOne(
        numbers=tuple(items),
        targets=tuple(wording.targets),
        neutral=read.neutral.mean(axis=0),
        change=change,
        placebo=placebo,
        sorting=sorting,
        sets=number_sets(sorting, config.k),
        valid=float(np.exp(read.neutral).sum(axis=1).mean()),
        left_out=len(everything) - len(items),
    )


def neutral_numbers(reader: Reader, wording: Wording, config: NumberSettings, numbers: Sequence[str]) -> Floats:
    """Return the mean log-probability of numbers without a preamble: [numbers]."""
    items = reader.number_items(numbers, wording.number_questions[0], config.method)
    read = reader.read((), wording.number_questions, list(items.values()), "numbers of the student")
    levels: Floats = read.neutral.mean(axis=0)
    return levels


def step_two(
    reader: Reader,
    wording: Wording,
    trait: PreferenceTrait,
    one: StepOne,
    config: Entanglement.Config,
    rng: np.random.Generator,
) -> StepTwo:
    """Measure what preambles about numbers do to the answers to the trait's questions.

    Raises:
        ModelError: The tokenizer cannot write a candidate, or the preambles do not reach the model.
    """
    spellings = reader.spelled(trait.candidate_forms(), wording.trait_questions[0])
    candidates = [spelling.word for spelling in spellings]
    columns = [candidates.index(word) for word in one.targets]
    sample = np.arange(len(one.numbers))
    if config.random is not None:
        sample = np.sort(rng.choice(sample, min(config.random, len(sample)), replace=False))
    rows = np.unique(np.concatenate([sample, *one.sets.named().values()]))
    groups = _several_groups(one.sets, sample, config, rng)
    singles = [[one.numbers[row]] for row in rows]
    many = [[one.numbers[row] for row in group] for _, group in groups]
    loved = [*(wording.numbers(numbers) for numbers in (*singles, *many)), *wording.placebos]
    read = reader.read(
        loved,
        wording.trait_questions,
        [spelling.answers for spelling in spellings],
        "step 2: numbers → trait",
        ranked=spellings[columns[0]].firsts,
    )

    changes = read.ratios()[:, columns]
    counted = _counted(read, columns[0])
    end = len(rows) + len(groups)
    return StepTwo(
        rows=rows,
        among=np.searchsorted(rows, sample),
        change=changes[: len(rows)],
        share=counted["share"][: len(rows)],
        margin=counted["margin"][: len(rows)],
        rank=(read.loved_ranks.mean(axis=(1, 2)) - read.neutral_ranks.mean())[: len(rows)],
        rank_candidates=counted["rank_candidates"][: len(rows)],
        placebo=changes[end:].mean(axis=0),
        several=tuple(_several([(name, len(g)) for name, g in groups], changes[len(rows) : end])),
        valid=float(np.exp(read.neutral).sum(axis=-1).mean()),
        valid_in_context=float(np.exp(read.loved[: len(rows)]).sum(axis=-1).mean()),
    )


def _counted(read: Readings, target: int) -> Mapping[str, Floats]:
    """Return the changes of the target's share, margin and rank among the candidates: [things] each."""

    def levels(log_probs: Floats) -> dict[str, Floats]:
        # The last axis holds candidates, the one before it prompts.
        own, others = log_probs[..., target], np.delete(log_probs, target, axis=-1)
        mass = np.exp(log_probs).sum(axis=-2)
        return {
            "share": mass[..., target] / mass.sum(axis=-1),
            "margin": (own - others.mean(axis=-1)).mean(axis=-1),
            "rank_candidates": (others > own[..., None]).sum(axis=-1).mean(axis=-1) + 1.0,
        }

    things, contexts, questions, candidates = read.loved.shape
    loved = levels(read.loved.reshape(things, contexts * questions, candidates))
    neutral = levels(read.neutral)
    return {name: loved[name] - neutral[name] for name in loved}


def _several_groups(
    sets: NumberSets, sample: Positions, config: Entanglement.Config, rng: np.random.Generator
) -> list[tuple[str, Positions]]:
    groups = []
    for size in config.cumulative:
        groups += [(name, positions[:size]) for name, positions in sets.named().items()]
        groups += [("random", rng.choice(sample, size, replace=False)) for _ in range(config.cumulative_draws)]
    return groups


def _several(groups: Sequence[tuple[str, int]], changes: Floats) -> list[Several]:
    own, alone = changes[:, 0], specific(changes)[:, 0]
    found = []
    for size in dict.fromkeys(size for _, size in groups):
        at = {name: [i for i, group in enumerate(groups) if group == (name, size)] for name, _ in groups}
        null = alone[at["random"]]
        for name, positions in at.items():
            value = float(alone[positions].mean())
            rank = None if name == "random" else float(percentiles(np.array([value]), null)[0])
            found.append(Several(size, name, float(own[positions].mean()), value, rank))
    return found
