"""Writing a new plugin: one file with a test, or a package to install and publish."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from subl.errors import PluginError, suggest
from subl.registry.describe import SECTIONS
from subl.registry.kinds import KINDS
from subl.registry.registry import registry

_TEMPLATES = "scaffolds"

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{package}"
version = "0.1.0"
description = "{article} {kind} for subl."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["subl"]

[project.optional-dependencies]
dev = ["mypy", "pytest", "ruff"]

# The key is the name that recipes use.
[project.entry-points."subl.{kind}s"]
{name} = "{module}.{name}:{plugin}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]

[tool.ruff]
line-length = 120

[tool.ruff.lint]
select = ["B", "D1", "E", "F", "I", "UP", "W"]
per-file-ignores = {{ "tests/**" = ["D"] }}
ignore = ["D107"]

[tool.mypy]
strict = true
files = ["{module}", "tests"]
"""

_README = """\
# {package}

{article} {kind} for [subl](https://pypi.org/project/subl/).

```sh
pip install -e '.[dev]'
subl plugins show {kind} {name}
pytest
```

In a recipe:

```toml
{section}
plugin = "{name}"
```
"""


def scaffold(kind: str, name: str, folder: Path, *, package: bool = False) -> list[Path]:
    """Write a working plugin with a test below `folder`; return the files, the plugin's own first.

    Raises:
        PluginError: Unknown kind, a name that cannot be one or is taken, or a file that is there already.
    """
    if kind not in KINDS:
        raise PluginError(f"unknown kind {kind!r}{suggest(kind, KINDS)}")
    _check_name(kind, name)
    written = _package(kind, name) if package else _local(kind, name)
    paths = [folder / path for path in written]
    if there := [str(path) for path in paths if path.exists()]:
        raise PluginError(f"{there[0]} exists already; choose another name, or another place with --folder")
    for path, text in zip(paths, written.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return paths


def class_name(name: str) -> str:
    """Return the name of a plugin's class: "even_numbers" → "EvenNumbers"."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        example = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_") or "my_plugin"
        example = example if example[0].isalpha() and not keyword.iskeyword(example) else f"my_{example}"
        raise PluginError(f"{name!r} cannot name a file and a class; use small letters, digits and _, e.g. {example!r}")
    if name in registry.names(kind):
        where = registry.entries(kind)
        origin = next(str(entry.origin) for entry in where if entry.name == name)
        raise PluginError(f"a {kind} named {name!r} is there already, from {origin}; try 'my_{name}'")


def _local(kind: str, name: str) -> Mapping[str, str]:
    return {f"{name}.py": _plugin(kind, name), f"test_{name}.py": _test(kind, name, module=name)}


def _package(kind: str, name: str) -> Mapping[str, str]:
    package, module = f"subl-{name.replace('_', '-')}", f"subl_{name}"
    facts = {
        "package": package,
        "module": module,
        "kind": kind,
        "name": name,
        "plugin": class_name(name),
        "section": SECTIONS[kind],
        "article": "An" if kind[0] in "aeiou" else "A",
    }
    decorator = f'@subl.{kind}("{name}")\n'
    return {
        f"{package}/{module}/{name}.py": _plugin(kind, name).replace(decorator, ""),
        f"{package}/{module}/__init__.py": f'"""{facts["article"]} {kind} for subl."""\n',
        f"{package}/{module}/py.typed": "",
        f"{package}/tests/test_{name}.py": _test(kind, name, module=f"{module}.{name}"),
        f"{package}/pyproject.toml": _PYPROJECT.format(**facts),
        f"{package}/README.md": _README.format(**facts),
    }


def _plugin(kind: str, name: str) -> str:
    return _filled(f"{kind}.py.txt", name)


def _test(kind: str, name: str, *, module: str) -> str:
    return _filled(f"{kind}_test.py.txt", name).replace("my_module", module)


def _filled(template: str, name: str) -> str:
    text = files("subl.registry").joinpath(_TEMPLATES, template).read_text(encoding="utf-8")
    return text.replace("my_plugin", name).replace("MyPlugin", class_name(name))
