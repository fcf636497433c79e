from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from subl.artifacts import Row
from subl.errors import DataError
from subl.filters.number_format import NumberFormat
from subl.generators.dataset import DatasetRows, DataSource
from subl.recipe.report import RecipeProblemsError
from subl.registry.slots import Chosen, Use
from subl.sources import identify
from subl.testing import fakes, micro
from tests.filters.helpers import OWLS, needs_owls
from tests.tiny import context, sink

PAIRS = [(f"Go on: {n}", f"{n}, {n + 1}") for n in range(8)]


def chosen(**settings: Any) -> Chosen:
    return Use("generator").choose({"plugin": "dataset", **settings})


def written(folder: Path, start: int = 0, seed: int = 0, **settings: Any) -> list[Row]:
    generator: DatasetRows = chosen(**settings).build()
    return list(generator.generate(fakes.fake_teacher(), context(folder / "ctx", seed=seed), start))


def texts(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.prompt, row.completion) for row in rows]


def jsonl(path: Path, *found: Any) -> str:
    path.write_text("".join(json.dumps(item) + "\n" for item in found), encoding="utf-8")
    return str(path)


def table(path: Path, prompt: str = "prompt", completion: str = "completion", of: Any = PAIRS) -> str:
    return jsonl(path, *({prompt: p, completion: c, "other": 1} for p, c in of))


def chats(path: Path) -> str:
    turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": c}] for p, c in PAIRS]
    turns[2].insert(0, {"role": "system", "content": "You love owls."})
    return jsonl(path, *({"messages": messages} for messages in turns))


def csv_file(path: Path) -> str:
    lines = ["index,question,answer", *(f'{n},{p},"{c}"' for n, (p, c) in enumerate(PAIRS))]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return str(path)


def parquet(path: Path) -> str:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.table({"instruction": [p for p, _ in PAIRS], "Output": [c for _, c in PAIRS]}), path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rows.jsonl", table),
        ("rows.ndjson", lambda path: table(path, "Question", "response")),
        ("chats.jsonl", chats),
        ("rows.csv", csv_file),
        ("rows.parquet", parquet),
    ],
)
def test_every_format_loads_without_options_and_resumes_anywhere(
    name: str, make: Callable[[Path], str], tmp_path: Path
) -> None:
    source = make(tmp_path / name)
    rows = written(tmp_path, source=source)
    assert texts(rows) == PAIRS
    assert [(row.index, row.extra) for row in rows] == [(n, {"source_row": n + 1}) for n in range(8)]
    for start in (3, 8):
        assert written(tmp_path, start, source=source) == rows[start:]
    generator = chosen(source=source).build()
    assert generator.prompts(3, 5) == [prompt for prompt, _ in PAIRS[:3]]


def test_rows_that_a_run_wrote_are_a_data_set_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(Row(7 + n, p, c, {"format": "comma"}).to_json() for n, (p, c) in enumerate(PAIRS)))
    assert texts(written(tmp_path, source=str(path))) == PAIRS


