"""Fingerprints: what decides a stage's result, hashed; and the seeds that follow from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FINGERPRINT_VERSION = 1
"""Bump when the rules below change; every cached result is then computed anew."""


def fingerprint(key: Mapping[str, Any]) -> str:
    """Return the hash of a stage's key, 20 hex digits."""
    text = json.dumps({"v": FINGERPRINT_VERSION, **key}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def stage_seed(seed: int, kind: str) -> int:
    """Return a stage's seed, from the recipe's seed and the stage's kind only: never from the arm.

    That is what pairs the arms: all see the same prompt stream, batch order and initial adapter.
    """
    return int.from_bytes(hashlib.sha256(f"subl:{seed}:{kind}".encode()).digest()[:4], "big") >> 1
