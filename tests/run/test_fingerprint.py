from typing import Annotated, Any

import pytest
from pydantic import ConfigDict, PlainSerializer

from subl.registry.config import PluginConfig, Runtime, StrictModel, semantic
from subl.run.fingerprint import FINGERPRINT_VERSION, fingerprint, stage_seed


class Inner(StrictModel):
    rank: int = 8
    threads: Annotated[int, Runtime] = 1


class Config(PluginConfig):
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)
    batch_size: Annotated[int, Runtime] = 32
    inner: Inner = Inner()


def test_runtime_fields_stay_out_at_any_depth() -> None:
    changed = Config(batch_size=64, inner=Inner(threads=9))
    assert semantic(Config()) == semantic(changed) == {"rate": 0.5, "names": ["a"], "inner": {"rank": 8}}


@pytest.mark.parametrize("change", [{"rate": 0.6}, {"names": ("b",)}, {"inner": Inner(rank=9)}])
def test_every_other_field_changes_the_key(change: dict[str, object]) -> None:
    assert semantic(Config(**change)) != semantic(Config())


class Chosen:
    """What a slot holds, as far as hashing sees it."""

    def __init__(self, version: int) -> None:
        self.version = version

    def key(self) -> dict[str, Any]:
        return {"plugin": "inner", "version": self.version}


class Nesting(PluginConfig):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    one: Annotated[Chosen, PlainSerializer(lambda _chosen: "shown")] = Chosen(1)
    several: tuple[Inner, ...] = ()


def test_a_plugin_inside_another_s_settings_counts_with_its_version_and_lists_lose_runtime_fields_too() -> None:
    found = semantic(Nesting(one=Chosen(2), several=(Inner(threads=5),)))
    assert found == {"one": {"plugin": "inner", "version": 2}, "several": [{"rank": 8}]}


def test_the_rules_are_pinned() -> None:
    """If this fails, the rules of hashing changed: bump FINGERPRINT_VERSION and put the new value here."""
    assert FINGERPRINT_VERSION == 1
    key = {"stage": "probe", "plugins": [{"plugin": "x", "config": {"a": 1.5, "ü": None}}], "seed": 7, "inputs": {}}
    assert fingerprint(key) == "92387b486899eb875eb3"


def test_seeds_differ_by_kind_and_seed_only() -> None:
    seeds = {stage_seed(seed, kind) for seed in range(50) for kind in ("generate", "distill")}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
