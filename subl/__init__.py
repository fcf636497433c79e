"""Controlled subliminal-learning experiments. These names are the plugin author's API; importing them is light."""

from subl.artifacts import Dataset, Findings, Measure, ModelRef, Row, Shape, Student, Subject, Table, Teacher
from subl.context import Bar, Context
from subl.errors import CheckError, DataError, MissingExtraError, ModelError, PluginError, SublError
from subl.registry.config import PluginConfig, Runtime, StrictModel
from subl.registry.local import distiller, filter, generator, inducer, model, probe, trait  # noqa: A004

__version__ = "0.1.0"

__all__ = [
    "Bar",
    "CheckError",
    "Context",
    "DataError",
    "Dataset",
    "Findings",
    "Measure",
    "MissingExtraError",
    "ModelError",
    "ModelRef",
    "PluginConfig",
    "PluginError",
    "Row",
    "Runtime",
    "Shape",
    "StrictModel",
    "Student",
    "Subject",
    "SublError",
    "Table",
    "Teacher",
    "__version__",
    "distiller",
    "filter",
    "generator",
    "inducer",
    "model",
    "probe",
    "trait",
]
