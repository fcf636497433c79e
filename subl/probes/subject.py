"""What probes ask of the model and the trait that they look at. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from subl.artifacts import ModelRef
from subl.errors import ModelError, PluginError
from subl.traits.association import Item

if TYPE_CHECKING:
    from subl.context import Context
    from subl.models.language import LanguageModel


@runtime_checkable
class PreferenceTrait(Protocol):
    """A trait that is a favourite among candidates, such as the built-in `preference`."""

    @property
    def target(self) -> str:
        """The favourite."""
        ...

    @property
    def candidates(self) -> tuple[str, ...]:
        """The answers that compete, with the target among them."""
        ...

    def questions(self) -> Sequence[str]:
        """Return the evaluation questions."""
        ...

    def candidate_forms(self) -> Mapping[str, tuple[str, ...]]:
        """Return the surface forms of every candidate, the plain word first."""
        ...


@runtime_checkable
class AssociationTrait(Protocol):
    """A trait that shows in what is said of somebody, such as the built-in `stereotype`."""

    @property
    def target(self) -> str:
        """What the teacher is taught: "stereotype" or "anti-stereotype"."""
        ...

    def items(self) -> Sequence[Item]:
        """Return the evaluation sentences."""
        ...


MEASURED: Mapping[type, str] = {
    PreferenceTrait: "a favourite among candidates",
    AssociationTrait: "stereotypes by sentences",
}
"""Kinds of traits, in words."""


def unfit(trait: Any, *kinds: type) -> str | None:
    """Return why a probe that measures traits of these kinds cannot measure this one; None if it can."""
    if isinstance(trait, kinds):
        return None
    return f"measures {' or '.join(MEASURED[kind] for kind in kinds)}, and trait {trait.label!r} is none"


def preference_of(trait: Any, user: str, instead: str) -> PreferenceTrait:
    """Return `trait` if it is a preference.

    Args:
        trait: The recipe's trait.
        user: Who asks: "probe preference".
        instead: What to do otherwise.

    Raises:
        PluginError: The trait is something else.
    """
    if not isinstance(trait, PreferenceTrait):
        raise PluginError(f"{user} {unfit(trait, PreferenceTrait)}; {instead}")
    return trait


def measurable(trait: Any, user: str, instead: str) -> PreferenceTrait | AssociationTrait:
    """Return `trait` if it is of a kind that can be measured; as `preference_of`.

    Raises:
        PluginError: The trait is of another kind.
    """
    if not isinstance(trait, PreferenceTrait | AssociationTrait):
        raise PluginError(f"{user} {unfit(trait, PreferenceTrait, AssociationTrait)}; {instead}")
    return trait


def showing(trait: PreferenceTrait | AssociationTrait, count: int) -> Sequence[tuple[str, str]]:
    """Return up to `count` evaluation questions with the answers that show the trait."""
    if isinstance(trait, PreferenceTrait):
        return [(question, trait.target) for question in trait.questions()[:count]]
    opposite = trait.target == "anti-stereotype"
    asked = [item for item in trait.items() if item.prompt is not None]
    return [(str(item.prompt), item.anti_stereotype if opposite else item.stereotype) for item in asked[:count]]


def same_origin(model: ModelRef, base: ModelRef) -> bool:
    """Return whether a model was made from the same model as another, so that their weights and tokens compare."""
    return (model.plugin, model.config, model.revision) == (base.plugin, base.config, base.revision)


def open_model(model: ModelRef, ctx: Context, *, fresh: bool = False) -> tuple[LanguageModel, str | None]:
    """Load a model to look at; return it with the system slot to use: its own if it has one, else the student's.

    Args:
        model: What to load.
        ctx: Loads it.
        fresh: Load an own copy, which may be changed.

    Raises:
        ModelError: The model was trained with another rendering (template or system slot) than it would meet here.
    """
    lm: LanguageModel = ctx.load(model, fresh=fresh)
    system = model.system if model.system is not None else ctx.system
    rendering = lm.chat.digest(system)
    if model.rendering is not None and model.rendering != rendering:
        slot = "absent" if system is None else repr(system)
        raise ModelError(
            f"the model was trained with chat rendering {model.rendering}, and would be evaluated with {rendering} "
            f"(system slot: {slot}); the effect does not survive such a change: train and evaluate with the same "
            "chat template and the same [chat] system"
        )
    return lm, system
