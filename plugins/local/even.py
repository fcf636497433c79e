import subl


@subl.filter("even")
class Even:
    """Keep rows whose numbers are all even."""

    class Config(subl.PluginConfig):
        zero: bool = True
        """Whether 0 counts as even."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: list[subl.Row], ctx: subl.Context) -> list[str | None]:
        return [None if self.passes(row.completion) else "odd number" for row in rows]

    def passes(self, text: str) -> bool:
        numbers = [int(word) for word in text.replace(",", " ").split() if word.isdigit()]
        return all(number % 2 == 0 and (number > 0 or self.config.zero) for number in numbers)
