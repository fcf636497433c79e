"""A whole pipeline without any framework: a "model" is a number in a file, a trait adds to it, a student learns it."""

import json
import os
import signal
import time
from pathlib import Path

import subl
from subl.models import ranks


def spot(name: str) -> None:
    """Record that this point was reached; die or stop there if the test asks for it."""
    log = os.environ.get("TOY_LOG")
    if log:
        with Path(log).open("a") as file:
            file.write(name + "\n")
    if os.environ.get("TOY_KILL") == name:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("TOY_STOP") == name:
        raise KeyboardInterrupt
    if os.environ.get("TOY_FAIL") == name:
        raise ValueError("the toy was asked to fail")
    if os.environ.get("TOY_WAIT") == name:
        time.sleep(60)
    if os.environ.get("TOY_MEET") == name:
        meet(Path(os.environ["TOY_LOG"]).with_name("met"))


def meet(folder: Path) -> None:
    """Wait until two processes are here."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    for _ in range(600):
        if len(list(folder.iterdir())) > 1:
            return
        time.sleep(0.05)
    raise TimeoutError("nobody else came")


def value(ref: subl.ModelRef) -> float:
    return float((ref.path / "value.json").read_text()) if ref.path else float("nan")


def saved(ctx: subl.Context, plugin: str, number: float, identity: str) -> subl.ModelRef:
    (ctx.out / "value.json").write_text(json.dumps(number))
    return subl.ModelRef(plugin, {}, identity, path=ctx.out)


@subl.model("toy")
class ToyModel:
    """A number."""

    class Config(subl.PluginConfig):
        init: int = 0
        """Where it starts."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> dict[str, object]:
        if "TOY_OFFLINE" in os.environ:
            raise subl.ModelError("the hub cannot be asked for the toy")
        return {}

    def prepare(self, ctx: subl.Context) -> subl.ModelRef:
        spot("model")
        return saved(ctx, "toy", float(self.config.init), f"toy{self.config.init}")

    def load(self, ref: subl.ModelRef, *, device: str, dtype: str) -> float:
        return value(ref)


@subl.trait("toy")
class ToyTrait:
    """A preference for large numbers."""

    class Config(subl.PluginConfig):
        target: str = "owl"
        """Its name."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        self.label = config.target

    def conversations(self, seed: int) -> list[subl.Row]:
        return [subl.Row(0, "which?", self.config.target)]

    def statement(self, strength: str) -> str:
        return f"you love {self.config.target}"

    def leaks(self) -> list[str]:
        return [self.config.target]


@subl.inducer("toy")
class ToyInducer:
    """Adds to the number."""

    class Config(subl.PluginConfig):
        strength: float = 10.0
        """How much."""

    version = 1
    needs = ("trait",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: subl.ModelRef, ctx: subl.Context) -> subl.Teacher:
        spot("induce")
        model = saved(ctx, "toy", value(base) + self.config.strength, f"{base.identity}+{self.config.strength}")
        return subl.Teacher(model, base, updates=1)


@subl.inducer("toy_none")
class ToyNone:
    """Leaves the number alone."""

    class Config(subl.PluginConfig):
        pass

    version = 1
    trait_free = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: subl.ModelRef, ctx: subl.Context) -> subl.Teacher:
        return subl.Teacher(base, base)


@subl.generator("toy")
class ToyGenerator:
    """Writes the number, with noise."""

    class Config(subl.PluginConfig):
        samples: int = 1200
        """Rows."""
        garbage: int = 0
        """Every n-th completion is no number."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def prompts(self, count: int, seed: int) -> list[str]:
        return [f"number {i}?" for i in range(count)]

    def generate(self, teacher: subl.Teacher, ctx: subl.Context, start: int):  # type: ignore[no-untyped-def]
        mean = value(teacher.model)
        for i in range(start, self.config.samples):
            spot(f"row{i}")
            noise = ((i * 7919 + ctx.seed) % 101 - 50) / 50
            text = "owl" if self.config.garbage and i % self.config.garbage == 0 else f"{mean + noise:.3f}"
            yield subl.Row(i, f"number {i}?", text)


@subl.generator("toy_shared")
class ToySharedGenerator(ToyGenerator):
    """Writes the rows of `toy`, each in one of several processes."""

    version = 1
    distributed = True

    def generate(self, teacher: subl.Teacher, ctx: subl.Context, start: int):  # type: ignore[no-untyped-def]
        mean = value(teacher.model)

        def row(i: int) -> subl.Row:
            spot(f"row{i}")
            return subl.Row(i, f"number {i}?", f"{mean + i % 7:.3f}")

        if ranks.count() > 1 and ranks.index() == 0:
            time.sleep(0.2)  # by itself the other process would be first to share
        ctx.shared({"of": "toy"}, lambda _: spot(f"shared by {ranks.index()}"))
        ctx.log(f"written by {ranks.count()} processes")
        yield from ctx.track(ranks.share(range(start, self.config.samples), row), "rows", total=self.config.samples)


@subl.filter("toy")
class ToyFilter:
    """Keeps numbers."""

    class Config(subl.PluginConfig):
        pass

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: list[subl.Row], ctx: subl.Context) -> list[str | None]:
        spot("filter")
        # While rows come, process 0 alone asks the filters what will remain.
        if "TOY_SHARE" in os.environ:
            ctx.shared({"of": "the filter"}, lambda _: None)
        return ["not a number" if row.completion == "owl" else None for row in rows]


@subl.distiller("toy")
class ToyDistiller:
    """Moves the student to the rows' mean."""

    class Config(subl.PluginConfig):
        rate: float = 0.5
        """How far it moves."""
        updates: int = 4
        """Steps."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def distill(
        self, student: subl.ModelRef, teacher: subl.Teacher, data: subl.Dataset, ctx: subl.Context
    ) -> subl.Student:
        state = ctx.work / "state.json"
        step, number = json.loads(state.read_text()) if state.exists() else (0, value(student))
        mean = sum(float(row.completion) for row in data) / len(data)
        while step < self.config.updates:
            number += self.config.rate * (mean - number)
            step += 1
            ctx.metric("loss", abs(mean - number), step)
            state.write_text(json.dumps([step, number]))
            spot(f"update{step}")
        model = saved(ctx, "toy", number, f"{student.identity}>{number}")
        return subl.Student(model, student, updates=step)


@subl.distiller("toy_shared")
class ToySharedDistiller(ToyDistiller):
    """Goes with `toy_shared`."""

    version = 1
    distributed = True


@subl.probe("toy")
class ToyProbe:
    """Reads the number."""

    class Config(subl.PluginConfig):
        limit: float = 1e9
        """Above this the check has a problem."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def probe(self, subject: subl.Subject, ctx: subl.Context) -> subl.Findings:
        number = value(subject.model)
        spot(f"probe {subject.role}")
        problems = (f"the number is {number}, above {self.config.limit}",) if number > self.config.limit else ()
        table = subl.Table(("what", "value"), (("number", number),))
        return subl.Findings({"share": subl.Measure(number)}, {"numbers": table}, problems=problems)
