"""The analysis plan: what will be judged and how, with a hash, so that it cannot follow the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from subl.recipe.model import Report

DIGEST = "sha256"


def analysis_plan(report: Report) -> dict[str, Any]:
    """Return a recipe's [report] section as JSON values, with its hash."""
    plan = report.model_dump(mode="json")
    return {**plan, DIGEST: analysis_digest(plan)}


def analysis_digest(plan: Mapping[str, Any]) -> str:
    """Return the hash of a plan, but for the hash that it may hold."""
    text = json.dumps({key: value for key, value in plan.items() if key != DIGEST}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
