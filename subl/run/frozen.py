"""Whether an analysis plan was frozen before the results that it judges were known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from subl.recipe.analysis import DIGEST
from subl.run.plan import Plan
from subl.run.store import Entry

ANALYSIS_FILE = "analysis.json"


def results_known(home: Path, plan: Plan, analysis: Mapping[str, Any]) -> bool:
    """Return whether some student was measured before this plan, or an equal one of an earlier run, was frozen.

    Args:
        home: The project's folder for results; its runs are looked through.
        plan: What is about to run.
        analysis: The analysis plan with its hash.
    """
    measured = list(_measured(home, plan, str(analysis["metric"]).partition(".")[0]))
    if not measured:
        return False
    frozen = list(_frozen(home, str(analysis[DIGEST])))
    return not frozen or min(measured) < min(frozen)


def _measured(home: Path, plan: Plan, probe: str) -> Iterator[float]:
    """Yield when each student in the store was measured by the metric's probe."""
    for stage in plan.unique():
        entry = Entry(home / "store", stage.fingerprint)
        if stage.name == f"student.{probe}" and entry.complete:
            yield entry.created()


def _frozen(home: Path, digest: str) -> Iterator[float]:
    """Yield when the runs with this analysis plan froze it."""
    for path in (home / "runs").glob(f"*/{ANALYSIS_FILE}"):
        try:
            if json.loads(path.read_text(encoding="utf-8"))[DIGEST] == digest:
                yield path.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):
            continue
