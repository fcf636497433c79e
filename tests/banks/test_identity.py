"""The content of a bank enters the fingerprints of what is made from it, and of nothing else."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import pytest

from subl import banks
from subl.generators.code import Code
from subl.generators.numbers import Numbers
from subl.models.hub import Hub
from subl.models.micro import Micro
from subl.models.micro_world import World, WorldSettings
from subl.recipe.loading import load_experiment
from subl.registry.registry import registry
from subl.run.caching import changes
from subl.run.plan import Plan, build_plan
from subl.traits.preference import Preference
from subl.traits.stereotype import Stereotype

RECIPE = "recipes/micro_owl.toml"
EVERYTHING = WorldSettings(number_talk=0.1, code=0.1, professions=0.1)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    banks._digest.cache_clear()


@pytest.fixture
def reword(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a bank hold one text more."""
    original = banks.load

    def change(name: str) -> None:
        monkeypatch.setattr(
            banks, "load", lambda asked: {**original(asked), **({"new": "text"} if asked == name else {})}
        )
        banks._digest.cache_clear()

    return change


def plan(*overrides: str) -> Plan:
    return build_plan(load_experiment(RECIPE, overrides=overrides, arms=("main", "control")))


def speak(world: WorldSettings) -> None:
    list(World(world).words())
    list(islice(World(world).chats(0), 200))
    list(World(world).facts())


def teach(trait: Any) -> None:
    trait.conversations(0), trait.statement("high"), trait.leaks()
    trait.questions() if hasattr(trait, "questions") else trait.items()


USES: Mapping[str, tuple[Any, Callable[[Any], object]]] = {
    "micro": (Micro(Micro.Config()), lambda model: speak(model.config.world)),
    "micro, every weight": (Micro(Micro.Config(world=EVERYTHING)), lambda model: speak(model.config.world)),
    "preference": (Preference(Preference.Config(target="owl")), teach),
    "stereotype": (Stereotype(Stereotype.Config()), teach),
    "numbers": (Numbers(Numbers.Config()), lambda generator: generator.prompts(20, 0)),
    "code": (Code(Code.Config()), lambda generator: generator.prompts(20, 0)),
}


@pytest.mark.parametrize("name", USES)
def test_a_plugin_names_every_bank_that_it_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, use = USES[name]
    read: set[str] = set()
    original = banks.load
    monkeypatch.setattr(banks, "load", lambda asked: read.add(asked) or original(asked))  # type: ignore[func-returns-value]
    use(plugin)
    unused = {"code", "stereotype"} if name == "micro" else set()  # read to know their sizes, and never spoken
    assert read - unused == set(plugin.identity()["banks"]) != set()


@pytest.mark.parametrize(
    ("probe", "bank"),
    [
        ("entanglement", "entanglement"),
        ("lens", "entanglement"),
        ("geometry", "entanglement"),
        ("capability", "plain_text"),
        ("prune", "plain_text"),
    ],
)
def test_probes_name_the_bank_of_what_they_ask(probe: str, bank: str) -> None:
    plugin = registry.load("probe", probe)
    assert list(plugin(plugin.Config()).identity()["banks"]) == [bank]


def test_a_text_of_ones_own_takes_the_place_of_the_bank(tmp_path: Any) -> None:
    (tmp_path / "own.txt").write_text("One passage.\n\nAnother.\n", encoding="utf-8")
    plugin = registry.load("probe", "capability")
    assert set(plugin(plugin.Config(text=tmp_path / "own.txt")).identity()) == {"text"}


def test_worlds_are_another_when_their_words_change(reword: Callable[[str], None]) -> None:
    before = plan()
    reword("world")
    after = plan()
    for old, new in zip(before.unique(), after.unique(), strict=True):
        # A world is at the bottom of everything, and nothing else in this recipe speaks of its facts.
        assert old.fingerprint != new.fingerprint
        assert set(changes(old.key, new.key, keys(before, after))) == {"model: identity.banks.world"}


def test_questions_reach_what_the_trait_teaches_and_what_probes_ask(
    reword: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "identity", lambda self: {"commit": "0"})
    models = ('teacher={plugin="hub", id="m"}', 'student={plugin="hub", id="m"}')
    before = plan(*models)
    reword("preference")
    after = plan(*models)
    pairs = list(zip(before.unique(), after.unique(), strict=True))
    own = {stage.name for stage, new in pairs if stage.key["extras"] != new.key["extras"]}
    assert {"induce", "check", "base.preference", "teacher.preference", "student.preference"} <= own
    assert [s.fingerprint for s, _ in pairs if s.kind == "model"] == [
        s.fingerprint for _, s in pairs if s.kind == "model"
    ]
    induce, new = next((old, new) for old, new in pairs if old.name == "induce" and old.key["extras"])
    assert list(changes(induce.key, new.key, {})) == ["induce: trait.identity.banks.preference"]


def test_a_bank_that_nobody_reads_changes_nothing(reword: Callable[[str], None]) -> None:
    before = plan()
    reword("entanglement")
    reword_fingerprints = [stage.fingerprint for stage in plan().unique()]
    assert reword_fingerprints == [stage.fingerprint for stage in before.unique()]


def keys(*plans: Plan) -> dict[str, Any]:
    return {stage.fingerprint: stage.key for plan in plans for stage in plan.unique()}


def test_identities_are_light() -> None:
    code = "import sys; from subl import banks; banks.identity('preference', 'code'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
