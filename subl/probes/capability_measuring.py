"""The measuring behind the probe `capability`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subl.artifacts import Findings, Measure, ModelRef, Subject, Table
from subl.context import Context
from subl.probes.capability import Capability
from subl.probes.losses import Floats, Loss, Texts, held_out, loss_measures, measure_loss
from subl.probes.subject import open_model, same_origin

COLOURS = {"carrier": "#2f6690", "plain": "#d1495b"}


def measure(subject: Subject, config: Capability.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Capability`."""
    texts = held_out(config, subject, ctx)
    before: dict[str, Loss] = {}
    if subject.role != "base" and subject.base is not None and same_origin(subject.model, subject.base):
        before = _losses(subject.base, texts, config, ctx)
    after = _losses(subject.model, texts, config, ctx)
    measures = loss_measures(after)
    changes = {name: after[name].change(before[name]) for name in before}
    measures |= {f"{name}_change": change for name, change in changes.items()}
    tables = {"losses": _table(before, after)}
    remarks = list(_remarks(subject.role, changes))
    ctx.figure("losses", figure(before, after, subject.role))
    if config.tasks:
        from subl.probes.capability_tasks import run_tasks

        lm, _ = open_model(subject.model, ctx)
        scores = run_tasks(lm, config, ctx.seed)
        measures |= scores
        rows = tuple((name.removeprefix("task_"), m.value, m.low, m.high, m.n) for name, m in scores.items())
        tables["tasks"] = Table(("task_metric", "value", "low", "high", "examples"), rows)
    return Findings(measures, tables, remarks=tuple(remarks))


def _losses(model: ModelRef, texts: Mapping[str, Texts], config: Capability.Config, ctx: Context) -> dict[str, Loss]:
    lm, system = open_model(model, ctx)
    return {name: measure_loss(lm, t, system=system, batch_size=config.batch_size) for name, t in texts.items()}


def _remarks(role: str, changes: Mapping[str, Measure]) -> Iterator[str]:
    for name, change in changes.items():
        if change.low is None or change.high is None:
            continue
        what = "held-out rows of the carrier" if name == "carrier" else "plain text"
        size = f"{change.value:+.3f} nats per token [{change.low:+.3f}, {change.high:+.3f}]"
        if change.high < 0:
            yield f"the {role} finds {what} likelier than its base ({size})"
        elif change.low > 0:
            yield f"the {role} finds {what} less likely than its base ({size})"
        else:
            yield f"no change of the loss on {what} shows between the base and the {role} ({size})"


def _table(before: Mapping[str, Loss], after: Mapping[str, Loss]) -> Table:
    rows = []
    for name, loss in after.items():
        for i, (nats, tokens) in enumerate(zip(loss.nats, loss.tokens, strict=True)):
            base = float(before[name].nats[i] / tokens) if name in before else None
            rows.append((name, i, int(tokens), base, float(nats / tokens)))
    return Table(("text", "number", "tokens", "base_loss", "loss"), tuple(rows))


def figure(before: Mapping[str, Loss], after: Mapping[str, Loss], role: str) -> Figure:
    """Draw every text's loss: before against after where there is a base, else its distribution."""
    drawn = Figure(figsize=(4.2 * len(after), 3.8), layout="constrained")
    for axes, (name, loss) in zip(drawn.subplots(1, len(after)), after.items(), strict=True):
        values = loss.nats / loss.tokens
        if name in before:
            _scatter(axes, before[name].nats / loss.tokens, values, COLOURS[name])
            change = loss.change(before[name])
            low, high = (end if end is not None else change.value for end in (change.low, change.high))
            axes.set_title(f"{name}: {change.value:+.3f} [{low:+.3f}, {high:+.3f}]", fontsize=10)
            axes.set_xlabel("base (nats per token)")
            axes.set_ylabel(f"{role} (nats per token)")
        else:
            axes.hist(values, bins=20, color=COLOURS[name])
            axes.axvline(loss.mean().value, color="black", linewidth=1)
            axes.set_title(f"{name}: {loss.mean().value:.3f}", fontsize=10)
            axes.set_xlabel(f"{role}: nats per token")
            axes.set_ylabel(loss.of)
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def _scatter(axes: Axes, before: Floats, after: Floats, colour: str) -> None:
    axes.scatter(before, after, s=16, color=colour, alpha=0.7)
    ends = [min(before.min(), after.min()), max(before.max(), after.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8, linestyle=":", label="no change")
    axes.legend(frameon=False, fontsize=8)
