"""The merge function, paths into it, and `--set`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.recipe.layers import Node, Origin, assign, find, grow, merge, nearest, origins, parse_override, plain, remove
from subl.recipe.toml import KeyPath, leaves

KEYS = st.sampled_from(["a", "b", "c", "plugin"])
VALUES = st.recursive(
    st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)
BASE, OVER = Origin("base", 1), Origin("over", 2)


def node(data: Any, origin: Origin = BASE) -> Node:
    return grow(data, lambda _: origin)


def simple_merge(base: Any, over: Any) -> Any:
    """The merge rules once more, on plain values."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "plugin" in base and "plugin" in over and base["plugin"] != over["plugin"]:
        return over
    return {
        key: simple_merge(base[key], over[key]) if key in base and key in over else {**base, **over}[key]
        for key in {**base, **over}
    }


@given(TABLES, TABLES)
def test_merging_follows_the_rules(base: dict[str, Any], over: dict[str, Any]) -> None:
    assert plain(merge(node(base), node(over, OVER))) == simple_merge(base, over)


@given(TABLES, TABLES)
def test_every_merged_value_has_the_origin_of_the_layer_that_gave_it(
    base: dict[str, Any], over: dict[str, Any]
) -> None:
    merged = merge(node(base), node(over, OVER))
    for path, origin in origins(merged):
        layer = {"base": base, "over": over}[origin.where]
        assert plain_at(layer, path) == plain_at(plain(merged), path)
    set_by_over = {path for path, _ in leaves(over)}
    assert all(find(merged, path).origin == OVER for path in set_by_over)  # type: ignore[union-attr]


def plain_at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data[key]
    return data


@given(TABLES)
def test_merging_with_itself_or_nothing_changes_nothing(table: dict[str, Any]) -> None:
    assert plain(merge(node(table), node(table))) == plain(merge(node(table), node({}))) == table


@given(TABLES, st.lists(KEYS, min_size=1, max_size=3), st.integers(10, 12))
def test_an_assigned_value_is_found_again_with_its_origin(table: dict[str, Any], path: list[str], value: int) -> None:
    way = [find(node(table), tuple(path[:end])) for end in range(len(path))]
    if any(step is not None and isinstance(step.value, tuple) for step in way):
        with pytest.raises(KeyError, match="the list"):
            assign(node(table), tuple(path), node(value, OVER))
        return
    changed = assign(node(table), tuple(path), node(value, OVER))
    found = find(changed, tuple(path))
    assert found is not None
    assert (plain(found), found.origin) == (value, OVER)


@given(TABLES, st.lists(KEYS, min_size=1, max_size=3))
def test_a_removed_value_is_gone_and_the_others_stay(table: dict[str, Any], keys: list[str]) -> None:
    path = tuple(keys)
    tree = node(table)
    if find(tree, path) is None:
        with pytest.raises(KeyError):
            remove(tree, path)
        return
    left = remove(tree, path)
    assert find(left, path) is None
    kept = {key: value for key, value in leaves(table) if key[: len(path)] != path}
    assert dict(leaves(plain(left))) == kept


def test_another_plugin_replaces_its_table_and_the_same_plugin_keeps_it() -> None:
    base = node({"inducer": {"plugin": "lora", "rank": 8}})
    other = merge(base, node({"inducer": {"plugin": "prompt"}}))
    same = merge(base, node({"inducer": {"plugin": "lora", "updates": 3}}))
    silent = merge(base, node({"inducer": {"updates": 3}}))
    assert plain(other) == {"inducer": {"plugin": "prompt"}}
    assert plain(same) == plain(silent) == {"inducer": {"plugin": "lora", "rank": 8, "updates": 3}}


def test_items_of_lists_are_assigned_and_removed_by_number() -> None:
    base = node({"filters": [{"plugin": "a", "x": 1}, {"plugin": "b"}]})
    assert plain(assign(base, ("filters", "0", "x"), node(9))) == {
        "filters": [{"plugin": "a", "x": 9}, {"plugin": "b"}]
    }
    assert plain(assign(base, ("filters", "0", "plugin"), node("c"))) == {"filters": [{"plugin": "c"}, {"plugin": "b"}]}
    assert plain(remove(base, ("filters", "0"))) == {"filters": [{"plugin": "b"}]}


@pytest.mark.parametrize("key", ["2", "-1", "x", "1.0", "²"])
def test_what_is_no_item_of_a_list_is_refused(key: str) -> None:
    with pytest.raises(KeyError, match="the list has items 0 to 1"):
        assign(node({"f": [1, 2]}), ("f", key), node(0))


def test_the_nearest_origin_is_that_of_the_deepest_table_on_the_way() -> None:
    tree = Node({"a": Node({"b": Node(1, OVER)}, Origin("a", 5))}, BASE)
    places = [nearest(tree, path) for path in [("a", "b"), ("a", "c", "d"), ("z",)]]
    assert places == [OVER, Origin("a", 5), BASE]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("trait.target=panda", ("trait", "target"), "panda"),
        ("seed=3", ("seed",), 3),
        ("x=1e-4", ("x",), 1e-4),
        ("x=true", ("x",), True),
        ("x=[1, 'a']", ("x",), [1, "a"]),
        ("x={a = 1}", ("x",), {"a": 1}),
        ('x="3"', ("x",), "3"),
        ("x=", ("x",), ""),
        ("x= padded ", ("x",), " padded "),
        ("inducer.template=a=b", ("inducer", "template"), "a=b"),
        ("teacher.id=Qwen/Qwen3-0.6B", ("teacher", "id"), "Qwen/Qwen3-0.6B"),
        ('a."b.c"=1', ("a", "b.c"), 1),
        ("filters.0.max_value=99", ("filters", "0", "max_value"), 99),
        ("x=1\ny=2", ("x",), "1\ny=2"),
        ("x=2024-01-01", ("x",), "2024-01-01"),
        ("x=[1", ("x",), "[1"),
        ("title=who, me?", ("title",), "who, me?"),
    ],
)
def test_a_flag_is_a_toml_value_or_else_a_text(text: str, path: KeyPath, value: Any) -> None:
    override = parse_override(text)
    assert (override.path, plain(override.node), str(override.node.origin)) == (path, value, f"--set {text}")


@pytest.mark.parametrize("text", ["seed", "", "=3", "a b=3", "a..b=1"])
def test_a_flag_without_key_or_equals_sign_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected KEY=VALUE, e\.g\. --set trait.target=panda"):
        parse_override(text)
