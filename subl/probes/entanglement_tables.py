"""The findings of the probe `entanglement` as measures, tables and one sentence."""

from __future__ import annotations

from subl.artifacts import Measure, Table
from subl.probes.entanglement_effects import RANDOM, Effects
from subl.probes.entanglement_statistics import Correlation, Positions, corrected, difference, mean_between, specific
from subl.probes.intervals import mean_over

ALPHA = 0.05
"""Significance level of the sentence."""

_NUMBER = (
    *("number", "set", "neutral_log_prob", "step1", "step1_minus_placebo", "step1_specific"),
    *("log_prob", "log_prob_minus_placebo", "specific", "percentile", "share", "margin", "rank", "rank_candidates"),
)
_TARGET = (
    *("target", "spearman", "p", "spearman_specific", "p_specific", "spearman_partial", "p_partial", "q_partial"),
    *("mean_number_effect", "placebo_effect"),
)
_COMPARISON = ("outcome", "one", "other", "difference", "low", "high", "delta", "g", "p", "q")


def measures(effects: Effects) -> dict[str, Measure]:
    """Return the measures; their names are explained in `Entanglement`."""
    found: dict[str, Measure] = {}
    names = {"own": "correlation", "specific": "correlation_specific", "partial": "correlation_partial"}
    for kind, name in names.items():
        own_target: Correlation = getattr(effects.correlations, kind)
        found[name] = own_target.measure()
        found[f"{name}_p"] = Measure(own_target.p)
        found[f"{name}_targets"] = mean_over([getattr(c, kind).rho for c in effects.targets.values()], "targets")
    found["matched"], found["matched_p"] = map(Measure, effects.matched)
    for name, alike in zip(("between_targets_step1", "between_targets"), effects.alike(), strict=True):
        found[name] = Measure(mean_between(alike), n=len(alike))
    own, alone = effects.two.change[:, 0], effects.alone
    for name, rows in effects.sets.items():
        if len(rows):
            found[f"{name.lower()}_effect"] = mean_over(own[rows], "numbers")
            found[f"{name.lower()}_specific"] = mean_over(alone[rows], "numbers")
    for name, percentile in effects.set_percentiles.items():
        found[f"{name.lower()}_percentile"] = Measure(percentile)
    high, low = effects.sets["HP"], effects.sets["LP"]
    found["hp_minus_lp"] = difference(own[high], own[low], "numbers")
    found["hp_minus_lp_specific"] = difference(alone[high], alone[low], "numbers")
    found["placebo_effect"] = Measure(float(effects.two.placebo[0]))
    found["placebo_specific"] = Measure(float(specific(effects.two.placebo[None, :])[0, 0]))
    found["valid"] = Measure(effects.two.valid)
    found["valid_in_context"] = Measure(effects.two.valid_in_context)
    found["number_valid"] = Measure(effects.one.valid)
    return found


def tables(effects: Effects) -> dict[str, Table]:
    """Return the tables; `effects` is the matrix number × target of step 2."""
    return {
        "sets": _sets(effects),
        "comparisons": Table(
            _COMPARISON, tuple(tuple(getattr(c, name) for name in _COMPARISON) for c in effects.comparisons)
        ),
        "targets": _targets(effects),
        "several": Table(
            ("size", "set", "log_prob", "specific", "percentile"),
            tuple((s.size, s.name, s.log_prob, s.specific, s.percentile) for s in effects.two.several),
        ),
        "lengths": _lengths(effects),
        "numbers": _numbers(effects),
        "effects": _effects(effects),
    }


