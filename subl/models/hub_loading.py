"""The work behind the `hub` plugin: checking, fetching and loading."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from subl.artifacts import ModelRef
from subl.errors import MissingExtraError, ModelError
from subl.models.hub_files import fetch_adapter, fetch_weights, local_folder
from subl.models.language import LanguageModel, assemble, outlined, quiet
from subl.registry.config import semantic

if TYPE_CHECKING:
    from subl.context import Context
    from subl.models.hub import Hub

HEADS = ("CausalLM", "LMHeadModel", "ConditionalGeneration")
"""How the classes of models that write text end."""


def prepare(config: Hub.Config, identity: Mapping[str, Any], ctx: Context) -> ModelRef:
    """Check that the model writes text, fetch its files, and return where it is."""
    revision = identity["weights"].get("commit")
    folder = local_folder(config.id)
    _check_causal(config, str(folder or config.id), revision)
    if folder is None:
        fetch_weights(config.id, revision, ctx)
    where = ("id", "revision", "adapters")
    parts = {"how": {k: v for k, v in semantic(config).items() if k not in where}, "files": identity}
    return ModelRef(
        plugin="hub",
        config=config.model_dump(mode="json"),
        identity=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
        path=folder,
        revision=revision,
        adapters=tuple(fetch_adapter(adapter) for adapter in config.adapters),
    )


def load(config: Hub.Config, ref: ModelRef, *, device: str, dtype: str) -> LanguageModel:
    """Load what a ref of this plugin stands for."""
    source, options = _source(config, ref)
    number = getattr(torch, config.dtype if config.dtype != "auto" else dtype)
    weights: dict[str, Any] = {"dtype": number, **_quantization(config, number, device)}
    if config.attn_implementation != "auto":
        weights["attn_implementation"] = config.attn_implementation
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model, report = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **options, **weights)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # torn files and odd configurations surface as anything
            raise ModelError(f"{source} cannot be loaded: {_first_line(error)}") from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(
            f"{source}: {len(report['missing_keys'])} weights are missing ({some}, …) and would be random; "
            "the files are incomplete, or belong to another architecture than config.json says"
        )
    return assemble(ref, model, tokenizer, device=device)


def outline(config: Hub.Config, ref: ModelRef, *, dtype: str) -> LanguageModel:
    """Return what a ref of this plugin stands for, without its weights, adapters and vectors."""
    source, options = _source(config, ref)
    number = getattr(torch, config.dtype if config.dtype != "auto" else dtype)
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            found = AutoConfig.from_pretrained(source, **options)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(
                    found, dtype=number, trust_remote_code=config.trust_remote_code
                )
        except Exception as error:  # torn files and odd configurations surface as anything
            raise ModelError(f"{source} cannot be loaded: {_first_line(error)}") from error
    return outlined(ref, model, tokenizer)


def _source(config: Hub.Config, ref: ModelRef) -> tuple[str, dict[str, Any]]:
    """Return where the files are, and how they are asked for."""
    return str(ref.path or config.id), {
        "revision": None if ref.path else ref.revision,
        "trust_remote_code": config.trust_remote_code,
    }


def _check_causal(config: Hub.Config, source: str, revision: str | None) -> None:
    try:
        with quiet():
            found = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        hint = "" if config.trust_remote_code else "; if it brings its own code, see `trust_remote_code`"
        raise ModelError(f"{source}: its config.json cannot be used: {_first_line(error)}{hint}") from error
    if "AutoModelForCausalLM" in (getattr(found, "auto_map", None) or {}):
        return
    mapped = AutoModelForCausalLM._model_mapping.get(type(found), None)  # noqa: SLF001 (the one list of such models)
    named = getattr(found, "architectures", None) or []
    if mapped is None or (named and not any(name.endswith(HEADS) for name in named)):
        raise ModelError(
            f"{source} is not a causal language model ({', '.join(named) or found.model_type}); "
            "choose one that writes text, such as Llama, Mistral, Gemma or Qwen"
        )


def _quantization(config: Hub.Config, dtype: torch.dtype, device: str) -> dict[str, Any]:
    if config.quantization == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError(f"quantization = {config.quantization!r}", "bitsandbytes", "quant")
    if config.quantization == "8bit":
        bits = BitsAndBytesConfig(load_in_8bit=True)
    else:
        # QLoRA's settings (Dettmers et al. 2023, section 3).
        bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": bits, "device_map": {"": device}}


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
