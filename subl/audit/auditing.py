"""The audit's findings: what is counted, what is compared with the control arm's rows, and what is a leak."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from subl.artifacts import Findings, Measure, Row, Table
from subl.audit.auroc import Floats
from subl.audit.mentions import Mentions, find_mentions
from subl.audit.shape import Shape, measure_shape, repeats, separators, shared, whole
from subl.audit.telling import FEWEST, tell_apart
from subl.context import Context
from subl.probes.intervals import mean_over, rate_over
from subl.registry.kinds import Trait


def audit(
    rows: Sequence[Row],
    control: Sequence[Row] | None,
    trait: Trait | None,
    ctx: Context,
    *,
    max_overt: float | None,
    classifier_rows: int,
) -> Findings:
    """Return what is to be known of an arm's rows before a student is trained on them.

    Measures, as shares of the arm's rows unless said otherwise: `overt` completions and `overt_prompts` that name the
    trait; `inside`, completions that hold its name only inside another word; `duplicates`, rows that came before;
    `repeated_completions`; mean `characters` and `numbers` per completion. Against a control: `prompt_overlap`, rows
    whose prompt the control answers too; `equal_rows`, rows that the control has too; `auroc`, how well an n-gram
    classifier tells the two arms' completions apart, where 0.5 is not at all. Tables: `mentions`, `shape`,
    `separators`. Figure against a control: `rows`.

    A high `auroc` is no problem: a teacher's rows differ from another's, and that is what may carry the trait. More
    `overt` rows than `max_overt` are one.

    Args:
        rows: The arm's rows.
        control: The control arm's rows; None where there are none to compare with.
        trait: What must not be named; None: nothing.
        ctx: Gives the seed, and takes the figure.
        max_overt: Largest share of rows that may name the trait without a problem; None: they are only counted.
        classifier_rows: Most rows of each arm that the classifier sees; 0: no classifier.
    """
    arms = [rows] if control is None else [rows, control]
    shapes = [measure_shape([row.completion for row in arm]) for arm in arms]
    parts = [] if trait is None else [_mentions(arms, trait, max_overt)]
    parts += [_repetition(arms), _shape(arms, shapes)]
    if control is not None:
        parts.append(_difference(rows, control, shapes, ctx, most=classifier_rows))
    return _joined(parts)


def _difference(
    rows: Sequence[Row], control: Sequence[Row], shapes: Sequence[Shape], ctx: Context, *, most: int
) -> Findings:
    from subl.audit.figures import draw_rows

    told = tell_apart(rows, control, most=most, seed=ctx.seed) if most else None
    ctx.figure("rows", draw_rows(shapes, told))
    if told is None:
        return Findings(remarks=(f"no classifier was trained: it needs {FEWEST} rows of either arm",) if most else ())
    return Findings({"auroc": told.auroc})


def _joined(parts: Sequence[Findings]) -> Findings:
    return Findings(
        measures={name: value for part in parts for name, value in part.measures.items()},
        tables={name: table for part in parts for name, table in part.tables.items()},
        remarks=tuple(remark for part in parts for remark in part.remarks),
        problems=tuple(problem for part in parts for problem in part.problems),
    )


def _mentions(arms: Sequence[Sequence[Row]], trait: Trait, max_overt: float | None) -> Findings:
    forms = trait.leaks()
    found = [find_mentions((row.completion for row in arm), forms) for arm in arms]
    own, asked = found[0], find_mentions((row.prompt for row in arms[0]), forms)
    remarks = []
    if asked.overt:
        remarks.append(f"{asked.overt:,} of {asked.texts:,} prompts name the trait")
    if own.inside:
        remarks.append(f"{own.inside:,} of {own.texts:,} completions hold the trait's name inside another word")
    return Findings(
        measures={
            "overt": rate_over(own.overt, own.texts, "rows"),
            "overt_prompts": rate_over(asked.overt, asked.texts, "rows"),
            "inside": rate_over(own.inside, own.texts, "rows"),
        },
        tables={"mentions": _mentions_table(found)},
        remarks=tuple(remarks),
        problems=() if max_overt is None or own.overt <= max_overt * own.texts else (_leak(own, max_overt),),
    )


def _leak(own: Mentions, max_overt: float) -> str:
    by_form = ", ".join(f"{form!r} in {count:,}" for form, (count, _) in own.by_form.items() if count)
    return (
        f"a leak: {own.overt:,} of {own.texts:,} training rows name the trait ({by_form}), above audit.max_overt = "
        f'{max_overt:g}; drop such rows by [[filters]] plugin = "trait_words", or raise audit.max_overt where the '
        "word belongs to the carrier"
    )


def _mentions_table(found: Sequence[Mentions]) -> Table:
    columns = ("rows", "mentions", "control rows", "control mentions")[: 2 * len(found)]
    return Table(
        ("form", *columns), tuple((form, *(n for arm in found for n in arm.by_form[form])) for form in found[0].by_form)
    )


def _repetition(arms: Sequence[Sequence[Row]]) -> Findings:
    own, *others = [[whole(row) for row in arm] for arm in arms]
    counts = {"duplicates": repeats(own), "repeated_completions": repeats([completion for _, completion in own])}
    remarks = []
    for control in others:
        counts["prompt_overlap"] = shared([prompt for prompt, _ in own], [prompt for prompt, _ in control])
        counts["equal_rows"] = shared(own, control)
        if counts["prompt_overlap"] == 0:
            remarks.append("the control arm answers none of these prompts: the arms are not paired by prompt")
        if counts["equal_rows"] == len(own):
            remarks.append("the control arm has all of these rows: they carry no difference between the teachers")
    measures = {name: Measure(count / len(own), n=len(own)) for name, count in counts.items()}
    return Findings(measures, remarks=tuple(remarks))


def _shape(arms: Sequence[Sequence[Row]], shapes: Sequence[Shape]) -> Findings:
    gaps = [separators([row.completion for row in arm]) for arm in arms]
    kinds = dict.fromkeys(kind for arm in gaps for kind in arm)
    columns = ("mean", "sd", "control mean", "control sd", "difference / sd")[: 2 if len(arms) == 1 else 5]
    return Findings(
        measures={name: mean_over(shapes[0][name], "rows") for name in ("characters", "numbers")},
        tables={
            "shape": Table(
                ("per completion", *columns),
                tuple((name, *_moments([shape[name] for shape in shapes])) for name in shapes[0]),
            ),
            "separators": Table(
                ("between numbers", *("share", "control share")[: len(arms)]),
                tuple((kind, *(arm.get(kind, 0.0) for arm in gaps)) for kind in kinds),
            ),
        },
    )


def _moments(arms: Sequence[Floats]) -> Iterator[float | None]:
    """Yield mean and standard deviation of every arm; of two, also the difference over the pooled deviation."""
    known = [(float(arm.mean()), float(arm.std())) if len(arm) else None for arm in arms]
    for moments in known:
        yield from moments or (None, None)
    if len(known) == 2:
        one, two = known
        pooled = math.sqrt((one[1] ** 2 + two[1] ** 2) / 2) if one and two else 0.0
        yield (one[0] - two[0]) / pooled if one and two and pooled else None
