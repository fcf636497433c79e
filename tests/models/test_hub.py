"""The hub plugin on local folders and on the local cache of the hub; never over the network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from subl.artifacts import ModelRef
from subl.errors import MissingExtraError, ModelError
from subl.models import hub_files
from subl.models.hub import Hub
from subl.models.settings import LoraSettings, TrainSettings
from tests import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ref = tiny.tiny_model(tmp_path_factory.mktemp("models"))
    assert ref.path is not None
    return ref.path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub_files.commit.cache_clear()
    return tmp_path / "hub"


def hub(**config: Any) -> Hub:
    return Hub(Hub.Config(**config))


def load(model: Hub, ref: ModelRef) -> Any:
    return model.load(ref, device="cpu", dtype="float32")


def cached(cache: Path, name: str, source: Path, *, commit: str = COMMIT, branch: str = "main") -> None:
    """Lay a folder into the hub's local cache as a download would."""
    root = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, root / "snapshots" / commit, dirs_exist_ok=True)
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / branch).write_text(commit)


def test_a_folder_loads_frozen_in_evaluation_mode(folder: Path, tmp_path: Path) -> None:
    model = hub(id=str(folder))
    lm = load(model, model.prepare(tiny.context(tmp_path)))
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert lm.device.type == "cpu"
    assert lm.model.dtype == torch.float32
    assert lm.tokenizer.pad_token is not None


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen2", "gpt2"])
def test_other_architectures_load_too(folder: Path, tmp_path: Path, architecture: str) -> None:
    import transformers as tf

    sizes = {"vocab_size": 420, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = tf.AutoConfig.for_model(
        architecture,
        **(sizes | heads if architecture != "gpt2" else {"vocab_size": 420, "n_embd": 32, "n_layer": 1, "n_head": 2}),
    )
    path = tmp_path / "model"
    tf.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    for file in folder.glob("*token*"):
        shutil.copy(file, path)
    model = hub(id=str(path))
    lm = load(model, model.prepare(tiny.context(tmp_path)))
    assert lm.model.config.model_type == architecture
    assert lm.chat.prompt("hi", system=None)


def test_identity_follows_content_not_place_or_time(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    first = hub(id=str(folder)).prepare(tiny.context(tmp_path))
    second = hub(id=str(moved)).prepare(tiny.context(tmp_path))
    assert first.identity == second.identity
    (moved / "README.md").write_text("notes")
    os.utime(moved / "config.json", (1, 1))
    assert hub(id=str(moved)).identity() == hub(id=str(folder)).identity()
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert hub(id=str(moved)).identity() != hub(id=str(folder)).identity()


def test_settings_that_change_answers_change_the_identity(folder: Path, tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path)
    plain = hub(id=str(folder)).prepare(ctx).identity
    assert hub(id=str(folder), dtype="bfloat16").prepare(ctx).identity != plain
    assert hub(id=str(folder), attn_implementation="eager").prepare(ctx).identity != plain


def test_hashing_reads_a_file_again_only_when_it_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    path = tmp_path / "model"
    shutil.copytree(folder, path)
    before = hub_files.content_hash(path)
    read: list[str] = []
    digest = hashlib.file_digest

    def noting(stream: Any, algorithm: str) -> Any:
        read.append(Path(stream.name).name)
        return digest(stream, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", noting)
    assert hub_files.content_hash(path) == before
    assert read == []
    (path / "config.json").write_text("{}")
    assert hub_files.content_hash(path) != before
    assert read == ["config.json"]


def test_a_cache_that_cannot_be_written_or_read_does_not_matter(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hub_files.content_hash(folder)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert hub_files.content_hash(folder) == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "subl" / "file_hashes.json").write_text("[torn")
    assert hub_files.content_hash(folder) == before


def test_a_hub_name_resolves_to_the_commit_in_the_cache(folder: Path, cache: Path, tmp_path: Path) -> None:
    cached(cache, "someone/tiny", folder)
    model = hub(id="someone/tiny")
    assert model.identity()["weights"] == {"id": "someone/tiny", "commit": COMMIT}
    ref = model.prepare(tiny.context(tmp_path))
    assert (ref.revision, ref.path) == (COMMIT, None)
    assert load(model, ref).chat.prompt("hi", system=None)
    assert hub(id="someone/tiny", revision=COMMIT).identity() == model.identity()


def test_a_branch_that_moved_is_another_model(folder: Path, cache: Path) -> None:
    cached(cache, "someone/tiny", folder)
    before = hub(id="someone/tiny").identity()
    cached(cache, "someone/tiny", folder, commit=COMMIT[::-1])
    assert hub(id="someone/tiny").identity() == before, "within a process the plan stays true"
    hub_files.commit.cache_clear()
    assert hub(id="someone/tiny").identity() != before


def test_adapters_are_applied_in_order(folder: Path, tmp_path: Path) -> None:
    from subl.models.training import train

    base = hub(id=str(folder))
    ctx = tiny.context(tmp_path)
    ref = base.prepare(ctx)
    lm = ctx.load(ref, fresh=True)
    examples = lm.chat.examples([("hi", "1, 2")] * 4, system=None)
    settings = TrainSettings(updates=2, batch_size=2, learning_rate=1e-2)
    adapter = train(lm, examples, settings, ctx, lora=LoraSettings(rank=2), name="x").folder
    once, twice = (hub(id=str(folder), adapters=(str(adapter),) * n) for n in (1, 2))
    one, two = load(once, once.prepare(ctx)), load(twice, twice.prepare(ctx))
    name = "model.layers.0.mlp.up_proj.weight"
    weights = [model.state_dict()[name] for model in (ctx.load(ref).model, one.model, two.model)]
    assert not torch.equal(weights[0], weights[1])
    assert torch.allclose(weights[2] - weights[1], weights[1] - weights[0], atol=1e-6)
    assert once.prepare(ctx).identity not in (ref.identity, twice.prepare(ctx).identity)
    assert once.identity()["adapters"][0].keys() == {"content"}


def test_an_adapter_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    other = GPT2LMHeadModel(GPT2Config(vocab_size=420, n_embd=32, n_layer=1, n_head=2))
    get_peft_model(
        other, LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    ).save_pretrained(tmp_path / "a")
    model = hub(id=str(folder), adapters=(str(tmp_path / "a"),))
    with pytest.raises(ModelError, match="adapter does not fit MistralForCausalLM"):
        load(model, model.prepare(tiny.context(tmp_path)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"id": "./nowhere"}, "no folder ./nowhere"),
        ({"id": "~/nowhere"}, "no folder ~/nowhere"),
        ({"id": "a/b/c"}, "no folder a/b/c"),
        ({"id": "someone/unknown"}, "not in the local cache.*HF_HUB_OFFLINE is set; connect once"),
        ({"id": "someone/unknown", "revision": "v2"}, "at revision 'v2' is not in the local cache"),
        ({"id": "two words"}, "neither a folder nor a name on the hub"),
        ({"id": "{folder}", "revision": "main"}, "is a folder and has no revisions"),
        ({"id": "{folder}/.."}, "config.json is missing; did you mean .*mistral"),
        ({"id": "{empty}"}, "config.json is missing; give the folder that save_pretrained wrote"),
        ({"id": "{folder}", "adapters": ["{empty}"]}, "not a LoRA adapter folder, adapter_config.json is missing"),
        ({"id": "{folder}", "adapters": ["someone/unknown"]}, "someone/unknown is not in the local cache"),
    ],
)
def test_models_that_are_not_there_are_explained_while_planning(
    folder: Path, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    text = json.dumps(config).replace("{folder}", str(folder)).replace("{empty}", str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=words):
        hub(**json.loads(text)).identity()


def answer(status: int, code: str) -> Any:
    """Return a response of the hub with this status and error code."""
    errors: Any = import_module("huggingface_hub.errors")
    http: Any = import_module(errors.Response.__module__.partition(".")[0])  # httpx or its successor
    request = http.Request("HEAD", "https://huggingface.co/someone/tiny/resolve/v2/config.json")
    return http.Response(status, headers={"X-Error-Code": code}, request=request)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "is gated: ask for access at https://huggingface.co/someone/tiny"),
        (401, "RepoNotFound", "has no model someone/tiny, or it is private"),
        (404, "RevisionNotFound", "has no revision 'v2'"),
        (404, "EntryNotFound", "has no file config.json"),
    ],
)
def test_what_the_hub_answers_is_explained(monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str) -> None:
    import huggingface_hub

    check: Any = import_module("huggingface_hub.utils")
    refuse = lambda *_, **__: check.hf_raise_for_status(answer(status, code))  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ModelError, match=words):
        hub(id="someone/tiny", revision="v2").identity()


