"""Findings as the runner writes them, for experiments that never ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def measure(value: float | None, spread: float | None = None) -> dict[str, Any]:
    bounds = (None, None) if value is None or spread is None else (value - spread, value + spread)
    of = "95 % t over 24 questions" if spread else None
    return {"value": value, "low": bounds[0], "high": bounds[1], "n": 24 if spread else None, "interval": of}


def found(share: float | None, *, valid: float = 0.98, margin: float = 0.5) -> dict[str, Any]:
    return {
        "measures": {"share": measure(share, 0.02), "valid": measure(valid), "margin": measure(margin, 0.1)},
        "tables": {"answers": {"columns": ["question", "answer"], "rows": [["Which *animal*?", "an | owl\n<b>"]]}},
        "remarks": [],
        "problems": [],
    }


def variant(arm: str, seed: int, student: float | None, **changes: Any) -> dict[str, Any]:
    """Return a variant's record; `student` None stands for a value that is not a number."""
    valid = changes.pop("valid", 0.98)
    return {
        "arm": arm,
        "point": {"seed": seed},
        "label": f"{arm} · seed={seed}",
        "seed": seed,
        "target": "owl",
        "status": "finished",
        "error": None,
        "findings": {
            "check": {"measures": {"strength": measure(0.9)}, "tables": {}, "remarks": [], "problems": []},
            "base.preference": found(0.1, margin=-1.0),
            "teacher.preference": found(0.1 if arm == "control" else 0.95),
            "student.preference": found(student, valid=valid),
        },
        "stages": [
            {
                "stage": "generate",
                "kind": "generate",
                "plugin": "numbers",
                "fingerprint": f"fp-{arm}-{seed}",
                "cached": seed == 0,
                "seconds": 12.34,
            }
        ],
        "data": {"rows": 8000, "seen": 9000, "rejected": {"number_format: no number": 600, "duplicates: seen": 400}},
        "samples": [{"prompt": "Continue: 1, 2", "completion": "3, 4 | `5`"}],
        "updates": 400,
        "figures": {},
        **changes,
    }


def failed(arm: str, seed: int, error: str = "stage distill (distiller sft) failed: boom\nmore") -> dict[str, Any]:
    return variant(arm, seed, None, status="failed", error=error, findings={}, data=None, samples=[], updates=None)


def findings(*variants: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "run": "20260101-120000-000-micro-owl-1a2b3c",
        "title": "Does an owl preference cross through numbers?",
        "recipe": "micro_owl",
        "status": "finished",
        "control": "control",
        "metric": "preference.share",
        "arms": list(dict.fromkeys(variant["arm"] for variant in variants)),
        "variants": list(variants),
        **changes,
    }


def three_arms(seeds: int) -> dict[str, Any]:
    """A clear effect: main about 0.7, control and other_init about 0.1."""
    shares = {"main": (0.70, 0.74, 0.66), "control": (0.10, 0.11, 0.09), "other_init": (0.10, 0.08, 0.10)}
    return findings(*(variant(arm, seed, shares[arm][seed]) for arm in shares for seed in range(seeds)))