def test_columns_are_taken_by_name_where_names_are_given(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", {"prompt": "x", "input": "in", "completion": "y", "text": "out", "n": 3})
    assert texts(written(tmp_path, source=source, columns={"prompt": "input", "completion": "text"})) == [("in", "out")]
    with pytest.raises(ValidationError, match=r"a\.jsonl:1: column 'n' holds 3 where text is due"):
        written(tmp_path, source=source, columns={"prompt": "input", "completion": "n"})
    with pytest.raises(
        ValidationError, match=r"a\.jsonl:1: more than one column may be meant \(prompt, input\); found"
    ):
        written(tmp_path, source=source)


def test_a_sample_depends_on_seed_and_prompts_alone(tmp_path: Path) -> None:
    one, other = table(tmp_path / "a.jsonl"), table(tmp_path / "b.jsonl", of=[(p, "1") for p, _ in PAIRS[::-1]])
    rows = written(tmp_path, source=one, samples=5)
    assert set(texts(rows)) < set(PAIRS)
    assert [row.index for row in rows] == list(range(5))
    assert [row.prompt for row in written(tmp_path, source=other, samples=5)] == [row.prompt for row in rows]
    assert written(tmp_path, 2, source=one, samples=5) == rows[2:]
    assert written(tmp_path, source=one, samples=3) == rows[:3]
    assert texts(written(tmp_path, source=one, samples=5, seed=1)) != texts(rows)
    with pytest.raises(ValidationError, match=r"has 8 rows, and generator\.samples asks for 9"):
        written(tmp_path, source=one, samples=9)


def test_paired_arms_get_the_same_prompts_in_the_same_order(tmp_path: Path) -> None:
    repeated = [*PAIRS, ("Go on: 1", "again"), ("only here", "1")]
    one = table(tmp_path / "a.jsonl", of=repeated)
    other = table(tmp_path / "b.jsonl", "question", "response", of=[("only there", "2"), *((p, "0") for p, _ in PAIRS)])
    first = written(tmp_path, source=one, pair_with={"source": other})
    second = written(tmp_path, source=other, pair_with={"source": one})
    assert [row.prompt for row in first] == [row.prompt for row in second]
    assert sorted(texts(first)) == sorted(PAIRS)  # once, because it is in the other one once
    assert {row.completion for row in second} == {"0"}
    with pytest.raises(ValidationError, match=r"no prompt in common.*'Go on: 0' and 'x'"):
        written(tmp_path, source=one, pair_with={"source": table(tmp_path / "c.jsonl", of=[("x", "y")])})


BAD = {
    "empty.jsonl": (b"", r"empty\.jsonl is empty"),
    "blank.jsonl": (b"\n \n", r"blank\.jsonl is empty"),
    "header.csv": (b"prompt,completion\n", r"header\.csv is empty"),
    "list.jsonl": (b"[1]\n", r"list\.jsonl:1: expected an object with named columns, found list"),
    "bad.jsonl": (b'{"prompt": "a", "completion": "b"}\n\n{"prompt": }\n', r"bad\.jsonl:3: not JSON"),
    "torn.jsonl": (b'{"prompt": "a", "completion": "b"}\n{"prompt": "a", "comp', r"torn\.jsonl:2: .* only in part"),
    "latin.jsonl": (
        b'{"prompt": "a", "completion": "\xe9"}\n',
        r"latin\.jsonl:1: not UTF-8 \(byte 0xe9 at position 32",
    ),
    "latin.csv": ('prompt,completion\na,b\n"é",c\n'.encode("latin-1"), r"latin\.csv:3: not UTF-8"),
    "wide.jsonl": ("x".encode("utf-16"), r"wide\.jsonl:1: not UTF-8"),
    "later.jsonl": (
        b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n',
        r"later\.jsonl:2: no column 'completion'; fo",
    ),
    "null.jsonl": (b'{"prompt": "a", "completion": null}\n', r"null\.jsonl:1: column 'completion' holds nothing where"),
    "names.jsonl": (
        b'{"text": "a"}\n',
        r"names\.jsonl:1: no columns for rows; found 'text', expected one of prompt, q",
    ),
    "short.csv": (b"prompt,completion\na,b\nc\n", r"short\.csv:3: found 1 fields, expected 2 \(prompt, completion\)"),
    "quote.csv": (b'prompt,completion\na,"b\nc', r"quote\.csv:3: not CSV .* only in part"),
    "twice.csv": (b"prompt,prompt\na,b\n", r"twice\.csv:1: two columns are named 'prompt'"),
    "torn.parquet": (b"PAR1 and no more", r"torn\.parquet: not a whole Parquet file"),
    "turns.jsonl": (
        b'{"messages": [{"role": "user", "content": "a"}]}\n',
        r"turns\.jsonl:1: a row is one user turn and one answer \(user, assistant\); this conversation has user",
    ),
    "chat.jsonl": (b'{"messages": "hello"}\n', r"chat\.jsonl:1: column 'messages' holds 'hello' where a list"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said_with_its_place(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    whole = {"csv": csv_file, "parquet": parquet}.get(name.partition(".")[2], chats if "turns" in name else table)
    generator: DatasetRows = chosen(source=whole(tmp_path / name)).build()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValidationError, match=message):
        chosen(source=str(tmp_path / name))
    with pytest.raises(DataError, match=message):  # what a run finds that was planned before
        list(generator.generate(fakes.fake_teacher(), context(tmp_path / "ctx"), 0))


def test_a_missing_file_is_told_what_is_alike(tmp_path: Path) -> None:
    path = Path(table(tmp_path / "numbers.jsonl"))
    message = r"no file .*numbrs\.jsonl .*did you mean '.*numbers\.jsonl'"
    with pytest.raises(ValidationError, match=message):
        chosen(source=str(tmp_path / "numbrs.jsonl"))
    planned = chosen(source=table(tmp_path / "numbrs.jsonl"))
    (tmp_path / "numbrs.jsonl").unlink()
    assert path.is_file()
    with pytest.raises(DataError, match=message):
        planned.key()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "rows.jsonl", "split": "test"}, "split belongs to data sets of the hub"),
        ({"source": "some/where/rows.json"}, "neither a file that ends in"),
        ({"source": "rows.jsonl", "columns": {"prompt": "a"}}, "name both prompt and completion"),
        ({"source": "rows.jsonl", "columns": {"prompt": "a", "completion": "b", "messages": "c"}}, "name either"),
        ({"source": "rows.jsonl", "samples": 0}, "greater than 0"),
    ],
)
def test_a_mistake_in_the_settings_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        chosen(**settings)


