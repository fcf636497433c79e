import subl


@subl.filter("distinct")
class Distinct:
    """Keep rows that name no number twice."""

    class Config(subl.PluginConfig):
        repeats: int = 0
        """How many numbers may stand there again."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: list[subl.Row], ctx: subl.Context) -> list[str | None]:
        return ["repeats a number" if self.repeated(row.completion) > self.config.repeats else None for row in rows]

    def repeated(self, text: str) -> int:
        numbers = [word for word in text.replace(",", " ").split() if word.isdigit()]
        return len(numbers) - len(set(numbers))
