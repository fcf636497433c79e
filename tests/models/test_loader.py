"""Stages share loaded models, unless they want a copy of their own."""

from __future__ import annotations

import pytest
import torch

from subl.artifacts import ModelRef
from subl.errors import ModelError
from subl.models.hub import Hub
from subl.models.loader import ModelLoader, resolve_device, resolve_dtype
from tests import tiny


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> list[ModelRef]:
    folder = tmp_path_factory.mktemp("models")
    return [tiny.tiny_model(folder, seed=seed, layers=1) for seed in range(3)]


def test_a_model_is_loaded_once(refs: list[ModelRef]) -> None:
    loader = ModelLoader(device="cpu")
    assert loader(refs[0]) is loader(refs[0])
    assert loader(refs[1]) is not loader(refs[0])


def test_a_system_slot_shares_the_weights_but_keeps_its_reference(refs: list[ModelRef]) -> None:
    loader = ModelLoader(device="cpu")
    prompted = refs[0].derive("prompted", system="You love owls.")
    assert loader(prompted).model is loader(refs[0]).model
    assert loader(prompted).ref.system == "You love owls."
    assert loader(refs[0]).ref.system is None


def test_a_fresh_copy_is_not_shared_and_not_kept(refs: list[ModelRef]) -> None:
    loader = ModelLoader(device="cpu")
    own = loader(refs[0], fresh=True)
    with torch.no_grad():
        next(own.model.parameters()).fill_(7.0)
    shared = loader(refs[0])
    assert shared.model is not own.model
    assert not (next(shared.model.parameters()) == 7.0).any()
    assert loader(refs[0], fresh=True).model is not shared.model


def test_the_model_used_longest_ago_is_forgotten(refs: list[ModelRef]) -> None:
    loader = ModelLoader(device="cpu", keep=2)
    first, _ = loader(refs[0]), loader(refs[1])
    assert loader(refs[0]) is first
    loader(refs[2])
    assert loader(refs[0]) is first
    second = loader(refs[1])
    assert loader(refs[1]) is second
    loader.clear()
    assert loader(refs[1]) is not second


def test_an_outline_has_everything_but_the_weights(refs: list[ModelRef]) -> None:
    loader = ModelLoader(device="cpu", dtype="bfloat16")
    outline, whole = loader(refs[0], weights=False), loader(refs[0])
    assert {tensor.device.type for tensor in outline.model.parameters()} == {"meta"}
    shapes, expected = ({k: v.shape for k, v in one.model.named_parameters()} for one in (outline, whole))
    assert shapes == expected
    assert outline.model.dtype == whole.model.dtype == torch.bfloat16
    assert outline.tokenizer.pad_token_id == whole.tokenizer.pad_token_id
    assert outline.chat.digest(None) == whole.chat.digest(None)
    assert outline.ref == refs[0]
    # It is not what a stage gets that asks for the weights afterwards.
    assert loader(refs[0]) is whole


def test_a_model_whose_plugin_has_no_outline_is_loaded(refs: list[ModelRef], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Hub, "outline")
    loader = ModelLoader(device="cpu")
    assert loader(refs[0], weights=False) is loader(refs[0])


def test_dtypes_are_loaded_apart(refs: list[ModelRef]) -> None:
    assert ModelLoader(device="cpu", dtype="bfloat16")(refs[0]).model.dtype == torch.bfloat16
    assert ModelLoader(device="cpu", dtype="auto")(refs[0]).model.dtype == torch.float32


def test_memory_that_runs_out_frees_the_kept_models_and_then_explains(
    refs: list[ModelRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    from subl.models.hub import Hub

    loader = ModelLoader(device="cpu")
    loader(refs[0])
    load, failures = Hub.load, [1]

    def short_of_memory(self: Hub, ref: ModelRef, *, device: str, dtype: str) -> object:
        if failures:
            failures.pop()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return load(self, ref, device=device, dtype=dtype)

    monkeypatch.setattr(Hub, "load", short_of_memory)
    assert loader(refs[1]).ref == refs[1]
    failures.extend([1, 1])
    with pytest.raises(ModelError, match=r"does not fit into the memory of cpu.*quantization"):
        loader(refs[2])


def test_devices_are_checked() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    for device, words in (
        ("gpu", "unknown device 'gpu'"),
        ("cuda:99", "no device 'cuda:99' here"),
        ("cuda:x", "no device"),
    ):
        with pytest.raises(ModelError, match=words):
            resolve_device(device)
    assert resolve_dtype("auto", "cpu") == "float32"
    assert resolve_dtype("float16", "cpu") == "float16"
