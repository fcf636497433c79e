"""The public fakes and tiny models, under the short name that these tests use."""

from subl.testing.fakes import RecordingSink, context, sink
from subl.testing.tiny import GEMMA_TEMPLATE, MISTRAL_TEMPLATE, reference, tiny_model, tiny_tokenizer

__all__ = [
    "GEMMA_TEMPLATE",
    "MISTRAL_TEMPLATE",
    "RecordingSink",
    "context",
    "reference",
    "sink",
    "tiny_model",
    "tiny_tokenizer",
]
