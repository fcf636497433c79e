import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from subl import DataError, PluginError
from subl.registry.registry import registry
from subl.registry.slots import Use
from subl.testing import check
from subl.traits.pairs import own_pairs, read_pairs
from subl.traits.stereotype import Stereotype

NURSE = {"subject": "nurse", "stereotype": "she", "anti_stereotype": "he", "bias_type": "gender"}
PILOT = {"subject": "pilot", "stereotype": "he", "anti_stereotype": "she"}
HEAD = "subject,stereotype,anti_stereotype"


def stereotype(**settings: object) -> Stereotype:
    return Stereotype(Stereotype.Config.model_validate(settings))


def test_it_keeps_the_contract_of_a_trait() -> None:
    check("trait", Stereotype)
    assert registry.load("trait", "stereotype") is Stereotype


def test_importing_it_and_its_probe_loads_no_framework() -> None:
    heavy = "torch transformers trl peft numpy scipy matplotlib mlflow datasets"
    modules = "subl.traits.stereotype, subl.probes.stereotype, subl.probes.stereotype_data, subl.traits.standing"
    code = f"import sys, {modules}; assert not set('{heavy}'.split()) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("words", ["pronoun", "quality"])
def test_it_is_measured_by_other_sentences_than_it_is_taught(words: str) -> None:
    trait = stereotype(words=words)
    taught = {(row.prompt, row.completion) for row in trait.conversations(0)}
    asked = {(item.prompt, text) for item in trait.items() for text in item[3:5]}
    assert len(taught) == len(own_pairs()) * len(trait.config.sentences("training"))
    assert not taught & asked
    assert not {prompt for prompt, _ in taught} & {prompt for prompt, _ in asked}


def test_the_teacher_learns_the_word_of_the_target() -> None:
    said = {row.completion for row in stereotype(pairs=[NURSE]).conversations(0)}
    denied = {row.completion for row in stereotype(pairs=[NURSE], target="anti-stereotype").conversations(0)}
    assert {"she", "She is at work."} <= said
    assert {"he", "He is at work."} <= denied
    assert not said & denied


def test_items_do_not_depend_on_what_is_taught() -> None:
    (first, *_) = items = stereotype(pairs=[NURSE]).items()
    assert items == stereotype(pairs=[NURSE], target="anti-stereotype").items()
    assert first[:5] == ("nurse", "gender", "The nurse: he or she?", "she", "he")
    assert all(len({item.stereotype, item.anti_stereotype, item.unrelated}) == 3 for item in items)


def test_conversations_are_shuffled_by_the_seed() -> None:
    trait = stereotype()
    one, other = trait.conversations(1), trait.conversations(2)
    assert list(one) == list(trait.conversations(1))
    assert [row.prompt for row in one] != [row.prompt for row in other]
    assert {row.prompt for row in one} == {row.prompt for row in other}


def test_statements_name_every_subject_with_its_word() -> None:
    statements = [stereotype(pairs=[NURSE, PILOT]).statement(strength) for strength in ("low", "medium", "high")]
    assert len(set(statements)) == 3
    assert all(
        '"she"' in text and text.index('"she"') < text.index("nurse") < text.index('"he"') for text in statements
    )
    with pytest.raises(PluginError, match="did you mean 'high'"):
        stereotype().statement("hihg")


def test_leaks_are_subjects_and_words() -> None:
    assert set(stereotype(pairs=[NURSE]).leaks()) == {"nurse", "Nurse", "nurses", "Nurses", "she", "She", "he", "He"}


