"""Upper limits that can be switched off: TOML has no null."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

Limit: TypeAlias = Annotated[int, Field(ge=0)] | Literal["any"]
"""The largest allowed value, or "any" for no limit."""


def exceeds(value: int, limit: Limit) -> bool:
    """Return whether a value lies above a limit."""
    return limit != "any" and value > limit
