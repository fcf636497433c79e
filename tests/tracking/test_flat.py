from hypothesis import given
from hypothesis import strategies as st

from subl.tracking.flat import MAX_NAME, MAX_PARAM, clean_name, flatten


def test_nested_tables_become_dotted_names() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": "x"}) == {"a.b.c": "1", "d": "x"}


def test_absent_values_are_left_out_and_empty_text_stays_visible() -> None:
    assert flatten({"chat": {"system": None}}) == {}
    assert flatten({"chat": {"system": ""}}) == {"chat.system": '""'}


def test_scalars_and_lists_are_written_as_json() -> None:
    params = {"flag": True, "rate": 1e-3, "words": ["owl", "Käuzchen"], "none": []}
    assert flatten(params) == {"flag": "true", "rate": "0.001", "words": '["owl", "Käuzchen"]', "none": "[]"}


def test_lists_of_tables_are_keyed_by_what_names_them() -> None:
    filters = [{"plugin": "length", "max": 3}, {"plugin": "no_text", "name": "clean"}]
    assert flatten({"filters": filters}) == {
        "filters.length.plugin": "length",
        "filters.length.max": "3",
        "filters.clean.plugin": "no_text",
        "filters.clean.name": "clean",
    }


def test_two_tables_of_one_name_are_both_kept() -> None:
    flat = flatten({"filters": [{"plugin": "length", "max": 3}, {"plugin": "length", "max": 9}]})
    assert {flat[name] for name in flat if name.endswith("max")} == {"3", "9"}


def test_long_values_are_cut_with_a_sign() -> None:
    value = flatten({"prompt": "x" * 10_000})["prompt"]
    assert len(value) == MAX_PARAM
    assert value.endswith("…")


@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    cleaned = clean_name(name)
    assert len(cleaned) <= MAX_NAME
    _validate_metric_name(cleaned)


def test_good_names_are_kept() -> None:
    assert clean_name("student.preference.share") == "student.preference.share"
    assert clean_name("distill/loss") == "distill/loss"
