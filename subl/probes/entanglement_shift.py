"""What training did to the numbers that the trait raises in the base: a student's own shift, and its control's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Measure, Table
from subl.probes.entanglement_effects import RANDOM
from subl.probes.entanglement_readings import ROUNDING
from subl.probes.entanglement_statistics import Floats, Positions, correlate, difference
from subl.probes.entanglement_steps import StepOne
from subl.probes.intervals import mean_over

NAMES = {"shift": "student − base", "contrast": "student − control student"}


@dataclass(frozen=True, slots=True)
class Shift:
    """Changes of the numbers' log-probabilities without a preamble.

    Step 1 holds the base's log-probabilities with a minus, and so does student − base: the two correlate whatever
    training did. Student − control student does not hold them.

    Args:
        before: Step 1 in the base, with its sets.
        own: [numbers], student − base.
        control: [numbers], the control arm's student − base; None where there is none to compare with.
    """

    before: StepOne
    own: Floats
    control: Floats | None

    @classmethod
    def between(cls, before: StepOne, student: Floats, control: Floats | None) -> Shift:
        """Return the shift from log-probabilities of the students, [numbers] each."""
        return cls(before, _from(student, before.neutral), None if control is None else _from(control, before.neutral))

    @property
    def kinds(self) -> dict[str, Floats]:
        """What there is: `shift`, and `contrast` if there is a control."""
        return {"shift": self.own} | ({} if self.control is None else {"contrast": _from(self.own, self.control)})

    def groups(self) -> dict[str, Positions]:
        """Return the base's sets, and all other numbers as random."""
        sets = self.before.sets.named()
        rest = np.setdiff1d(np.arange(len(self.own)), np.concatenate(list(sets.values())))
        return {**sets, RANDOM: rest}

    def measures(self, *, permutations: int, rng: np.random.Generator) -> dict[str, Measure]:
        """Return mean changes by set, HP minus LP, and the correlation with step 1, of every kind."""
        groups = self.groups()
        found: dict[str, Measure] = {}
        for kind, change in self.kinds.items():
            found |= {f"{kind}_{name.lower()}": mean_over(change[g], "numbers") for name, g in groups.items()}
            found[f"{kind}_hp_minus_lp"] = difference(change[groups["HP"]], change[groups["LP"]], "numbers")
            correlation = correlate(self.before.sorting, change, permutations=permutations, rng=rng)
            found[f"{kind}_correlation"] = correlation.measure()
            found[f"{kind}_correlation_p"] = Measure(correlation.p)
        return found

    def table(self) -> Table:
        """Return every number, the one that the trait raises most in the base first."""
        names = {int(i): name for name, positions in self.before.sets.named().items() for i in positions}
        kinds = self.kinds
        rows = [
            (
                number,
                names.get(i, ""),
                float(self.before.sorting[i]),
                float(self.before.neutral[i]),
                *(float(change[i]) for change in kinds.values()),
            )
            for i, number in enumerate(self.before.numbers)
        ]
        columns = ("number", "set_in_base", "step1_in_base", "base_log_prob", *kinds)
        return Table(columns, tuple(sorted(rows, key=lambda row: -row[2])))

    def sentence(self, measures: Mapping[str, Measure]) -> str:
        """Say what moved, and whether more than in the control."""

        def moved(kind: str) -> str:
            high, low, gap = (measures[f"{kind}_{name}"] for name in ("hp", "lp", "hp_minus_lp"))
            within = "" if gap.low is None or gap.high is None else f" [{gap.low:+.2f}, {gap.high:+.2f}]"
            return f"HP numbers {high.value:+.2f}, LP {low.value:+.2f} nats (difference {gap.value:+.2f}{within})"

        said = f"training moved the base's {moved('shift')}"
        if self.control is None:
            return (
                f"{said}; there is no control student of the same base to compare with, and any training on numbers "
                "moves them"
            )
        rho, p = measures["contrast_correlation"].value, measures["contrast_correlation_p"].value
        return (
            f"{said}; beyond the control student, {moved('contrast')}, and Spearman {rho:.2f} (p {p:.2g}) with step 1 "
            "over numbers: one pair of students, so other seeds must show the same"
        )


def _from(after: Floats, before: Floats) -> Floats:
    change = after - before
    change[np.abs(change) < ROUNDING] = 0
    return change
