"""Controlled subliminal-learning experiments. These names are the plugin author's API; importing them is light."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = ("subl.artifacts", "subl.context", "subl.errors", "subl.registry.config", "subl.registry.local")


def __getattr__(name: str) -> Any:
    """Import a name of the API on first use (PEP 562): `subl --help` needs none, and pydantic alone costs 0.1 s."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(home)
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
