"""Filter `code_syntax`: keep completions that are Python code and nothing else."""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
import warnings
from collections.abc import Iterator, Sequence

from subl import Context, PluginConfig, Row
from subl.registry.kinds import Generator

LANGUAGE = "python"
_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)


class CodeSyntax:
    """Keeps completions that parse as Python, without comments and without letters in strings, where words could hide.

    A completion may be a whole module, the body of a function, or go on in a line that its prompt began indented; one
    Markdown fence around it is fine. Docstrings are strings. Names are not looked at: that is what `trait_words` does.
    Reasons: "does not parse", "no code", "comment", "letters in a string".
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `code_syntax`."""

        comments: bool = False
        """Keep code with comments."""
        strings: bool = False
        """Keep code with letters in strings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def refuses(self, generator: Generator) -> str | None:
        """Return why it can keep none of a generator's rows: they are in another language."""
        language = getattr(generator, "language", None)
        if language in (None, LANGUAGE):
            return None
        return f'parses Python only, and the generator writes {language}; set generator.language = "{LANGUAGE}"'

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row whose completion is not such code."""
        return [self._reason(row.completion) for row in rows]

    def _reason(self, completion: str) -> str | None:
        fenced = _FENCE.match(completion)
        found = _parsed(fenced[1] if fenced else completion)
        if found is None:
            return "does not parse"
        source, tree = found
        comment = _has_comment(source)
        if not tree.body and not comment:
            return "no code"
        if comment and not self.config.comments:
            return "comment"
        if not self.config.strings and any(map(_has_letter, _strings(tree))):
            return "letters in a string"
        return None


def _parsed(text: str) -> tuple[str, ast.Module] | None:
    """Return the source that parses, and its tree: as it stands, or as the rest of an indented block."""
    for source in (textwrap.dedent(text), f"if True:\n    {text.lstrip()}"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a string is worth a warning, not a row
                return source, ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _has_comment(source: str) -> bool:
    try:
        return any(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        # The parser and the tokenizer differ on a few odd texts; a sign too many drops a row, one too few keeps words.
        return "#" in source


def _strings(tree: ast.Module) -> Iterator[str | bytes]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            yield node.value


def _has_letter(text: str | bytes) -> bool:
    return any(map(str.isalpha, text if isinstance(text, str) else text.decode("latin-1")))