def test_a_hub_that_cannot_be_reached_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: Any, **__: Any) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_files, "_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(ModelError, match="the hub cannot be reached; connect once, or give the path of a folder"):
        hub(id="someone/tiny").identity()


def test_a_plan_waits_for_one_short_attempt_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    asked: list[float] = []

    class Nowhere:
        def head(self, _url: str, *, timeout: float) -> None:
            asked.append(timeout)
            raise ConnectionError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Nowhere)
    hub_files._reachable.cache_clear()
    try:
        for name in ("someone/absent", "someone/gone"):
            with pytest.raises(ModelError, match=r"is not in the local cache .* the hub cannot be reached"):
                hub(id=name).identity()
    finally:
        hub_files._reachable.cache_clear()
    assert asked == [hub_files.PATIENCE]


def edited(folder: Path, to: Path, **config: Any) -> Path:
    shutil.copytree(folder, to)
    text = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(text | config))
    return to


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            r"not a causal language model \(BertForMaskedLM\)",
        ),
        ({"model_type": "t5", "architectures": ["T5Model"]}, "not a causal language model"),
        ({"model_type": "of_the_future", "architectures": ["Future"]}, "config.json cannot be used.*trust_remote_code"),
    ],
)
def test_models_that_do_not_write_text_are_refused_before_loading(
    folder: Path, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    path = edited(folder, tmp_path / "model", **config)
    with pytest.raises(ModelError, match=words):
        hub(id=str(path)).prepare(tiny.context(tmp_path))


def test_weights_that_are_missing_are_never_random(folder: Path, tmp_path: Path) -> None:
    path = edited(folder, tmp_path / "model", num_hidden_layers=3)
    model = hub(id=str(path))
    with pytest.raises(ModelError, match=r"9 weights are missing .*would be random"):
        load(model, model.prepare(tiny.context(tmp_path)))


@pytest.mark.parametrize(("broken", "words"), [("model.safetensors", "cannot be loaded"), ("tokenizer.json", "cannot")])
def test_broken_files_are_a_clear_error(folder: Path, tmp_path: Path, broken: str, words: str) -> None:
    path = edited(folder, tmp_path / "model")
    (path / broken).write_bytes((path / broken).read_bytes()[:50])
    model = hub(id=str(path))
    with pytest.raises(ModelError, match=words):
        load(model, model.prepare(tiny.context(tmp_path)))


def test_quantization_without_bitsandbytes_names_the_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    model = hub(id=str(folder), quantization="4bit")
    with pytest.raises(MissingExtraError, match=r"subl\[quant\]"):
        load(model, model.prepare(tiny.context(tmp_path)))


def test_missing_residual_vectors_are_an_error(folder: Path, tmp_path: Path) -> None:
    model = hub(id=str(folder))
    ref = model.prepare(tiny.context(tmp_path)).derive("other", vectors=tmp_path / "vectors.safetensors")
    with pytest.raises(ModelError, match=r"vectors\.safetensors: no steering vectors can be read"):
        load(model, ref)


def test_the_plugin_and_the_settings_are_light() -> None:
    code = (
        "import sys, subl.models.hub, subl.models.settings; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
