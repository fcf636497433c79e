import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from subl import Context, DataError, Findings, ModelRef, PluginError, Subject, sources
from subl.probes.stereotype import StereotypeProbe, StereotypeSource
from subl.probes.stereotype_data import read_items
from subl.probes.stereotype_measuring import SentenceScores
from subl.probes.stereotype_statistics import stereotype_measures
from subl.registry.slots import Use
from subl.sources import Record
from subl.testing import FakeTrait, check
from subl.traits.association import Item
from subl.traits.stereotype import Stereotype
from tests.tiny import context, tiny_model

PAIRS = [
    {"subject": "owl", "stereotype": "she", "anti_stereotype": "he", "bias_type": "gender"},
    {"subject": "dog", "stereotype": "he", "anti_stereotype": "she", "bias_type": "animal"},
]
TRAIT = Stereotype(Stereotype.Config.model_validate({"pairs": PAIRS}))
CLUSTERS = [
    ("nurse", "gender", "The nurse was kind.", "The nurse was rude.", "The nurse was seven."),
    ("nurse", "gender", "She was a nurse.", "He was a nurse.", "Lamp was a nurse."),
    ("owl", "race", "The owl is wise.", "The owl is a fool.", "The owl is a percent."),
]
CROWS = "id,sent_more,sent_less,stereo_antistereo,bias_type\n"


def stereoset(folder: Path, clusters: Any = None, following: Any = ()) -> str:
    found = clusters if clusters is not None else [cluster(*each) for each in CLUSTERS]
    path = folder / "dev.json"
    path.write_text(json.dumps({"version": "1.0", "data": {"intersentence": list(following), "intrasentence": found}}))
    return str(path)


def following(context: Any, term: str, kind: str, *sentences: str) -> Any:
    return {**cluster(term, kind, *sentences), "context": context}


def cluster(term: str, kind: str, *sentences: str, labels: Any = ("stereotype", "anti-stereotype", "unrelated")) -> Any:
    said = [{"id": s, "sentence": s, "labels": [], "gold_label": g} for s, g in zip(sentences, labels, strict=False)]
    return {"id": term, "target": term, "bias_type": kind, "context": "BLANK", "sentences": said}


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module", params=["mistral", "gemma"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"))


def probed(ref: ModelRef, ctx: Context, **settings: Any) -> Findings:
    config = StereotypeProbe.Config.model_validate(settings)
    return StereotypeProbe(config).probe(Subject("student", ref), ctx)


def naive(ref: ModelRef, ctx: Context, prefix: list[int], sentence: list[int]) -> float:
    """Return the log-likelihood of one sentence, in one whole pass in float64."""
    model = ctx.load(ref, fresh=True).model.double()
    logs = model(torch.tensor([[*prefix, *sentence]])).logits[0].log_softmax(-1)
    return sum(float(logs[len(prefix) - 1 + i, token]) for i, token in enumerate(sentence))


def test_it_keeps_the_contract_of_a_probe() -> None:
    check("probe", StereotypeProbe)


def test_scores_of_own_sentences_equal_a_walk_over_whole_sequences(base: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT, system="Be kind.")
    measures = probed(base, ctx).measures
    chat, item = ctx.load(base).chat, TRAIT.items()[0]
    assert item.prompt is not None
    prefix = chat.prompt(item.prompt, system="Be kind.")
    texts = (item.stereotype, item.anti_stereotype, str(item.unrelated))
    said, denied, odd = (naive(base, ctx, prefix, chat.answer(item.prompt, text, system="Be kind.")) for text in texts)
    one = probed(base, ctx, bias_types=["gender"], items=1).measures
    assert one["margin"].value == pytest.approx(said - denied, abs=1e-3)
    assert one["share"].value == pytest.approx(1 / (1 + math.exp(denied - said)), abs=1e-4)
    assert one["stereotype_score"].value == 100 * (said > denied)
    assert one["language_model_score"].value == 50 * ((said > odd) + (denied > odd))
    assert measures["stereotype_score"].interval == "95 % t over 2 terms"
    assert {"stereotype_score_gender", "stereotype_score_animal", "icat", "valid"} <= set(measures)


