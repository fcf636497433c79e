"""The picture of a run's pipeline: a line per arm, a box per stage, and what of it came from the store."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from subl.report.summary import Summary

COLUMNS = {
    "model": "base models",
    "induce": "teacher",
    "check": "check",
    "generate": "rows",
    "filter": "filters",
    "audit": "audit",
    "distill": "student",
    "probe": "probes",
}
_ARMS = 24
_LEFT, _WIDTH, _HEIGHT, _ACROSS, _DOWN, _TOP = 120, 118, 44, 136, 62, 28
_INK, _SOFT, _BLUE = "#1c1c1c", "#5c6166", "#1a6fb5"


def draw_pipeline(summary: Summary, path: Path) -> bool:
    """Draw arms and stages as SVG.

    Returns:
        False, and no file, where no stage was recorded.
    """
    arms = [arm for arm in summary.arms if any(run.record.get("stages") for run in arm.runs)][:_ARMS]
    if not arms:
        return False
    parts = [_text(_LEFT + i * _ACROSS, 14, title, color=_SOFT) for i, title in enumerate(COLUMNS.values())]
    seen: dict[str, str] = {}
    for line, arm in enumerate(arms):
        top = _TOP + line * _DOWN
        parts.append(_text(0, top + 19, _cut(arm.name, 17), weight=600))
        runs = f"{len(arm.runs)} runs" if len(arm.runs) > 1 else "1 run"
        parts.append(_text(0, top + 35, _cut(f"{arm.settings}, {runs}" if arm.settings else runs, 22), color=_SOFT))
        made: dict[str, str] = {}
        before = False
        for position, kind in enumerate(COLUMNS):
            stages = [s for run in arm.runs for s in run.record.get("stages", ()) if s.get("kind") == kind]
            left = _LEFT + position * _ACROSS
            parts += _box(left, top, stages, seen)
            if stages and before:
                parts.append(_arrow(left, top + _HEIGHT // 2))
            before = bool(stages)
            made |= {stage["fingerprint"]: arm.label for stage in stages}
        seen |= {print_: label for print_, label in made.items() if print_ not in seen}
    width, height = _LEFT + len(COLUMNS) * _ACROSS, _TOP + len(arms) * _DOWN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="Helvetica Neue, Arial, Liberation Sans, sans-serif" font-size="11.5">'
        f"<title>Pipeline</title>{''.join(parts)}</svg>\n",
        encoding="utf-8",
        errors="replace",
    )
    return True


def _box(left: int, top: int, stages: Sequence[dict[str, Any]], seen: dict[str, str]) -> list[str]:
    """Return a box with the plugins and where the results came from: computed, the store, or an arm above."""
    if not stages:
        return [_text(left + _WIDTH // 2, top + 26, "–", color=_SOFT, anchor="middle")]
    owners = {seen.get(stage["fingerprint"]) for stage in stages}
    shared = owners.pop() if len(owners) == 1 else None
    cached = sum(bool(stage["cached"]) for stage in stages)
    names = list(dict.fromkeys(name for stage in stages for name in str(stage["plugin"]).split(", ")))
    plugins = _cut(names[0], 15) + (f" +{len(names) - 1}" if len(names) > 1 else "")
    if shared is not None:
        state, color, dash = f"as {shared}", "#c3c8cc", ' stroke-dasharray="2 3"'
    elif cached == len(stages):
        state, color, dash = "cached", "#8b9299", ' stroke-dasharray="5 3"'
    else:
        seconds = sum(float(stage["seconds"]) for stage in stages if not stage["cached"])
        of = f", {cached}/{len(stages)} cached" if cached else ""
        state, color, dash = f"{_time(seconds)}{of}", _BLUE, ""
    box = (
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="#fff" stroke="{color}" '
        f'stroke-width="1.3"{dash}/>'
    )
    ink = _SOFT if shared is not None else _INK
    return [box, _text(left + 8, top + 19, plugins, color=ink), _text(left + 8, top + 35, _cut(state, 18), color=_SOFT)]


def _text(x: int, y: int, text: str, *, color: str = _INK, weight: int = 400, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" font-weight="{weight}" text-anchor="{anchor}">{escape(text)}</text>'


def _arrow(x: int, y: int) -> str:
    start, end = x - (_ACROSS - _WIDTH) + 2, x - 3
    return f'<path d="M{start} {y}H{end}M{end - 4} {y - 3}L{end} {y}L{end - 4} {y + 3}" fill="none" stroke="{_SOFT}"/>'


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
