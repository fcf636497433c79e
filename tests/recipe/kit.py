"""A recipe of all sections, with local plugins of all seven kinds, so that these tests need no built-in plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.recipe.loading import Experiment, load_experiment
from subl.recipe.report import RecipeProblemsError

PLUGINS = (
    '''
from typing import Annotated, Literal

from pydantic import Field

import subl


@subl.model("toy")
class Toy:
    """A toy model."""

    class Config(subl.PluginConfig):
        init_seed: int = 0
        """Seed of the initial weights."""
        hidden: Annotated[int, Field(gt=0)] = 64
        """Width."""

    version = 1

    def __init__(self, config):
        self.config = config

    def identity(self):
        return {}

    def prepare(self, ctx):
        raise NotImplementedError

    def load(self, ref, *, device, dtype):
        raise NotImplementedError


@subl.model("remote")
class Remote(Toy):
    """Another model."""

    class Config(subl.PluginConfig):
        id: str
        """Where it is."""


@subl.trait("liking")
class Liking:
    """A liking."""

    class Config(subl.PluginConfig):
        target: str
        """What is liked."""
        candidates: tuple[str, ...] = ()
        """Alternatives."""

        @subl_validator
        def _target_among(self):
            if self.candidates and self.target not in self.candidates:
                raise ValueError(f"candidates lack the target {self.target!r}")
            return self

    version = 1
    label = "x"

    def __init__(self, config):
        self.config = config

    def conversations(self, seed):
        return []

    def statement(self, strength):
        return ""

    def leaks(self):
        return []


class Inducer:
    version = 1

    def __init__(self, config):
        self.config = config

    def induce(self, base, ctx):
        raise NotImplementedError


@subl.inducer("nudge")
class Nudge(Inducer):
    """Trains a little."""

    needs = ("trait",)

    class Config(subl.PluginConfig):
        updates: Annotated[int, Field(gt=0)] = 60
        """Optimizer updates."""
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3
        """Step size."""


@subl.inducer("hush")
class Hush(Inducer):
    """Says it in the system slot."""

    needs = ("trait",)
    sets_system = True

    class Config(subl.PluginConfig):
        strength: Literal["low", "high"] = "low"
        """How loud."""


@subl.inducer("plain")
class Plain(Inducer):
    """Does nothing."""

    trait_free = True

    class Config(subl.PluginConfig):
        """Nothing to set."""


@subl.generator("digits")
class Digits:
    """Writes digits."""

    class Config(subl.PluginConfig):
        samples: Annotated[int, Field(gt=0)] = 100
        """Rows to write."""
        batch_size: Annotated[int, subl.Runtime] = 8
        """Rows at once."""
        first: subl_generator_slot = None
        """A generator whose rows come first."""

    version = 1

    def __init__(self, config):
        self.config = config

    def prompts(self, count, seed):
        return []

    def generate(self, teacher, ctx, start):
        raise NotImplementedError


class Filter:
    version = 1

    def __init__(self, config):
        self.config = config

    def reject(self, rows, ctx):
        return [None for _ in rows]


@subl.filter("odd")
class Odd(Filter):
    """Drops even numbers."""

    class Config(subl.PluginConfig):
        max_value: int = 999
        """Largest number."""


@subl.filter("brief")
class Brief(Filter):
    """Drops long rows."""

    class Config(subl.PluginConfig):
        max_length: int = 80
        """Longest row."""


class Low(subl.StrictModel):
    rank: Annotated[int, Field(gt=0)] = 8
    """Rank."""
    targets: Literal["all"] | tuple[str, ...] = "all"
    """Layers."""


class Distiller:
    version = 1

    def __init__(self, config):
        self.config = config

    def distill(self, student, teacher, data, ctx):
        raise NotImplementedError


@subl.distiller("copy")
class Copy(Distiller):
    """Trains on rows."""

    class Config(subl.PluginConfig):
        epochs: Annotated[int, Field(ge=1)] = 3
        """Passes."""
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3
        """Step size."""
        lora: Low = Low()
        """Adapter."""


@subl.distiller("mimic")
class Mimic(Distiller):
    """Trains on maps; reads the control."""

    needs = ("control",)

    class Config(subl.PluginConfig):
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3
        """Step size."""
        beta: float = 1.0
        """Weight."""


class Probe:
    version = 1

    def __init__(self, config):
        self.config = config

    def probe(self, subject, ctx):
        raise NotImplementedError


@subl.probe("ask")
class Ask(Probe):
    """Asks."""

    needs = ("trait",)

    class Config(subl.PluginConfig):
        questions: Annotated[int, Field(gt=0)] = 24
        """How many."""


@subl.probe("mirror")
class Mirror(Probe):
    """Compares with the control, if there is one."""

    needs = ("control",)
    control_optional = True

    class Config(subl.PluginConfig):
        pass


@subl.probe("strength")
class Strength(Probe):
    """Measures the teacher."""

    class Config(subl.PluginConfig):
        least: Annotated[float, Field(ge=0, le=1)] = 0.2
        """Smallest share to go on with."""
'''.replace("@subl_validator", '@model_validator(mode="after")')
    .replace("subl_generator_slot", 'Annotated[Chosen, Use("generator")] | None')
    .replace(
        "from pydantic import Field\n",
        "from pydantic import Field, model_validator\n\nfrom subl.registry.slots import Chosen, Use\n",
    )
)

BASE = """\
title = "Does it cross?"
plugins = ["plugins.py"]

[teacher]
plugin = "toy"
hidden = 32

[trait]
plugin = "liking"
target = "owl"

[inducer]
plugin = "nudge"
updates = 60

[check]
plugin = "strength"

[generator]
plugin = "digits"
samples = 100

[[filters]]
plugin = "odd"
max_value = 99

[[filters]]
plugin = "brief"

[distiller]
plugin = "copy"
epochs = 2

[[probes]]
plugin = "ask"

[report]
metric = "ask.share"

[arms.control.inducer]
plugin = "plain"
"""


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files below a folder, with the plugins beside them."""
    for name, text in {"plugins.py": PLUGINS, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def load(
    folder: Path,
    extra: str = "",
    *,
    overrides: tuple[str, ...] = (),
    arms: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
) -> Experiment:
    """Load a recipe that extends BASE by `extra`."""
    write(folder, {"base.toml": BASE, "recipe.toml": f'extends = "base.toml"\n{extra}', **(files or {})})
    return load_experiment(folder / "recipe.toml", overrides=overrides, arms=arms)


def problems(
    folder: Path,
    extra: str = "",
    *,
    overrides: tuple[str, ...] = (),
    arms: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
) -> list[str]:
    """Return the problem lines of a recipe that extends BASE by `extra`, without the folder's name."""
    with pytest.raises(RecipeProblemsError) as caught:
        load(folder, extra, overrides=overrides, arms=arms, files=files)
    return [str(problem).replace(f"{folder.resolve()}/", "") for problem in caught.value.problems]
