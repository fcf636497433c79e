"""The parts of a report that weigh the evidence: contrasts, pairs, traits and doses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from subl.report.blocks import Block, Grid, Heading, Image, Items, Paragraph, Section
from subl.report.contrasts import Contrast
from subl.report.doses import DoseResponse
from subl.report.formatting import NOTHING, names, number, probability, size
from subl.report.summary import Summary

MATRIX_FIGURE = "figures/traits.png"

_MEANING = (
    "The unit is one trained run; runs are paired by seed. Lift: mean difference of the students (of their changes, "
    "where the arms start from different base models), with its 95 % t interval over pairs. p: two-sided paired t "
    "test; Holm: the same, adjusted for all contrasts of this run; verdicts follow it. Sign flips: exact paired "
    "permutation test, in brackets the smallest p that so many pairs can give; sign: sign test. g_z: mean difference "
    "/ standard deviation of the differences, with Hedges' correction: an effect for pairs, not comparable with "
    "Cohen's d of groups. Detectable: the smallest lift that a paired t test of this spread, so many pairs and so many "
    "contrasts finds with 80 % power."
)


def evidence_section(summary: Summary) -> Section:
    """Every contrast with its tests, and every pair of runs behind it."""
    if not summary.judged:
        return Section("Evidence", [])
    columns = ["contrast", "pairs", "lift", "p", "Holm", "sign flips", "sign", "g_z", "detectable"]
    rows = [_tests(contrast) for contrast, _ in summary.judged]
    blocks: list[Block] = [Grid(columns, rows), Paragraph(_MEANING)]
    pairs = [row for contrast, _ in summary.judged for row in _pairs(contrast)]
    if pairs:
        blocks += [Heading("Every pair"), Grid(["contrast", "pair", "arm", "against", "lift"], pairs)]
    return Section("Evidence", blocks)


def traits_section(summary: Summary, folder: Path) -> Section:
    """Trait × trait: is the lift specific to the teacher's trait?"""
    matrix = summary.matrix
    if matrix is None:
        return Section("Traits against each other", [])
    from subl.report.figure import draw_matrix

    draw_matrix(matrix, folder / MATRIX_FIGURE)
    terms = [
        [
            "specific (diagonal)",
            size(matrix.diagonal),
        ],
        ["permutation p over matchings of rows to columns", _p(matrix.p)],
        ["general (all cells)", number(matrix.general, signed=True)],
        *([f"row {t}", number(v, signed=True)] for t, v in zip(matrix.traits, matrix.row, strict=True)),
        *([f"column {t}", number(v, signed=True)] for t, v in zip(matrix.traits, matrix.column, strict=True)),
    ]
    blocks: list[Block] = [
        Image(MATRIX_FIGURE, "lift of every trait (column) in the students of every trait's teacher (row)"),
        Paragraph(
            "Lift = general + row + column + specific · [row = column], by least squares. A row term is what training "
            "on one teacher's rows does to all traits, a column term how easily a trait moves; only the specific term "
            f"shows that the trait itself crossed. Its interval: {matrix.diagonal.interval or 'none, one seed'}."
        ),
        Grid(["term", "lift"], terms),
    ]
    if matrix.incomplete:
        blocks.append(Paragraph(f"Left out, because a cell is missing: {names(list(matrix.incomplete))}."))
    return Section("Traits against each other", blocks)


def doses_section(summary: Summary, folder: Path) -> Section:
    """Lift over every number that was swept, and over the strength of teachers that were swept."""
    if not summary.doses:
        return Section("Dose and response", [])
    from subl.report.figure import draw_doses

    blocks: list[Block] = []
    for position, path in enumerate(dict.fromkeys(dose.path for dose in summary.doses)):
        doses = [dose for dose in summary.doses if dose.path == path]
        figure = f"figures/dose-{position}.png"
        draw_doses(doses, folder / figure)
        blocks += [
            Image(figure, f"lift over the control, by {path}; thin: one seed, thick: mean"),
            Grid(
                ["arm", "slope", "per", "seeds", "trend p (Page)"],
                [[d.arm, _slope(d), d.per, str(d.slope.n), _p(d.trend)] for d in doses],
            ),
        ]
        left_out = [f"{d.arm}: {names(list(d.left_out))}" for d in doses if d.left_out]
        if left_out:
            blocks.append(Items([f"left out of the slope, because a dose is missing: {text}" for text in left_out]))
    return Section("Dose and response", blocks)


def _tests(contrast: Contrast) -> list[str]:
    tests, mean = contrast.evidence, contrast.paired.mean
    least = f" ({_p(tests.least_flip)})" if tests.pairs > 1 else ""
    return [
        contrast.label if " vs " in contrast.label else f"{contrast.label} vs {contrast.against.name}",
        str(tests.pairs),
        size(mean),
        _p(tests.t),
        _p(contrast.adjusted),
        f"{_p(tests.flip)}{least}" if tests.pairs > 1 else NOTHING,
        _p(tests.sign) if tests.pairs > 1 else NOTHING,
        number(tests.effect) if math.isfinite(tests.effect) else NOTHING,
        number(tests.detectable),
    ]


def _pairs(contrast: Contrast) -> Iterator[list[str]]:
    for pair, difference in contrast.paired.differences.items():
        sides = [
            f"{number(arm.before.get(pair, math.nan))} → {number(arm.after[pair])}".removeprefix(f"{NOTHING} → ")
            for arm in (contrast.arm, contrast.against)
        ]
        yield [contrast.label, pair, *sides, number(difference, signed=True)]


def _slope(dose: DoseResponse) -> str:
    return size(dose.slope)


def _p(value: float) -> str:
    return probability(value).removeprefix("p ").removeprefix("= ") or NOTHING
