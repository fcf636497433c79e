"""A recipe's file with everything that it extends, each file once, lowest layer first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from subl.errors import PluginError, RecipeError, suggest
from subl.recipe.layers import Node, Origin, find, grow, merge, remove
from subl.recipe.report import Problems
from subl.recipe.shipped import SUFFIX, locate, plugins, root
from subl.recipe.toml import TomlError, dotted, parse_key, read_toml
from subl.registry.consent import require_consent
from subl.registry.local import load_local


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a chain."""

    path: Path
    tree: Node
    parents: tuple[Path, ...]


def display(path: Path) -> str:
    """Return a path as messages show it: relative where it lies below the current folder."""
    path, here = path.resolve(), Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def locate_recipe(source: str | Path) -> Path:
    """Return the file of a path that ends in .toml, or of a shipped name.

    Raises:
        RecipeError: It does not exist.
    """
    path = Path(source)
    if path.suffix != SUFFIX and not path.is_file():
        return locate(str(source))
    if not path.is_file():
        near = [str(other) for other in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
        raise RecipeError(f"recipe {source} does not exist{suggest(str(source), near)}")
    return path


def _instead(name: str, path: Path) -> str:
    """Return what may have been meant: a shipped recipe, which has no ending, or a file nearby."""
    if (root() / name).is_file():
        return f"; the shipped recipe is {name.removesuffix(SUFFIX)!r}, without {SUFFIX}"
    near = [other.name for other in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
    return suggest(path.name, near)


@dataclass(slots=True)
class Chain:
    """Follows `extends` depth first, left to right. A file met twice counts once, where it was met first."""

    problems: Problems
    layers: list[Layer] = field(default_factory=list)
    _seen: dict[Path, int] = field(default_factory=dict)

    def follow(self, path: Path, trail: tuple[Path, ...] = (), asked: Origin | None = None) -> None:
        """Add a file and what it extends to `layers`; missing files, cycles and bad TOML become problems."""
        path = path.resolve()
        if path in trail:
            cycle = " → ".join(display(step) for step in (*trail[trail.index(path) :], path))
            self.problems.add(asked or Origin(display(path)), "extends", f"goes in a circle: {cycle}")
            return
        if path in self._seen:
            return
        rank = self._seen[path] = len(self._seen)
        shown = display(path)
        try:
            document = read_toml(path, shown)
        except TomlError as error:
            self.problems.add(Origin(shown, error.line, rank, error.column), "", error.reason)
            return
        tree = grow(document.data, lambda key: Origin(shown, document.places[key].line if key else 1, rank))
        parents = self._parents(tree, path.parent)
        for parent, origin in parents:
            self.follow(parent, (*trail, path), origin)
        self.layers.append(Layer(path, tree, tuple(parent for parent, _ in parents)))

    def _parents(self, tree: Node, folder: Path) -> list[tuple[Path, Origin]]:
        found = []
        for origin, name in strings(tree, "extends", self.problems):
            path = folder / name
            try:
                if not name.endswith(SUFFIX):
                    path = locate(name)
                elif not path.is_file():
                    raise RecipeError(f"{name!r} does not exist beside this file{_instead(name, path)}")
            except RecipeError as error:
                self.problems.add(origin, "extends", str(error))
            else:
                found.append((path, origin))
        return found


def strings(tree: Node, key: str, problems: Problems) -> list[tuple[Origin, str]]:
    """Return the texts under a key that holds one text or a list of them."""
    node = tree.table.get(key)
    if node is None:
        return []
    items = node.value if isinstance(node.value, tuple) else (node,)
    for item in items:
        if not isinstance(item.value, str):
            problems.add(item.origin, key, "should be a text or a list of texts")
    return [(item.origin, item.value) for item in items if isinstance(item.value, str)]


def stack(layers: list[Layer], base: Node, problems: Problems) -> Node:
    """Merge a chain on `base`, lowest layer first."""
    for layer in layers:
        base = overlay(base, layer.tree, problems)
    return base


def overlay(base: Node, over: Node, problems: Problems) -> Node:
    """Lay one file or arm on `base`: first what it unsets, then what it sets."""
    for origin, text in strings(over, "unset", problems):
        base = _unset(base, origin, text, problems)
    kept = {key: node for key, node in over.table.items() if key not in ("extends", "unset")}
    return merge(base, Node(kept, over.origin))


def _unset(base: Node, origin: Origin, text: str, problems: Problems) -> Node:
    try:
        return remove(base, parse_key(text))
    except ValueError as error:
        problems.add(origin, "unset", str(error))
    except KeyError:
        parent = find(base, parse_key(text)[:-1])
        known = [dotted((*parse_key(text)[:-1], key)) for key in parent.table] if parent else []
        problems.add(origin, "unset", f"{text!r} is not set by any layer below{suggest(text, known)}")
    return base


def load_plugins(layers: list[Layer], problems: Problems) -> list[Path]:
    """Load the local plugin files that the files of a chain list, each relative to the file that lists it.

    Those outside the folder of the recipe itself, the chain's last file, need consent.
    """
    loaded: dict[Path, None] = {}
    recipe = layers[-1].path
    # What comes with subl, shipped recipes included, is trusted already.
    trusted = (recipe.parent, Path(__file__).parents[1], root(), plugins())
    for layer in layers:
        for origin, text in strings(layer.tree, "plugins", problems):
            path = (layer.path.parent / text).resolve()
            try:
                if path not in loaded:
                    require_consent(path, recipe, trusted, command=f"subl validate {recipe.name}")
                    load_local(path)
                    loaded[path] = None
            except PluginError as error:
                problems.add(origin, "plugins", str(error))
    return list(loaded)
