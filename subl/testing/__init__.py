"""For plugin authors: contract checks, fakes, tiny models, and a run that needs no framework. Light to import."""

from subl.testing.checking import check, faults
from subl.testing.fakes import (
    FakeTrait,
    RecordingSink,
    context,
    dataset,
    fake_model,
    fake_student,
    fake_teacher,
    rows,
    sink,
)
from subl.testing.micro import MicroRun, micro_run
from subl.testing.tiny import tiny_model, tiny_tokenizer

__all__ = [
    "FakeTrait",
    "MicroRun",
    "RecordingSink",
    "check",
    "context",
    "dataset",
    "fake_model",
    "fake_student",
    "fake_teacher",
    "faults",
    "micro_run",
    "rows",
    "sink",
    "tiny_model",
    "tiny_tokenizer",
]
