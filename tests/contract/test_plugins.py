"""What every built-in plugin owes its users."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import subl
from subl.registry.builtins import BUILTINS
from subl.registry.config import StrictModel
from subl.registry.kinds import KINDS
from subl.registry.registry import registry

ALL = [(kind, name) for kind, table in BUILTINS.items() for name in table]
HEAVY = ("torch", "transformers", "trl", "peft", "mlflow", "numpy", "scipy", "matplotlib", "datasets", "tokenizers")


def fields(config: type[StrictModel], path: str = "") -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for name, info in config.model_fields.items():
        found.append((path + name, info.description))
        if inspect.isclass(info.annotation) and issubclass(info.annotation, StrictModel):
            found += fields(info.annotation, f"{path}{name}.")
    return found


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_built_in_keeps_its_contract_and_documents_every_setting(kind: str, name: str) -> None:
    plugin: Any = registry.load(kind, name)
    assert len((plugin.__doc__ or "").strip()) > 20
    undocumented = [path for path, doc in fields(plugin.Config) if not doc]
    assert undocumented == []


def test_the_table_names_every_plugin_class_in_the_rooms() -> None:
    """A class with a `Config` and a `version` is a plugin, and a plugin that no recipe can name is lost."""
    listed = {target for table in BUILTINS.values() for target in table.values()}
    found = set()
    for room in ("models", "traits", "inducers", "generators", "filters", "distillers", "probes"):
        package = importlib.import_module(f"subl.{room}")
        for info in pkgutil.iter_modules(package.__path__, f"subl.{room}."):
            module = importlib.import_module(info.name)
            for name, item in vars(module).items():
                own = inspect.isclass(item) and item.__module__ == info.name
                if own and hasattr(item, "Config") and hasattr(item, "version"):
                    found.add(f"{info.name}:{name}")
    assert found == listed


def test_kinds_of_plugin_are_the_seven_of_the_public_api() -> None:
    assert set(KINDS) == set(BUILTINS) == {"model", "trait", "inducer", "generator", "filter", "distiller", "probe"}
    assert all(callable(getattr(subl, kind)) for kind in KINDS)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_naming_a_plugin_loads_no_framework(kind: str, name: str) -> None:
    """Checked once for all below; one by one it says who is to blame."""
    module = BUILTINS[kind][name].partition(":")[0]
    source = inspect.getsource(importlib.import_module(module))
    heavy = [
        line
        for line in source.splitlines()
        if line.startswith(("import ", "from ")) and line.split()[1].partition(".")[0] in HEAVY
    ]
    assert heavy == []


def test_loading_every_built_in_imports_no_framework() -> None:
    code = (
        "import sys\nfrom subl.registry.builtins import BUILTINS\nfrom subl.registry.registry import registry\n"
        "[registry.load(k, n) for k, t in BUILTINS.items() for n in t]\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_public_names_are_all_there() -> None:
    assert sorted(subl.__all__) == subl.__all__
    assert all(hasattr(subl, name) for name in subl.__all__)