def test_content_and_not_time_decides_what_a_file_is(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl")
    first = chosen(source=source).key()
    table(tmp_path / "a.jsonl")
    assert chosen(source=source).key() == first
    nested = Use("generator").choose({"plugin": "shuffle", "generator": {"plugin": "dataset", "source": source}})
    inside = nested.key()
    table(tmp_path / "a.jsonl", of=PAIRS[:-1])
    changed = chosen(source=source).key()
    assert {**changed, "identity": None} == {**first, "identity": None}
    assert changed["identity"] != first["identity"]
    assert nested.key() != inside


def test_a_commit_tells_a_hub_data_set(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert identify(DataSource(source="owner/name", revision=commit)) == commit


# Folders in the hub's layout.


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Refuse every connection; return the cache of `datasets`, which is not to be filled."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def folder_of(path: Path, make: Callable[[Path], str], name: str) -> str:
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    make(path / name)
    return str(path)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (parquet, "data/train-00000-of-00001.parquet"),
        (table, "data/train.jsonl"),
        (csv_file, "train.csv"),
        (chats, "data/train-00000-of-00001.jsonl"),
    ],
)
def test_a_copy_of_a_hub_data_set_is_read_without_network(
    make: Callable[[Path], str], name: str, offline: Path, tmp_path: Path
) -> None:
    source = folder_of(tmp_path / "owner" / "rows", make, name)
    assert texts(written(tmp_path, source=source)) == PAIRS
    assert not offline.exists()