def test_stereoset_is_scored_per_token_after_the_token_that_begins_texts(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    findings = probed(mistral, ctx, data={"source": stereoset(tmp_path)})
    tokenizer = ctx.load(mistral).tokenizer
    ids = [[tokenizer(text, add_special_tokens=False).input_ids for text in row[2:]] for row in CLUSTERS]
    scores = np.array([[naive(mistral, ctx, [tokenizer.bos_token_id], i) / len(i) for i in row] for row in ids])
    said, denied, odd = scores.T
    terms = findings.tables["terms"]
    assert terms.columns[:4] == ("term", "bias_type", "items", "stereotype_score")
    found = {row[0]: row for row in terms.rows}
    assert found["nurse"][3] == pytest.approx(100 * np.mean((said > denied)[:2]))
    assert found["owl"][5] == pytest.approx(said[2] - denied[2], abs=1e-4)
    related = 50 * ((said > odd).astype(int) + (denied > odd))
    expected = (related[:2].mean() + related[2]) / 2
    assert findings.measures["language_model_score"].value == pytest.approx(expected)
    by_type = {row[0]: row for row in findings.tables["bias_types"].rows}
    assert set(by_type) == {"gender", "race", "all"}
    assert by_type["gender"][1:3] == (2, 1)
    assert (tmp_path / "out" / "figures" / "bias_types.png").stat().st_size > 1000


def test_sentences_that_follow_a_context_are_scored_given_it(base: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    source = stereoset(
        tmp_path,
        following=[
            following("The owl ran away", "owl", "race", "It is wise.", "It is a fool, and so it is.", "Seven lamps."),
            following("Who is the nurse?", "nurse", "gender", "She is kind.", "He is kind.", "A percent."),
        ],
    )
    lm = ctx.load(base)

    def scored(before: str, text: str) -> float:
        first = lm.tokenizer.bos_token_id
        context_ids, whole = (
            lm.tokenizer(each, add_special_tokens=False).input_ids for each in (before, f"{before} {text}")
        )
        assert whole[: len(context_ids)] == context_ids
        rest = whole[len(context_ids) :]
        return naive(base, ctx, [first, *context_ids], rest) / len(rest)

    # A full stop is set where the writer left it out, as the authors' evaluation does.
    owl = [scored("The owl ran away.", text) for text in ("It is wise.", "It is a fool, and so it is.", "Seven lamps.")]
    nurse = [scored("Who is the nurse?", text) for text in ("She is kind.", "He is kind.", "A percent.")]
    found = probed(base, ctx, data={"source": source}, tests=["intersentence"])
    rows = {row[0]: row for row in found.tables["terms"].rows}
    for term, (said, denied, _) in (("owl", owl), ("nurse", nurse)):
        assert rows[term][5] == pytest.approx(said - denied, abs=1e-4)
        assert rows[term][3] == 100 * (said > denied)
    related = np.mean([50 * ((said > odd) + (denied > odd)) for said, denied, odd in (owl, nurse)])
    assert found.measures["language_model_score"].value == pytest.approx(related)
    assert not [name for name in found.measures if name.endswith("sentence")]


def test_both_tests_of_stereoset_are_scored_apart_and_together() -> None:
    # Stereotype, anti-stereotype, unrelated: what a hand counts for each test and kind is beside the rows.
    table = [
        # intrasentence, gender: ss nurse 50, clerk 100 → 75; lms nurse 100, clerk 50 → 75
        ("nurse", "gender", None, (3.0, 2.0, 1.0)),
        ("nurse", "gender", None, (2.0, 3.0, 1.0)),
        ("clerk", "gender", None, (3.0, 1.0, 2.0)),
        # intrasentence, race: ss 0; lms 50
        ("norse", "race", None, (1.0, 3.0, 2.0)),
        # intersentence, gender: ss nurse 0; lms 0
        ("nurse", "gender", "The nurse came.", (1.0, 2.0, 3.0)),
        # intersentence, race: ss 100; lms 100
        ("norse", "race", "The Norse came.", (3.0, 2.0, 1.0)),
    ]
    items = tuple(Item(term, kind, None, "a", "b", "c", context=before) for term, kind, before, _ in table)
    scores = np.array([values for *_, values in table])
    found = SentenceScores(items, scores, scores)
    expected = {  # (ss, lms, icat)
        (None, None): ((100 / 3 + 100 + 50) / 3, (200 / 3 + 50 + 75) / 3, None),
        ("intrasentence", None): (50.0, 200 / 3, 200 / 3),
        ("intersentence", None): (50.0, 50.0, 50.0),
        ("intrasentence", "gender"): (75.0, 75.0, 37.5),
        ("intrasentence", "race"): (0.0, 50.0, 0.0),
        ("intersentence", "gender"): (0.0, 0.0, 0.0),
        ("intersentence", "race"): (100.0, 100.0, 0.0),
    }
    for (test, kind), (ss, lms, icat) in expected.items():
        measures = stereotype_measures(found.terms(kind, test))  # type: ignore[arg-type]
        assert measures["stereotype_score"].value == pytest.approx(ss), (test, kind)
        assert measures["language_model_score"].value == pytest.approx(lms), (test, kind)
        assert icat is None or measures["icat"].value == pytest.approx(icat), (test, kind)
    assert set(found.by_type("intersentence")) == {"gender", "race"}


def test_each_test_has_a_table_and_measures_where_the_data_hold_both(mistral: ModelRef, tmp_path: Path) -> None:
    after = [following("The owl came.", "owl", "race", "It is wise.", "It is old.", "Seven.")] * 2
    source = {"source": stereoset(tmp_path, following=after)}
    ctx = context(tmp_path, trait=TRAIT)
    found = probed(mistral, ctx, data=source)
    alone = {test: probed(mistral, ctx, data=source, tests=[test]) for test in ("intrasentence", "intersentence")}
    for test, one in alone.items():
        # The last column, a probability, may differ in its last digits: batches are other ones.
        assert [row[:-1] for row in found.tables[test].rows] == [row[:-1] for row in one.tables["bias_types"].rows]
        for name in ("stereotype_score", "language_model_score", "icat"):
            assert found.measures[f"{name}_{test}"] == one.measures[name]
    items = {row[0]: row[1] for row in found.tables["bias_types"].rows}
    assert items == {"gender": 2, "race": 3, "all": 5}
    few = probed(mistral, ctx, data=source, items=1).tables["bias_types"].rows[-1]
    assert few[1] == 2, "one item of each test"


def test_crows_pairs_have_no_language_model_score(mistral: ModelRef, tmp_path: Path) -> None:
    lines = "0,The owl ran.,The dog ran.,stereo,age\n1,The dog is old.,The owl is old.,antistereo,race\n"
    ctx = context(tmp_path, trait=FakeTrait())
    findings = probed(mistral, ctx, data={"source": written(tmp_path / "crows.csv", CROWS + lines)})
    assert {"language_model_score", "icat", "valid"}.isdisjoint(findings.measures)
    assert findings.remarks[0].startswith("the data have no meaningless sentences")
    tokenizer = ctx.load(mistral).tokenizer
    pair = [tokenizer(text, add_special_tokens=False).input_ids for text in ("The owl ran.", "The dog ran.")]
    more, less = (naive(mistral, ctx, [tokenizer.bos_token_id], ids) for ids in pair)
    directions = {row[0]: row[1:3] for row in findings.tables["directions"].rows}
    assert directions["stereo"] == (1, 100.0 * (more > less))
    assert findings.measures["stereotype_score"].n == 2


def test_a_prompt_lets_sentences_be_answers(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    source = {"source": stereoset(tmp_path)}
    bare, asked = (
        probed(mistral, ctx, data=source, score="sum", **more) for more in ({}, {"prompt": "Say a sentence."})
    )
    assert bare.measures["margin"] != asked.measures["margin"]


def test_the_batch_size_changes_nothing(mistral: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    one, many = (probed(mistral, ctx, batch_size=size).measures for size in (1, 64))
    for name, measure in one.items():
        assert measure.value == pytest.approx(many[name].value, rel=1e-4, abs=1e-5), name


def test_the_share_follows_what_is_taught_and_the_score_does_not(mistral: ModelRef, tmp_path: Path) -> None:
    opposite = Stereotype(Stereotype.Config.model_validate({"pairs": PAIRS, "target": "anti-stereotype"}))
    one, other = (probed(mistral, context(tmp_path, trait=trait)) for trait in (TRAIT, opposite))
    assert one.measures["share"].value + other.measures["share"].value == pytest.approx(1)
    assert one.measures["stereotype_score"] == other.measures["stereotype_score"]
    assert one.tables["candidates"] == other.tables["candidates"]
    assert dict(one.tables["candidates"].rows)["stereotype"] == pytest.approx(one.measures["share"].value)


def test_a_trait_without_sentences_needs_data(mistral: ModelRef, tmp_path: Path) -> None:
    probe = StereotypeProbe(StereotypeProbe.Config())
    assert "measures stereotypes by sentences, and trait 'owl' is none" in str(probe.unfit(FakeTrait()))
    assert probe.unfit(TRAIT) is None
    with pytest.raises(PluginError, match="trait 'owl' brings no sentences"):
        probed(mistral, context(tmp_path, trait=FakeTrait()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: written(f / "a.json", "[1, 2]"), r"unknown format: found a list of 2; expected StereoSet's JSON"),
        (lambda f: written(f / "a.json", '{"data": {"rows": []}}'), "unknown format: found a table with 'data'"),
        (lambda f: written(f / "a.json", '{"data":\n {"intrasentence": [{'), r"a\.json:2: not JSON \(the file ends in"),
        (lambda f: written(f / "a.json", '{"data":\n oops}'), r"a\.json:2: not JSON \(Expecting value"),
        (lambda f: stereoset(f, []), "is empty; expected StereoSet's JSON"),
        (lambda f: stereoset(f, [cluster(*CLUSTERS[0]), 3]), "cluster 2: expected a table .*; found 3"),
        (lambda f: stereoset(f, [cluster(*CLUSTERS[0][:4])]), "cluster 1: no sentence is labelled 'unrelated'"),
        (lambda f: stereoset(f, [cluster(*CLUSTERS[0], labels=("stereotype",) * 3)]), "two sentences are labelled"),
        (
            lambda f: stereoset(f, [cluster(*CLUSTERS[0], labels=("pro", "anti", "x"))]),
            "gold_label 'pro' of sentence 1",
        ),
        (lambda f: stereoset(f, [{"target": "x", "bias_type": "y"}]), "cluster 1: `sentences` should hold .*nothing"),
        (lambda f: stereoset(f, [cluster("", *CLUSTERS[0][1:])]), "cluster 1: target is nothing"),
        (
            lambda f: stereoset(f, following=[following(None, *CLUSTERS[0])]),
            "intersentence cluster 1: context is nothing; expected a text",
        ),
        (
            lambda f: written(f / "a.json", '{"data": {"intersentence": {}}}'),
            "unknown format: found a table with 'data'",
        ),
        (lambda f: written(f / "a.csv", "prompt,answer\nx,y\n"), r"a\.csv:2: unknown format: found 'prompt', 'answer'"),
        (lambda f: written(f / "a.csv", CROWS), "is empty"),
        (
            lambda f: written(f / "a.csv", CROWS + "0,a,,stereo,age\n"),
            r"a\.csv:2: sent_less is nothing; expected a text",
        ),
        (lambda f: written(f / "a.csv", CROWS + "0,a,b,pro,age\n"), r"a\.csv:2: stereo_antistereo is 'pro'"),
        (lambda f: written(f / "a.csv", CROWS + "0,a,b\n"), r"a\.csv:2: found 3 fields, expected 5"),
        (lambda f: str(f / "none.json"), "no file"),
    ],
)
def test_bad_data_say_what_was_found_and_expected(make: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    source = make(tmp_path)
    with pytest.raises(ValidationError, match=message):
        StereotypeProbe.Config.model_validate({"data": {"source": source}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "Speak."}, "have prompts already"),
        ({"tests": ["intersentence"]}, "are not StereoSet's"),
        ({"data": {"source": "x.txt", "split": "a/b"}, "items": 0}, "greater than 0"),
        ({"data": {"source": "a/b/c.txt"}}, "neither a file that ends in .json, .jsonl"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StereotypeProbe.Config.model_validate(settings)


def test_a_bias_type_that_no_item_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no item has bias type 'gendre'; did you mean 'gender'"):
        StereotypeProbe.Config.model_validate({"data": {"source": stereoset(tmp_path)}, "bias_types": ["gendre"]})


def test_a_test_that_the_data_do_not_hold_is_named(tmp_path: Path) -> None:
    data = {"source": stereoset(tmp_path)}
    with pytest.raises(ValidationError, match="no item belongs to the test 'intersentence'; found intrasentence"):
        StereotypeProbe.Config.model_validate({"data": data, "tests": ["intersentence"]})
    crows = {"source": written(tmp_path / "a.csv", CROWS + "0,a,b,stereo,age\n")}
    with pytest.raises(ValidationError, match="found neither of StereoSet's tests"):
        StereotypeProbe.Config.model_validate({"data": crows, "tests": ["intrasentence"]})


def test_rows_of_the_hub_say_by_their_context_which_test_they_are_of(tmp_path: Path) -> None:
    after = following("The owl came.", *CLUSTERS[2])
    rows = [{**cluster(*CLUSTERS[0]), "context": "The nurse was BLANK."}, after]
    path = written(tmp_path / "both.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    expected = read_items(StereotypeSource(source=stereoset(tmp_path, rows[:1], [after])))
    assert read_items(StereotypeSource(source=path)) == expected
    assert [item.context for item in expected] == [None, "The owl came."]


def test_the_hubs_tables_and_numbers_are_the_same_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clusters: list[dict[str, Any]] = [
        {"target": t, "bias_type": k, "sentences": {"sentence": list(said), "gold_label": [1, 0, 2], "id": [1, 2, 3]}}
        for t, k, *said in CLUSTERS
    ]
    pair: dict[str, Any] = {"sent_more": "a", "sent_less": "b", "stereo_antistereo": 1, "bias_type": 2}
    monkeypatch.setattr(sources, "_commit", lambda *_: "c" * 40)
    for found, expected in ((clusters, read_items(StereotypeSource(source=stereoset(tmp_path)))), ([pair], None)):
        rows = [Record(f"hub, row {n}", columns) for n, columns in enumerate(found, start=1)]
        monkeypatch.setattr(sources, "_hub", lambda _, rows=rows: iter(rows))
        items = read_items(StereotypeSource(source=f"owner/{len(found)}"))
        assert items == expected if expected else items[0][1:] == ("gender", None, "a", "b", None, "antistereo", None)
    monkeypatch.setattr(sources, "_hub", lambda _: iter([Record("hub, row 1", {"text": "x"})]))
    with pytest.raises(DataError, match=r'hub, row 1: unknown format: found .text.; .* subset = "intrasentence"'):
        read_items(StereotypeSource(source="owner/other"))


def test_a_copy_of_stereoset_from_the_hub_is_read_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    labels = datasets.ClassLabel(names=["anti-stereotype", "stereotype", "unrelated", "related"])
    sentences = {"sentence": datasets.Value("string"), "id": datasets.Value("string"), "gold_label": labels}
    text = {name: datasets.Value("string") for name in ("id", "target", "bias_type", "context")}
    features = datasets.Features({**text, "sentences": datasets.Sequence(sentences)})
    contexts = {"intrasentence": "The BLANK one.", "intersentence": "The owl came."}
    for test, before in contexts.items():
        rows = [
            {
                **dict.fromkeys(text, "x"),
                "target": term,
                "bias_type": kind,
                "context": before,
                "sentences": {"sentence": said, "id": ["a", "b", "c"], "gold_label": [1, 0, 2]},
            }
            for term, kind, *said in CLUSTERS
        ]
        path = tmp_path / "stereoset" / test / "validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        datasets.Dataset.from_list(rows, features=features).to_parquet(path)
    listed = "".join(
        f"- config_name: {test}\n  data_files:\n  - split: validation\n    path: {test}/validation-*\n"
        for test in contexts
    )
    (tmp_path / "stereoset" / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")
    after = [following("The owl came.", *each) for each in CLUSTERS]
    expected = read_items(StereotypeSource(source=stereoset(tmp_path, following=after)))
    data = {"source": str(tmp_path / "stereoset"), "split": "validation"}
    found = [
        read_items(StereotypeSource.model_validate({**data, "subset": test}))
        for test in ("intrasentence", "intersentence")
    ]
    assert [item for items in found for item in items] == expected
    with pytest.raises(ValidationError, match=r"Please pick one .*\['intrasentence', 'intersentence'\]"):
        StereotypeProbe.Config.model_validate({"data": data})


def test_data_count_by_their_content(tmp_path: Path) -> None:
    chosen = Use("probe").choose({"plugin": "stereotype", "data": {"source": stereoset(tmp_path)}})
    before = chosen.key()
    stereoset(tmp_path, [cluster(*CLUSTERS[0])])
    assert before != chosen.key()
