"""The public API is what `plugins/api.txt` lists, and it does not change unless the CHANGELOG says so.

After a change: add a sentence to CHANGELOG.md, then run `python -m tests.contract.test_api "that sentence"`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import subl
import subl.testing

ROOT = Path(__file__).parents[2]
LIST = ROOT / "plugins/api.txt"
CHANGELOG = ROOT / "CHANGELOG.md"

MODELS = {
    "subl.models.language": ("LanguageModel", "assemble"),
    "subl.models.chat": ("Chat", "Example"),
    "subl.models.hub": ("Hub",),
    "subl.models.generation": ("sample", "row_seed"),
    "subl.models.scoring": ("continuation_log_probs", "next_token_log_probs"),
    "subl.models.settings": ("LoraSettings", "SamplingSettings", "TrainSettings"),
    "subl.models.training": ("train", "derived", "Trained"),
    "subl.generators.sampling": ("sampled_rows",),
}
"""What plugins for language models may use as well; read from the source, because importing torch costs seconds."""


def listing() -> str:
    """Return the public API: every name with its parameters, fields and methods."""
    lines: list[str] = []
    for package in (subl, subl.testing):
        for name in package.__all__:
            item = getattr(package, name)
            shown = list(_shown(item.__module__, name)) if inspect.isclass(item) or inspect.isfunction(item) else []
            lines += [f"{package.__name__}.{line}" for line in shown or [name]]
    for module, names in MODELS.items():
        lines += [f"{module}.{line}" for name in names for line in _shown(module, name)]
    return "\n".join(lines) + "\n"


def _shown(module: str, name: str) -> Iterator[str]:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            yield _signature(node)
        elif isinstance(node, ast.ClassDef) and node.name == name:
            yield name
            for inner in node.body:
                if isinstance(inner, ast.AnnAssign) and not ast.unparse(inner.target).startswith("_"):
                    yield f"{name}.{ast.unparse(inner.target)}: {ast.unparse(inner.annotation)}"
                elif isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{name}.{_signature(inner)}"


def _signature(node: ast.FunctionDef) -> str:
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returned}"


def header(text: str, sentence: str) -> str:
    return f"# {hashlib.sha256(text.encode()).hexdigest()[:12]} CHANGELOG: {sentence}\n"


def test_the_list_is_the_api_and_the_changelog_knows_of_it() -> None:
    first, _, listed = LIST.read_text(encoding="utf-8").partition("\n")
    sentence = first.partition(" CHANGELOG: ")[2]
    assert listed == listing(), f"the public API changed; {(__doc__ or '').splitlines()[2]}"
    assert first + "\n" == header(listed, sentence), "api.txt was edited by hand"
    assert sentence
    assert sentence in CHANGELOG.read_text(encoding="utf-8")


def test_every_name_of_the_list_is_there() -> None:
    for module, names in MODELS.items():
        assert all(list(_shown(module, name)) for name in names), module


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "subl/py.typed").is_file()


def main(sentence: str) -> None:
    before = LIST.read_text(encoding="utf-8").partition("\n")[0] if LIST.exists() else ""
    if sentence not in CHANGELOG.read_text(encoding="utf-8") or before.endswith(f": {sentence}"):
        raise SystemExit("give a new sentence of CHANGELOG.md that tells of the change")
    text = listing()
    LIST.write_text(header(text, sentence) + text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