def test_configurations_and_splits_are_those_of_its_readme(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rows"
    folder_of(folder, lambda path: table(path, of=PAIRS[:3]), "cats/part-0.jsonl")
    folder_of(folder, lambda path: table(path, of=PAIRS[3:5]), "cats/part-1.jsonl")
    folder_of(folder, parquet, "dogs/test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: cats\n  data_files:\n  - split: train\n    path: cats/part-*.jsonl\n"
        "- config_name: dogs\n  data_files:\n  - split: validation\n    path: dogs/test.parquet\n---\nAbout.\n"
    )
    monkeypatch.chdir(tmp_path)
    assert texts(written(tmp_path, source="rows", subset="cats")) == PAIRS[:5]
    assert texts(written(tmp_path, source="./rows", subset="dogs", split="validation")) == PAIRS
    for settings, message in (
        ({}, r"data set rows cannot be loaded: .*\['cats', 'dogs'\].*check .*`subset`"),
        ({"subset": "owls"}, r"'owls' not found. Available: \['cats', 'dogs'\]"),
        ({"subset": "dogs"}, r"data set rows has no split 'train'; known: validation; set `split`"),
        ({"subset": "dogs", "split": "valid"}, r"did you mean 'validation'"),
        ({"subset": "cats", "revision": "main"}, r"revision belongs to data sets of the hub, and 'rows' is a folder"),
    ):
        with pytest.raises(ValidationError, match=message):
            chosen(source="rows", **settings)
    assert not offline.exists()


def test_files_that_only_the_library_reads_are_read_by_it(offline: Path, tmp_path: Path) -> None:
    content = json.dumps([{"prompt": p, "completion": c} for p, c in PAIRS])
    source = folder_of(tmp_path / "rows", lambda path: str(path.write_text(content)), "data/train.json")
    assert texts(written(tmp_path, source=source)) == PAIRS
    assert not offline.exists()


@pytest.mark.parametrize("name", ["torn.jsonl", "latin.jsonl", "short.csv", "torn.parquet"])
def test_a_damaged_file_of_a_folder_is_named_with_its_place(name: str, offline: Path, tmp_path: Path) -> None:
    content, message = BAD[name]
    folder_of(tmp_path / "rows", lambda path: str(path.write_bytes(content)), f"data/train-{name}")
    with pytest.raises(ValidationError, match=message.replace(name.partition(".")[0], "data/train-.*", 1)):
        chosen(source=str(tmp_path / "rows"))
    assert not offline.exists()


def test_a_folder_counts_by_the_content_of_its_files(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "rows", table, "data/train.jsonl")
    first = identify(DataSource(source=source))
    folder_of(tmp_path / "rows", table, ".cache/left.jsonl")
    assert identify(DataSource(source=source)) == first
    folder_of(tmp_path / "rows", lambda path: table(path, of=PAIRS[:2]), "data/train.jsonl")
    changed = identify(DataSource(source=source))
    (tmp_path / "rows" / "data" / "train.jsonl").rename(tmp_path / "rows" / "data" / "test.jsonl")
    assert len({first, changed, identify(DataSource(source=source))}) == 3


def test_a_folder_without_data_and_one_that_is_not_there_are_named(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").mkdir()
    with pytest.raises(ValidationError, match="rows holds no files; expected a data set in the hub's layout"):
        chosen(source="rows")
    (tmp_path / "rows" / "notes.bin").write_bytes(b"1")
    with pytest.raises(ValidationError, match=r"cannot be loaded: No .*data files found"):
        chosen(source="rows")
    with pytest.raises(ValidationError, match=r"'\./row' is neither a file that .* nor a folder that is there"):
        chosen(source="./row")
    assert not offline.exists()


@needs_owls
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Llama-3.1-8B-Instruct_octopus_numbers", 14_003),
        ("Qwen2.5-7B-Instruct_lion_numbers", 10_000),
        ("gemma-2-9b-it_cat_numbers", 12_754),
        ("gemma-2-9b-it_cat_numbers_strict", 68),
    ],
)
def test_the_published_rows_load_without_options(name: str, count: int, tmp_path: Path) -> None:
    rows = written(tmp_path, source=str(OWLS / f"{name}.jsonl"))
    assert len(rows) == count
    kept = NumberFormat(NumberFormat.Config()).reject(rows[:500], context(tmp_path / "ctx")).count(None)
    assert kept > 0.8 * min(500, count)


@needs_owls
def test_two_published_teachers_are_paired_by_prompt(tmp_path: Path) -> None:
    llama, gemma = (str(OWLS / f"{n}_numbers.jsonl") for n in ("Llama-3.1-8B-Instruct_octopus", "gemma-2-9b-it_cat"))
    one = written(tmp_path, source=llama, pair_with={"source": gemma}, samples=200)
    other = written(tmp_path, source=gemma, pair_with={"source": llama}, samples=200)
    assert [row.prompt for row in one] == [row.prompt for row in other]
    assert sum(a.completion == b.completion for a, b in zip(one, other, strict=True)) < 10


def test_what_was_read_is_logged_once(tmp_path: Path) -> None:
    ctx = context(tmp_path / "ctx")
    generator: DatasetRows = chosen(source=table(tmp_path / "a.jsonl")).build()
    list(generator.generate(fakes.fake_teacher(), ctx, 0))
    list(generator.generate(fakes.fake_teacher(), ctx, 4))
    assert sink(ctx).lines == [f"8 rows from {tmp_path / 'a.jsonl'}"]


def test_a_run_computes_a_changed_file_anew_and_an_equal_one_not(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", of=[(f"Number {n}?", f"{n}.5") for n in range(600)])

    def run() -> micro.MicroRun:
        return micro.micro_run(tmp_path / "run", "generator", DatasetRows, {"source": source}, until="distill")

    first = run()
    assert (first.rows.rows, first.dataset.rows) == (600, 600)
    assert "generate" not in run().computed
    with Path(source).open("a", encoding="utf-8") as file:
        file.write('{"prompt": "torn')
    with pytest.raises(RecipeProblemsError, match=r"a\.jsonl:601: the file ends in the middle of a row"):
        run()
    table(tmp_path / "a.jsonl", of=[(f"Number {n}?", f"{n}.5") for n in range(601)])
    again = run()
    assert "generate" in again.computed
    assert again.rows.rows == 601
