"""Probe `capability`: held-out text, losses, and tasks of the harness."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from subl import Context, DataError, Findings, MissingExtraError, ModelRef, Row, Subject, Teacher, banks
from subl.generators.dataset import DatasetRows
from subl.generators.numbers import Numbers
from subl.models.micro import Micro
from subl.probes.capability import Capability
from subl.probes.capability_tasks import _measures
from subl.probes.losses import WINDOW, Loss, Texts, _shortened, held_out, measure_loss
from subl.probes.texts import read_passages
from subl.registry.registry import registry
from subl.registry.slots import Use
from subl.testing.fakes import dataset
from tests.distillers.soft import model
from tests.tiny import context

GENERATOR = Numbers(Numbers.Config.model_validate({"samples": 50_000, "phrasing": "brief", "constrained": True}))
SMALL: dict[str, Any] = {"rows": 5, "passages": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capability")


@pytest.fixture(scope="module")
def base(folder: Path) -> ModelRef:
    return model(folder)


@pytest.fixture(scope="module")
def student(folder: Path, base: ModelRef) -> ModelRef:
    return base.derive("student", path=model(folder, seed=1).path)


def ready(folder: Path, base: ModelRef, generator: Any = GENERATOR) -> Context:
    return context(folder, generator=generator, teacher=Teacher(base, base))


def probed(subject: Subject, ctx: Context, **settings: Any) -> Findings:
    return Capability(Capability.Config.model_validate(SMALL | settings)).probe(subject, ctx)


def rows_of(subject: Subject, ctx: Context, **settings: Any) -> list[tuple[str | None, str]]:
    return list(held_out(Capability.Config.model_validate(SMALL | settings), subject, ctx)["carrier"].pairs)


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "capability") is Capability


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ["facts"]}, "nothing is downloaded; name it in task_folder"),
        ({"task_folder": "tasks"}, "task_folder does nothing without tasks"),
        ({"task_limit": 3}, "task_limit does nothing without tasks"),
        ({"tasks": ["a", "a"], "task_folder": "tasks"}, "twice"),
        ({"rows": 1}, "greater than or equal to 2"),
    ],
)
def test_a_mistake_is_named_before_a_model_loads(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Capability.Config.model_validate(settings)


# Losses.


def test_loss_equals_whole_sequences_one_by_one(base: ModelRef, folder: Path) -> None:
    lm = context(folder).load(base)
    texts = Texts("texts", (("Go on: 1, 2", "3, 4"), (None, "The examiner asked the question."), ("Hello", "owl")))
    loss = measure_loss(lm, texts, system="Be kind.", batch_size=2)
    chats = [lm.chat.example(p, a, system="Be kind.") for p, a in texts.pairs if p is not None]
    bos = lm.tokenizer.bos_token_id
    plain = lm.tokenizer(texts.pairs[1][1], add_special_tokens=False).input_ids
    wholes = [
        (chats[0].input_ids, chats[0].prompt_length),
        ((bos, *plain), 1),
        (chats[1].input_ids, chats[1].prompt_length),
    ]
    for i, (ids, cut) in enumerate(wholes):
        steps = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)[cut - 1 : -1]
        expected = -float(steps.gather(1, torch.tensor(ids[cut:])[:, None]).sum())
        assert loss.nats[i] == pytest.approx(expected, rel=1e-5)
        assert loss.tokens[i] == len(ids) - cut
    assert loss.mean().value == pytest.approx(loss.nats.sum() / loss.tokens.sum())
    assert loss.perplexity().value == pytest.approx(math.exp(loss.mean().value))


def test_long_running_text_is_read_in_windows(base: ModelRef, folder: Path) -> None:
    lm = context(folder).load(base)
    text = "one two three " * 200
    length = len(lm.tokenizer(text, add_special_tokens=False).input_ids)
    assert length > WINDOW
    assert measure_loss(lm, Texts("passages", ((None, text),)), system=None, batch_size=2).tokens[0] == length


def test_a_change_is_paired_over_texts() -> None:
    tokens = np.array([2.0, 4.0, 6.0])
    before = Loss(np.array([4.0, 10.0, 9.0]), tokens, "rows")
    after = Loss(before.nats - 0.5 * tokens, tokens, "rows")
    change = after.change(before)
    assert change.value == pytest.approx(-0.5)
    assert change.low == pytest.approx(-0.5), "every token lost the same"
    assert change.high == pytest.approx(-0.5)
    assert before.mean().low is not None
    assert before.mean().value == pytest.approx(23 / 12)


# Held-out text.


def test_held_out_rows_are_the_teachers_and_never_training_rows(base: ModelRef, folder: Path) -> None:
    ctx = ready(folder / "rows", base)
    new = rows_of(Subject("base", base), ctx)
    assert len(new) == 5
    plain = Numbers(GENERATOR.config.model_copy(update={"samples": 5}))
    assert new == [(r.prompt, r.completion) for r in plain.generate(Teacher(base, base), ctx, 0)]
    trained = [Row(i, str(prompt), answer) for i, (prompt, answer) in enumerate(new[1:3])]
    others = rows_of(Subject("student", base, dataset=dataset(folder / "trained", trained)), ctx)
    assert len(others) == 5
    assert not {(row.prompt, row.completion) for row in trained} & set(others)


def written(folder: Path, count: int) -> tuple[DatasetRows, list[Row]]:
    rows = [Row(i, f"prompt {i}", f"{i}") for i in range(count)]
    path = folder / "file.jsonl"
    path.write_text("".join(json.dumps({"prompt": r.prompt, "completion": r.completion}) + "\n" for r in rows))
    return DatasetRows(DatasetRows.Config(source=str(path))), rows


def test_rows_of_a_file_that_the_student_did_not_see_are_held_out(base: ModelRef, tmp_path: Path) -> None:
    generator, rows = written(tmp_path, 9)
    seen = Subject("student", base, dataset=dataset(tmp_path / "seen", rows[:5]))
    assert rows_of(seen, ready(tmp_path, base, generator)) == [(r.prompt, r.completion) for r in rows[5:]]
    everything = Subject("student", base, dataset=dataset(tmp_path / "all", rows))
    with pytest.raises(DataError, match=r"0 of 9 rows .* train on fewer rows than there are"):
        rows_of(everything, ready(tmp_path, base, generator))


def test_a_generator_is_shortened_through_what_wraps_it() -> None:
    table = {"plugin": "numbers", "samples": 5_000}
    shuffled = Use("generator").choose({"plugin": "shuffle", "how": "across", "generator": table}).build()
    short = _shortened(shuffled, 7)
    assert short.config.samples == short.inner.config.samples == 7
    assert short.config.how == "across"
    assert _shortened(GENERATOR, 60_000).config.samples == 50_000
    plain = object()
    assert _shortened(plain, 3) is plain


def test_plain_text_is_the_worlds_facts_a_file_or_our_own(base: ModelRef, tmp_path: Path) -> None:
    config = Micro.Config()
    micro = ModelRef("micro", config.model_dump(mode="json"), "micro")
    ctx = ready(tmp_path, base)
    texts = held_out(Capability.Config(rows=2, passages=70), Subject("base", micro), ctx)["plain"]
    assert len(set(texts.pairs)) == len(texts.pairs) == 64
    assert texts.of == "chats"
    assert all("favourite" not in f"{prompt} {answer}" for prompt, answer in texts.pairs)
    own = held_out(Capability.Config(rows=2, passages=3), Subject("base", base), ctx)["plain"]
    assert own == Texts("passages", tuple((None, text) for text in banks.load("plain_text")["passages"][:3]))
    file = tmp_path / "plain.txt"
    file.write_text("One\npassage.\n\n\nAnother.\n", encoding="utf-8")
    read = held_out(Capability.Config(rows=2, text=file), Subject("base", micro), ctx)["plain"]
    assert read.pairs == ((None, "One passage."), (None, "Another."))


def test_the_banks_passages_are_about_neither_animals_nor_numbers() -> None:
    from subl.traits.catalogue import CANDIDATES
    from subl.words import whole_words

    words = whole_words(word for listed in CANDIDATES.values() for word in listed)
    passages = banks.load("plain_text")["passages"]
    assert len(set(passages)) == len(passages) >= 20
    for passage in passages:
        assert not words.search(passage), words.search(passage)
        assert not any(map(str.isdigit, passage))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no file .*plain.txt"), (b"\xff\n\nx", "not UTF-8"), (b"only one\n", "holds 1 passages")],
)
def test_a_text_that_cannot_be_used_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_passages(path)
    with pytest.raises(ValidationError, match=message):
        Capability.Config(text=path)


def test_a_text_counts_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("One.\n\nTwo.")
    probe = Capability(Capability.Config(text=path))
    first = probe.identity()
    path.write_text("One.\n\nThree.")
    assert probe.identity() != first
    # Without a file, a bank of our own is read.
    assert list(Capability(Capability.Config()).identity()["banks"]) == ["plain_text"]


# Findings.


def test_a_student_is_compared_with_its_base_on_the_same_texts(base: ModelRef, student: ModelRef, folder: Path) -> None:
    found = probed(Subject("student", student, base=base), ready(folder / "student", base))
    before = probed(Subject("base", base, base=base), ready(folder / "base", base))
    for name in ("carrier", "plain"):
        change = found.measures[f"{name}_change"]
        levels = [f.measures[f"{name}_loss"].value for f in (found, before)]
        assert change.value == pytest.approx(levels[0] - levels[1], abs=1e-6)
        assert found.measures[f"{name}_perplexity"].value == pytest.approx(math.exp(levels[0]))
    assert not [name for name in before.measures if name.endswith("_change")]
    assert len(found.tables["losses"].rows) == 8
    assert len(found.remarks) == 2
    assert {path.name for path in (folder / "student/out/figures").iterdir()} == {"losses.png"}
    assert {path.name for path in (folder / "base/out/figures").iterdir()} == {"losses.png"}


def test_models_of_another_origin_are_not_compared(base: ModelRef, folder: Path) -> None:
    gemma = model(folder, "gemma")
    found = probed(Subject("teacher", gemma, base=base), ready(folder / "other", base))
    assert "carrier_loss" in found.measures
    assert "carrier_change" not in found.measures


# Tasks.


def test_tasks_need_the_extra_and_say_so_before_hours_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facts.yaml").write_text("task: facts")
    probe = Capability(Capability.Config(tasks=("facts",), task_folder=tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"lm-eval, which is not installed.*subl\[eval\]"):
        probe.identity()


def test_a_task_folder_counts_by_its_files_and_must_hold_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValidationError, match="holds no task"):
            Capability.Config(tasks=("facts",), task_folder=folder)
    (tmp_path / "facts.yaml").write_text("task: facts")
    probe = Capability(Capability.Config(tasks=("facts",), task_folder=tmp_path))
    first = probe.identity()
    (tmp_path / "data.jsonl").write_text("{}")
    assert probe.identity() != first


def test_the_harness_results_become_measures() -> None:
    scores = {"alias": "facts", "acc,none": 0.5, "acc_stderr,none": 0.1, "em,strict": 1, "em_stderr,strict": "N/A"}
    found = _measures("facts", scores, 25)
    assert found["task_facts_acc"][:4] == pytest.approx((0.5, 0.304, 0.696, 25), abs=1e-3)
    assert found["task_facts_em_strict"].low is None
    assert len(found) == 2


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval (extra `eval`) is not installed")
def test_a_task_of_a_local_folder_is_run(base: ModelRef, folder: Path, tmp_path: Path) -> None:
    from subl import PluginError

    lines = [json.dumps({"question": f"Is {n} even?", "answer": n % 2}) for n in range(6)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    (tmp_path / "even.yaml").write_text(
        "task: even\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: "
        + str(tmp_path / "data.jsonl")
        + "\n"
        'output_type: multiple_choice\ntest_split: test\ndoc_to_text: "{{question}}"\ndoc_to_target: answer\n'
        'doc_to_choice: ["yes", "no"]\nmetric_list:\n  - metric: acc\n'
    )
    settings = {"tasks": ["even"], "task_folder": str(tmp_path), "task_limit": 4}
    found = probed(Subject("base", base), ready(folder / "tasks", base), **settings)
    assert 0 <= found.measures["task_even_acc"].value <= 1
    assert found.measures["task_even_acc"].n == 4
    with pytest.raises(PluginError, match="has no task 'evn'; did you mean 'even'"):
        probed(Subject("base", base), ready(folder / "tasks", base), **settings | {"tasks": ["evn"]})