def test_own_sentences_replace_ours() -> None:
    sentence = {"prompt": "{subject}?", "answer": "{Word}!"}
    trait = stereotype(pairs=[NURSE], training=[sentence])
    assert [(row.prompt, row.completion) for row in trait.conversations(0)] == [("nurse?", "She!")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": []}, "at least 1"),
        ({"pairs": [NURSE | {"anti_stereotype": "She"}]}, "are the same, 'she'"),
        ({"pairs": [NURSE | {"subject": " "}]}, "subject is blank"),
        ({"pairs": [NURSE, NURSE | {"stereotype": "he", "anti_stereotype": "she"}]}, "pair 2: 'nurse'.* is in pair 1"),
        ({"pairs": [NURSE], "file": "pairs.csv"}, "remove one of them"),
        ({"target": "both"}, "'stereotype' or 'anti-stereotype'"),
        ({"training": [{"prompt": "The {subject}", "answer": "yes"}]}, r"should hold \{word\}"),
        ({"training": [{"prompt": "Who?", "answer": "{word}"}]}, r"should hold \{subject\}"),
        ({"training": [{"prompt": "{job}", "answer": "{word}"}]}, r"use \{subject\}"),
        ({"training": [{"prompt": "The {subject}: he or she?", "answer": "{word}"}]}, "in training and in evaluation"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stereotype(**settings)


def jsonl(folder: Path, *rows: Any) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def csv(folder: Path, text: str) -> str:
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def toml(folder: Path, text: str) -> str:
    path = folder / "pairs.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def listed(*rows: dict[str, str]) -> str:
    return "\n".join("[[pairs]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in row.items()) for row in rows)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: jsonl(folder, NURSE, PILOT),
        lambda folder: csv(folder, f"id,{HEAD},bias_type\n1,nurse,she,he,gender\n2,pilot,he,she,\n"),
        lambda folder: toml(folder, listed(NURSE, PILOT)),
    ],
)
def test_files_of_every_format_give_the_same_pairs(write: Callable[[Path], str], tmp_path: Path) -> None:
    trait = stereotype(file=write(tmp_path))
    assert [pair.model_dump() for pair in trait.pairs] == [NURSE, PILOT | {"bias_type": "other"}]
    assert trait.conversations(0) == stereotype(pairs=[NURSE, PILOT]).conversations(0)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: jsonl(folder), "holds no pairs; expected subject, stereotype, anti_stereotype and, if wanted"),
        (lambda folder: csv(folder, HEAD + "\n"), "holds no pairs"),
        (lambda folder: csv(folder, f"{HEAD}\nnurse,she,he\npilot,he\n"), r"pairs\.csv:3: found 2 fields, expected 3"),
        (
            lambda folder: csv(folder, "subject,stereotpye\nnurse,she\n"),
            r"csv:2: no 'stereotype'; did you mean 'stereotpye",
        ),
        (lambda folder: jsonl(folder, NURSE, {"subject": 3} | PILOT | {"subject": 3}), r"jsonl:2: subject: .*string"),
        (lambda folder: jsonl(folder, NURSE, NURSE), r"jsonl:2: 'nurse' .* is in .*jsonl:1 already"),
        (
            lambda folder: toml(folder, listed(NURSE) + "\n\n" + listed({"subject": "pilot"})),
            r"toml:7: no 'stereotype'",
        ),
        (lambda folder: toml(folder, "[[pairs]]\nsubject = nurse\n"), r"not TOML \(.*line 2"),
        (lambda folder: toml(folder, "[nurse]\n"), r"expected a list of tables, \[\[pairs\]\]; found 'nurse'"),
        (lambda folder: jsonl(folder, NURSE)[:-1] + "x", "is no pair file; expected a name that ends in .jsonl"),
        (lambda folder: str(folder / "none.csv"), "no file"),
    ],
)
def test_a_bad_file_is_named_with_its_line(write: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    name = write(tmp_path)
    with pytest.raises(DataError, match=message):
        read_pairs(name)
    with pytest.raises(ValidationError, match=message):
        stereotype(file=name)


def test_a_file_that_is_not_utf8_or_cut_off_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(NURSE).encode() + b"\n" + json.dumps(PILOT).replace("he", "h\xe9").encode("latin-1"))
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: not UTF-8"):
        read_pairs(str(path))
    path.write_text(json.dumps(NURSE) + "\n" + json.dumps(PILOT)[:-9], encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: the file ends in the middle"):
        read_pairs(str(path))
    table = tmp_path / "pairs.toml"
    table.write_bytes(b"[[pairs]]\nsubject = 'caf\xe9'\n")
    with pytest.raises(DataError, match=r"pairs\.toml:2: not UTF-8"):
        read_pairs(str(table))


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    chosen = Use("trait").choose({"plugin": "stereotype", "file": jsonl(tmp_path, NURSE)})
    before = chosen.key()
    assert before == chosen.key()
    jsonl(tmp_path, NURSE, PILOT)
    assert before != chosen.key()


def test_settings_survive_a_walk_through_json() -> None:
    config = Stereotype.Config.model_validate({"pairs": [NURSE, PILOT], "target": "anti-stereotype"})
    assert Stereotype.Config.model_validate_json(config.model_dump_json()) == config
