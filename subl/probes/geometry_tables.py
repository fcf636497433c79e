"""The findings of the probe `geometry` as measures, tables and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Measure, Table
from subl.probes.entanglement_statistics import Correlation, Floats, Positions, corrected, rank_interval
from subl.probes.entanglement_tables import ALPHA
from subl.probes.geometry_chance import Chance
from subl.probes.intervals import mean_over
from subl.probes.number_sets import NumberSetsOf

_SIMILARITY = (
    *("matrix", "variant", "measure", "set", "mean", "mean_others"),
    *("difference", "chance", "p", "q", "specific", "chance_specific", "p_specific", "q_specific"),
)


@dataclass(frozen=True, slots=True)
class Tested:
    """A statistic with its mean and p among relabelled numbers."""

    value: float
    chance: float
    p: float

    @property
    def beyond(self) -> float:
        """By how much it exceeds what relabelled numbers show."""
        return self.value - self.chance


@dataclass(frozen=True, slots=True)
class Similarities:
    """One matrix, one variant, one measure.

    Args:
        matrix, variant, measure: Which.
        own: [numbers], similarity with the target.
        sets: Set → its mean minus that of all numbers outside it: of `own`, and of that minus its mean over controls.
        correlations: Spearman of the same two with what the sets were sorted by.
    """

    matrix: str
    variant: str
    measure: str
    own: Floats
    sets: Mapping[str, tuple[Tested, Tested]]
    correlations: tuple[Tested, Tested]

    @classmethod
    def of(
        cls, matrix: str, variant: str, measure: str, names: Sequence[str], chance: Chance, columns: tuple[int, int]
    ) -> Similarities:
        """Return it from two columns of the statistics of sets with these names."""

        def tested(statistic: int) -> tuple[Tested, Tested]:
            own, alone = (
                Tested(*(float(a[i, statistic]) for a in (chance.observed, chance.mean, chance.p))) for i in columns
            )
            return own, alone

        sets = {name: tested(i) for i, name in enumerate(names)}
        return cls(matrix, variant, measure, chance.values[:, columns[0]], sets, tested(len(names)))

    @property
    def key(self) -> tuple[str, str, str]:
        """Which it is."""
        return self.matrix, self.variant, self.measure


def measures(similar: Sequence[Similarities], sets: NumberSetsOf, *, independent: bool) -> dict[str, Measure]:
    """Return the cosines of the output rows; everything else is in tables.

    Args:
        similar: What was measured.
        sets: Of numbers.
        independent: Whether every number has rows of its own; else there are no intervals over numbers.
    """
    found: dict[str, Measure] = {}
    chosen = {one.variant: one for one in similar if one.matrix == "unembedding" and one.measure == "cosine"}
    rest = [i for i, name in enumerate(sets.set_names()) if not name]
    members: dict[str, Positions] = {**sets.one.sets.named(), "random": np.array(rest, dtype=np.int64)}
    for name, positions in members.items():
        over = mean_over(chosen["raw"].own[positions], "numbers")
        found[f"{name.lower()}_cosine"] = over if independent else Measure(over.value, n=over.n)
    for variant, one in chosen.items():
        for name, (own, alone) in one.sets.items():
            label = f"{name.lower()}_{variant}"
            found |= {label: Measure(own.beyond), f"{label}_p": Measure(own.p)}
            found |= {f"{label}_specific": Measure(alone.beyond), f"{label}_specific_p": Measure(alone.p)}
        own, count = one.correlations[0], len(one.own)
        interval = rank_interval(own.value, count)
        rho = Correlation(own.value, own.p, *interval, count).measure() if independent else Measure(own.value, n=count)
        found |= {f"correlation_{variant}": rho, f"correlation_{variant}_p": Measure(own.p)}
    return found


def tables(similar: Sequence[Similarities], sets: NumberSetsOf) -> dict[str, Table]:
    """Return the tables `similarity`, `correlations` and `numbers`."""
    flat = [(one, name, own, alone) for one in similar for name, (own, alone) in one.sets.items()]
    q = corrected([own.p for *_, own, _ in flat])
    q_alone = corrected([alone.p for *_, alone in flat])
    means = [(one.own[sets.one.sets.named()[name]].mean(), own.value) for one, name, own, _ in flat]
    similarity = tuple(
        (
            *(*one.key, name, float(means[i][0]), float(means[i][0] - means[i][1])),
            *(own.value, own.chance, own.p, q[i], alone.value, alone.chance, alone.p, q_alone[i]),
        )
        for i, (one, name, own, alone) in enumerate(flat)
    )
    chosen = [one for one in similar if one.measure == "cosine"]
    names = sets.set_names()
    numbers = tuple(
        (sets.one.numbers[i], names[i], float(sets.one.sorting[i]), *(float(one.own[i]) for one in chosen))
        for i in np.argsort(-sets.one.sorting, kind="stable")
    )
    correlations = tuple(
        (*one.key, *(value for tested in one.correlations for value in (tested.value, tested.chance, tested.p)))
        for one in similar
    )
    return {
        "similarity": Table(_SIMILARITY, similarity),
        "correlations": Table(
            (
                *("matrix", "variant", "measure", "spearman", "chance", "p"),
                *("spearman_specific", "chance_specific", "p_specific"),
            ),
            correlations,
        ),
        "numbers": Table(("number", "set", "step1", *(f"{one.matrix}_{one.variant}" for one in chosen)), numbers),
    }


def verdict(found: Mapping[str, Measure], target: str) -> str:
    """Say in one sentence what the whitened cosines of the output rows allow."""
    high, low, rest = (found[f"{name}_cosine"].value for name in ("hp", "lp", "random"))
    white, p = found["hp_whitened"].value, found["hp_whitened_p"].value
    alone, p_alone = found["hp_whitened_specific"].value, found["hp_whitened_specific_p"].value
    where = "closer to" if p >= ALPHA or white > 0 else "farther from"
    claim = f"the output rows of HP numbers lie {where} {target}'s than those of other numbers of the same form"
    if p >= ALPHA:
        claim = f"nothing shows that {claim}"
    elif p_alone < ALPHA and white * alone > 0:
        claim += ", more so than with the controls'"
    else:
        claim += ", but nothing shows that it is otherwise with the controls'"
    return (
        f"{claim} (whitened cosine {white:+.3f} beyond chance, p {p:.2g}; minus controls' {alone:+.3f}, "
        f"p {p_alone:.2g}; raw cosine HP {high:.3f}, LP {low:.3f}, other numbers {rest:.3f})"
    )
