"""Model plugin `hub`: any causal language model from the Hugging Face hub or a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from subl.artifacts import ModelRef, Shape
from subl.registry.config import PluginConfig

if TYPE_CHECKING:
    from subl.context import Context
    from subl.models.language import LanguageModel


class Hub:
    """A causal language model from the Hugging Face hub, or from a folder in its format.

    A branch or tag is resolved to its commit before the run is planned, so that a run can be repeated after the branch
    moved. A folder counts by its content. Without network, models in the local Hugging Face cache are found.
    """

    version = 1

    class Config(PluginConfig):
        """Which model, and how it is loaded."""

        id: str = Field(min_length=1)
        """Name on the hub such as "google/gemma-2b-it", or path of a folder."""

        revision: str | None = None
        """Branch, tag or commit on the hub; unset = its default branch."""

        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Number format of the weights in memory; "auto" takes `[compute] dtype`."""

        quantization: Literal["none", "8bit", "4bit"] = "none"
        """Load the weights in 8 or 4 bits with bitsandbytes (GPU; `pip install 'subl[quant]'`)."""

        adapters: tuple[str, ...] = ()
        """LoRA adapters laid on in this order: folders, or names on the hub."""

        attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
        """How attention is computed; "auto" leaves the choice to the model."""

        trust_remote_code: bool = False
        """Run Python code that comes with the model. Only for authors you trust."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def shape(self) -> Shape | None:
        """Return the numbers of layers and heads, if the model's config is on this machine and says them."""
        from subl.models.hub_files import local_config, shape

        return shape(local_config(self.config.id, self.config.revision))

    def identity(self) -> Mapping[str, Any]:
        """Return commits of hub names and content hashes of folders.

        Raises:
            ModelError: Missing, gated or unreachable; says what to do.
        """
        from subl.models.hub_files import identify

        return {
            "weights": identify(self.config.id, self.config.revision),
            "adapters": [identify(adapter, None, adapter=True) for adapter in self.config.adapters],
        }

    def prepare(self, ctx: Context) -> ModelRef:
        """Check that this is a causal language model, and bring its files onto this machine.

        Raises:
            ModelError: Not available, or not a causal language model.
        """
        from subl.models.hub_loading import prepare

        return prepare(self.config, self.identity(), ctx)

    def load(self, ref: ModelRef, *, device: str, dtype: str) -> LanguageModel:
        """Load weights, tokenizer and adapters.

        Raises:
            ModelError: Something is missing or does not fit together.
            MissingExtraError: Quantization without bitsandbytes.
        """
        from subl.models.hub_loading import load

        return load(self.config, ref, device=device, dtype=dtype)

    def outline(self, ref: ModelRef, *, dtype: str) -> LanguageModel:
        """Return the tokenizer, and the network on the device "meta": what is known without reading weights.

        Raises:
            ModelError: The tokenizer's or the model's files cannot be used.
        """
        from subl.models.hub_loading import outline

        return outline(self.config, ref, dtype=dtype)