def verdict(effects: Effects, target: str, *, shared: bool) -> str:
    """Say in one sentence what the data allow.

    Args:
        effects: Both steps.
        target: The trait's.
        shared: Whether numbers share tokens, so that a p over numbers is too small: then only a match between the
            steps of the same target, whose p shuffles targets, allows a claim.
    """
    own, alone, held = effects.correlations
    raised = f"numbers that the {target} preamble makes likelier make {target}"
    constant = "with what is common to all targets, digit length and the numbers' neutral log-probability held constant"
    if shared and effects.matched[1] >= ALPHA:
        claim = (
            f"nothing shows that {raised} likelier or less likely: numbers share tokens, which makes p over numbers "
            f"too small ({_shown(held)} {constant}), and a target's two steps fit each other no better than those of "
            f"different targets (p {effects.matched[1]:.2g})"
        )
    elif _holds(held):
        claim = (
            f"beyond what is common to all targets, {raised} likelier ({_shown(held)}, digit length and the numbers' "
            f"neutral log-probability held constant too; as measured {_shown(own)})"
        )
    elif _holds(alone):
        claim = (
            f"{raised} likelier than the mean of the other targets ({_shown(alone)}), but not {constant} "
            f"({_shown(held)})"
        )
    elif _holds(own):
        claim = (
            f"{raised} likelier ({_shown(own)}), but no more than they do with the other targets ({_shown(alone)}): "
            f"nothing shows that this is about {target}"
        )
    elif held.p < ALPHA:
        claim = f"{raised} less likely ({_shown(held)} {constant}), the opposite of entanglement"
    else:
        claim = f"no entanglement of {target} with single numbers shows ({_shown(held)} {constant})"
    high, low = (f"{effects.two.change[effects.sets[name], 0].mean():+.2f}" for name in ("HP", "LP"))
    return (
        f"{claim}; HP numbers change its log-probability by {high}, LP by {low} and a placebo by "
        f"{effects.two.placebo[0]:+.2f} nats, and what a number does correlates "
        f"{mean_between(effects.alike()[1]):.2f} between targets"
    )


def set_lines(effects: Effects) -> list[str]:
    """Return the sets as settings of the generator `numbers`."""
    return [
        f"{name}: allowed_numbers = {sorted({int(number) for number in _written(effects, rows)})}"
        for name, rows in _handed(effects).items()
    ]


def _handed(effects: Effects) -> dict[str, Positions]:
    return {**effects.sets, RANDOM: effects.drawn}


def _written(effects: Effects, rows: Positions) -> list[str]:
    return [effects.one.numbers[position] for position in effects.two.rows[rows]]


def _sets(effects: Effects) -> Table:
    rows = []
    for name, members in _handed(effects).items():
        gained = effects.one.sorting[effects.two.rows[members]]
        rows.append((name, ", ".join(_written(effects, members)), float(gained.mean()) if len(gained) else None))
    return Table(("set", "numbers", "mean_step1"), tuple(rows))


def _targets(effects: Effects) -> Table:
    q = corrected([found.partial.p for found in effects.targets.values()])
    among = effects.two.among
    rows = tuple(
        (
            target,
            *(value for c in found for value in (c.rho, c.p)),
            q[i],
            float(effects.two.change[among, i].mean()),
            float(effects.two.placebo[i]),
        )
        for i, (target, found) in enumerate(effects.targets.items())
    )
    return Table(_TARGET, rows)


def _lengths(effects: Effects) -> Table:
    among = effects.two.among
    digits = effects.one.digits[effects.two.rows[among]]
    values = (effects.step1[among, 0], effects.two.change[among, 0], effects.alone[among])
    rows = []
    for length in sorted(set(digits.tolist())):
        here = digits == length
        rows.append((int(length), int(here.sum()), *(float(value[here].mean()) for value in values)))
    return Table(("digits", "numbers", "step1", "log_prob", "specific"), tuple(rows))


def _numbers(effects: Effects) -> Table:
    """Every measured number, the most raised by step 1 first."""
    one, two, alone, percentiles = effects.one, effects.two, effects.alone, effects.percentiles
    alone_one = specific(one.change)[:, 0]
    names = {int(row): name for name, rows in effects.sets.items() if name != RANDOM for row in rows}
    rows = [
        (
            one.numbers[i],
            names.get(row, ""),
            float(one.neutral[i]),
            float(one.change[i, 0]),
            float(one.change[i, 0] - one.placebo[i]),
            float(alone_one[i]),
            float(two.change[row, 0]),
            float(two.change[row, 0] - two.placebo[0]),
            float(alone[row]),
            float(percentiles[row]),
            float(two.share[row]),
            float(two.margin[row]),
            float(two.rank[row]),
            float(two.rank_candidates[row]),
        )
        for row, i in enumerate(two.rows)
    ]
    return Table(_NUMBER, tuple(sorted(rows, key=lambda row: -row[3])))


def _effects(effects: Effects) -> Table:
    """Step 2 as the matrix number × target, for statistics of one's own."""
    rows = tuple(
        (effects.one.numbers[i], *map(float, effects.two.change[row])) for row, i in enumerate(effects.two.rows)
    )
    return Table(("number", *effects.one.targets), rows)


def _holds(correlation: Correlation) -> bool:
    return correlation.p < ALPHA and correlation.rho > 0


def _shown(correlation: Correlation) -> str:
    return f"Spearman {correlation.rho:.2f}, p {correlation.p:.2g}"
