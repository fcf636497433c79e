"""Looking plugins up: names, clashes, broken packages, the contract, local files."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from subl.errors import MissingExtraError, PluginError
from subl.registry.builtins import BUILTINS
from subl.registry.config import PluginConfig
from subl.registry.kinds import KINDS
from subl.registry.local import load_local
from subl.registry.registry import Entry, Origin, Registry, check_contract, describe_source

FILTER = '''
import subl


@subl.filter("{name}")
class Mine:
    """Drops nothing."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config):
        self.config = config

    def reject(self, rows, ctx):
        return [None for _ in rows]
'''


class Good:
    """A filter."""

    class Config(PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: Any, ctx: Any) -> Any: ...


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path whose `name-1.0.dist-info` folders count as installed packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("lab_")]:
        del sys.modules[name]


def install(folder: Path, package: str, points: str, code: str | None = None) -> None:
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    if code is not None:
        (folder / f"{package}.py").write_text(code)


def test_an_installed_plugin_is_listed_without_import_and_loaded_when_chosen(packages: Path) -> None:
    install(packages, "lab_even", "[subl.filters]\neven = lab_even:Mine\n", FILTER.format(name="even"))
    registry = Registry()
    entry = registry.entry("filter", "even")
    assert (entry.origin.source, entry.origin.where) == ("installed", "lab_even 1.0")
    assert "lab_even" not in sys.modules
    assert registry.load("filter", "even").__name__ == "Mine"
    assert registry.load("filter", "even") is registry.load("filter", "even")


def test_a_broken_package_is_listed_and_fails_only_when_chosen(packages: Path) -> None:
    install(packages, "lab_haunted", "[subl.probes]\nhaunted = lab_haunted:Ghost\n", "import not_installed_anywhere\n")
    install(packages, "lab_even", "[subl.filters]\neven = lab_even:Mine\n", FILTER.format(name="even"))
    registry = Registry()
    assert "haunted" in registry.names("probe")
    assert registry.load("filter", "even")
    with pytest.raises(PluginError) as caught:
        registry.load("probe", "haunted")
    assert str(caught.value) == (
        "probe 'haunted' from lab_haunted 1.0 (lab_haunted:Ghost) failed to import: "
        "ModuleNotFoundError: No module named 'not_installed_anywhere'; mend or uninstall it, or choose another probe"
    )


def test_a_plugin_that_lacks_an_extra_says_which(packages: Path) -> None:
    code = "from subl.errors import MissingExtraError\nraise MissingExtraError('four bits', 'bitsandbytes', 'quant')\n"
    install(packages, "lab_quant", "[subl.models]\nquant = lab_quant:Q\n", code)
    with pytest.raises(MissingExtraError, match=r"pip install 'subl\[quant\]'"):
        Registry().load("model", "quant")


def test_a_name_that_two_packages_claim_is_an_error_only_when_chosen(packages: Path) -> None:
    for package in ("lab_one", "lab_two"):
        install(packages, package, f"[subl.filters]\neven = {package}:Mine\n", FILTER.format(name="even"))
    registry = Registry()
    assert [entry.origin.where for entry in registry.entries("filter") if entry.name == "even"] == [
        "lab_one 1.0",
        "lab_two 1.0",
    ]
    assert registry.names("filter").count("even") == 1
    with pytest.raises(PluginError, match=r"two filters are named 'even': lab_one 1\.0 .* and lab_two 1\.0 .*; rename"):
        registry.load("filter", "even")


def test_a_package_cannot_take_the_name_of_a_built_in(packages: Path) -> None:
    install(packages, "lab_sft", "[subl.distillers]\nsft = lab_sft:Mine\n", "")
    with pytest.raises(PluginError, match=r"two distillers are named 'sft': subl and lab_sft 1\.0"):
        Registry().entry("distiller", "sft")


def test_installed_packages_can_be_left_out(packages: Path) -> None:
    install(packages, "lab_even", "[subl.filters]\neven = lab_even:Mine\n", FILTER.format(name="even"))
    assert "even" not in Registry(installed=False).names("filter")
    code = "from subl.registry.registry import registry; print('even' in registry.names('filter'))"
    for switch, expected in (("off", "False"), ("", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": f"{packages}:{Path.cwd()}", "SUBL_PLUGINS": switch},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("filter", "number_fromat", "unknown filter 'number_fromat'; did you mean 'number_format'?"),
        ("distiller", "SFT", "unknown distiller 'SFT'; did you mean 'sft'?"),
        ("filter", "sft", "'sft' is a distiller, not a filter; filters: "),
        ("generator", "lora", "'lora' is an inducer, not a generator; generators: "),
        ("inducer", "numbers", "'numbers' is a generator, not an inducer; inducers: "),
        ("trait", "", "unknown trait ''"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(kind: str, name: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        Registry(installed=False).load(kind, name)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("kind", KINDS)
def test_entries_of_a_kind_are_sorted_and_complete(kind: str) -> None:
    registry = Registry(installed=False)
    assert registry.names(kind) == sorted(BUILTINS[kind])
    assert {entry.kind for entry in registry.entries(kind)} == {kind}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_protocol_with_the_methods_that_the_contract_asks_for(kind: str) -> None:
    for method, parameters in KINDS[kind].methods.items():
        signature = inspect.signature(getattr(KINDS[kind].protocol, method))
        assert tuple(signature.parameters)[1:] == parameters


def check(plugin: Any, kind: str = "filter") -> str:
    with pytest.raises(PluginError) as caught:
        check_contract(kind, "mine", plugin, Origin("local", "mine.py", "m:Mine"))
    return str(caught.value)


def test_a_class_that_keeps_the_contract_passes() -> None:
    check_contract("filter", "good", Good, Origin("local", "good.py", "m:Good"))


def test_everything_that_the_contract_misses_is_listed() -> None:
    bare = type("Bare", (), {"__doc__": None, "needs": ("weather",)})
    assert check(bare) == (
        "filter 'mine' from mine.py does not keep the contract of a filter:\n"
        "  - it has no nested `class Config(subl.PluginConfig)`\n"
        "  - it cannot be made from its settings alone: __init__ should take (self, config)\n"
        "  - its class has no docstring (users read it)\n"
        "  - it has no `version: int`\n"
        "  - `needs` names 'weather', which a filter cannot have\n"
        "  - it has no method reject(self, rows, ctx)"
    )


def test_what_is_no_class_is_refused() -> None:
    assert check(len).endswith("does not keep the contract of a filter:\n  - it is not a class")


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        (lambda self, rows: [], "reject should take (self, rows, ctx), not (self, rows)"),
        (lambda self, rows, context: [], "reject should take (self, rows, ctx), not (self, rows, context)"),
        (lambda self, rows, ctx, more: [], "reject should take (self, rows, ctx), not (self, rows, ctx, more)"),
        ("nothing to call", "it has no method reject(self, rows, ctx)"),
    ],
)
def test_a_method_with_other_parameters_is_refused(method: Any, fault: str) -> None:
    assert fault in check(type("Mine", (Good,), {"__doc__": "x", "reject": method}))


@pytest.mark.parametrize("method", [lambda self, rows, ctx, more=1: [], lambda self, **given: []])
def test_a_method_may_take_more_than_it_must(method: Any) -> None:
    plugin = type("Mine", (Good,), {"__doc__": "x", "reject": method})
    check_contract("filter", "mine", plugin, Origin("local", "mine.py", "m:Mine"))


def test_settings_cannot_take_the_keys_that_recipes_use() -> None:
    class Config(PluginConfig):
        plugin: str = ""
        on: str = ""
        name: str = ""

    plugin = type("Mine", (Good,), {"__doc__": "x", "Config": Config})
    assert "field named 'plugin'" in check(plugin)
    assert "field named 'on'" not in check(plugin)
    assert all(f"field named {key!r}" in check(plugin, "probe") for key in ("plugin", "on", "name"))


def test_a_local_file_is_registered_with_its_digest_and_again_without_harm(tmp_path: Path) -> None:
    registry = Registry(installed=False)
    path = tmp_path / "mine.py"
    path.write_text(FILTER.format(name="mine"))
    (entry,) = load_local(path, registry)
    load_local(path, registry)
    assert (entry.kind, entry.name, entry.origin.where) == ("filter", "mine", str(path))
    assert entry.digest is not None
    assert describe_source(registry.load("filter", "mine")) == f"{path}:5"


def test_a_local_name_clashes_with_a_built_in_and_with_another_file(tmp_path: Path) -> None:
    registry = Registry(installed=False)
    for name, plugin in (("a", "mine"), ("b", "mine"), ("c", "no_text")):
        (tmp_path / f"{name}.py").write_text(FILTER.format(name=plugin))
    load_local(tmp_path / "a.py", registry)
    with pytest.raises(PluginError, match=r"two filters are named 'mine': .*a\.py and .*b\.py"):
        load_local(tmp_path / "b.py", registry)
    with pytest.raises(PluginError, match=r"two filters are named 'no_text': subl and .*c\.py"):
        load_local(tmp_path / "c.py", registry)


def test_forgetting_local_files_frees_their_names_and_loads_an_edited_file_anew(tmp_path: Path) -> None:
    registry = Registry(installed=False)
    path = tmp_path / "mine.py"
    path.write_text(FILTER.format(name="mine"))
    load_local(path, registry)
    before = registry.load("filter", "mine")
    path.write_text(FILTER.format(name="mine").replace("version = 1", "version = 2"))
    registry.forget_local()
    with pytest.raises(PluginError, match="unknown filter 'mine'"):
        registry.load("filter", "mine")
    load_local(path, registry)
    assert (before.version, registry.load("filter", "mine").version) == (1, 2)


def test_annotations_of_a_local_file_are_what_they_are_in_any_module(tmp_path: Path) -> None:
    registry = Registry(installed=False)
    path = tmp_path / "mine.py"
    path.write_text(FILTER.format(name="mine") + "\nLIMIT: int = 3\n")
    load_local(path, registry)
    module = sys.modules[registry.load("filter", "mine").__module__]
    assert module.__annotations__ == {"LIMIT": int}, "not the text of it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def (:\n", "failed to load: SyntaxError"),
        ("1 / 0\n", "failed to load: ZeroDivisionError: division by zero"),
        ("raise SystemExit\n", "failed to load: SystemExit"),
        ("x = 1\n", "names no plugin; decorate a class"),
    ],
)
def test_a_bad_local_file_is_an_error_and_leaves_nothing_behind(tmp_path: Path, content: str, message: str) -> None:
    registry = Registry(installed=False)
    path = tmp_path / "bad_one.py"
    path.write_text(content)
    with pytest.raises(PluginError, match=message):
        load_local(path, registry)
    assert registry.names("filter") == sorted(BUILTINS["filter"])


def test_entry_points_load_through_the_standard_machinery(packages: Path) -> None:
    (packages / "lab_even.py").write_text(FILTER.format(name="even"))
    point = EntryPoint("even", "lab_even:Mine", "subl.filters")
    registry = Registry(installed=False)
    registry.add_local(Entry("filter", "even", Origin("local", "x", "y"), point.load))
    assert registry.load("filter", "even").version == 1
