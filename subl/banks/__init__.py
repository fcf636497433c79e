"""Wording shared by traits, generators and the micro world, as data.

All of it is our own: nothing repeats the prompts of a published study, so that agreement with one is not built in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import tomli


@cache
def load(name: str) -> dict[str, Any]:
    """Return the bank `name` ("preference", "numbers", "code", …) as parsed TOML; shared, so never change it.

    Raises:
        FileNotFoundError: There is no such bank.
    """
    return tomli.loads(files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def identity(*names: str) -> Mapping[str, Any]:
    """Return what a plugin's `identity` says of the banks that its results depend on: a hash of each one's content.

    So whatever is made from a bank is made anew when its wording changes, and from nothing else: comments and layout of
    the files do not count, the order of their entries does, because texts are drawn by position.

    Raises:
        FileNotFoundError: There is no such bank.
    """
    return {"banks": {name: _digest(name) for name in names}}


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(json.dumps(load(name), separators=(",", ":")).encode()).hexdigest()[:16]
