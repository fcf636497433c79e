"""Computing one stage into its store entry, with whatever goes wrong on the way named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from subl.context import Loader
from subl.errors import CheckError, StageError
from subl.recipe.model import Recipe
from subl.run.estimates import facts
from subl.run.plan import Stage
from subl.run.sink import Display, StageSink
from subl.run.stages import Work, run_stage
from subl.run.store import Entry, Metric, Store


@dataclass(frozen=True, slots=True)
class Bench:
    """What computing a stage takes, whoever asks for it.

    Args:
        recipe: The recipe that the stage belongs to.
        label: What it is called in messages: "main · seed=0".
        store: Where results are.
        display: What the user sees.
        loader: Gives the model loader and the device; called when needed, because it imports torch.
        event: Records an event by its name and facts.
        forward: Takes every metric.
        keep_going: Whether failed checks only warn.
    """

    recipe: Recipe
    label: str
    store: Store
    display: Display
    loader: Callable[[], tuple[Loader, str]]
    event: Callable[..., None]
    forward: Callable[[Metric], None]
    keep_going: bool = False

    def compute(self, stage: Stage, entry: Entry, filtering: Stage | None = None) -> None:
        """Compute a stage and publish its result.

        Args:
            stage: The stage.
            entry: Its store entry, locked.
            filtering: The filter stage that follows a generate stage, for the yield forecast.

        Raises:
            StageError: It failed; names the stage, the plugin and the cause.
            CheckError: A check stopped it.
        """
        entry.begin()
        started = time.monotonic()
        sink = StageSink(
            stage=stage.name,
            work=entry.work,
            display=self.display,
            record=lambda message: self.event("log", stage=stage.name, message=message),
            forward=self.forward,
        )
        try:
            loader, device = self.loader()
            work = Work(
                stage=stage,
                entry=entry,
                store=self.store,
                sink=sink,
                loader=loader,
                device=device,
                filtering=filtering,
                keep_going=self.keep_going,
                warn=self.display.warn,
            )
            artifact: Any = run_stage(work)
            sink.close()
            entry.publish(artifact, facts(stage, self.recipe, time.monotonic() - started))
        except KeyboardInterrupt:
            # Whoever waits for a plugin that never ends learns which one it was.
            self.display.warn(f"interrupted in stage {stage.name} of {self.label} ({_origin(stage)})")
            raise
        except CheckError:
            raise
        except Exception as error:
            self.event("error", stage=stage.name, error=repr(error))
            raise StageError(f"{stage.name} of {self.label}", _origin(stage), error) from error
        finally:
            sink.close()


def _origin(stage: Stage) -> str:
    origins = ", ".join(f"{chosen.kind} {chosen.name!r} from {chosen.entry.origin}" for chosen in stage.chosen)
    return origins or "no plugin"
