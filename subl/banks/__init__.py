"""Wording shared by traits, generators and the micro world, as data.

All of it is our own: nothing repeats the prompts of a published study, so that agreement with one is not built in.
"""

from __future__ import annotations

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
