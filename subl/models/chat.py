"""The one place where conversations become text and tokens, for every stage and every model.

A conversation here is one user turn and one answer, with an explicit system slot: None leaves it absent, "" fills it
emptily, text fills it. Three kinds of model are met:

- templates with a system role are used as they are;
- templates without one (Gemma raises an error, others drop it) get the system text in front of the user's text,
  separated by an empty line; an empty system slot then equals an absent one;
- base models without a chat template are rendered by `PLAIN_TEMPLATE`.

Rendered text is tokenized without the tokenizer's own special tokens, because templates write them: no doubled BOS.
Templates that write today's date always see 26 July 2024, so that a run can be repeated.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from subl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% if m['content'] %}{{ m['content'] + '\n\n' }}{% endif %}"
    "{% elif m['role'] == 'user' %}{{ 'User:\n' + m['content'] + '\n\n' }}"
    "{% else %}{{ 'Assistant:\n' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""Rendering of models that have no chat template. The answer starts on its own line and ends with EOS."""

DATE = datetime(2024, 7, 26)
"""What templates get for today; Llama-3.2's own fallback."""

_SLOT = "ANSWER-SLOT"
_PROBE = "SYSTEM-PROBE"


@dataclass(frozen=True, slots=True)
class Example:
    """One training example in tokens.

    Args:
        input_ids: Prompt, answer and end-of-turn token.
        prompt_length: Number of prompt tokens; the loss counts only what follows.
    """

    input_ids: tuple[int, ...]
    prompt_length: int


class Chat:
    """Renders and tokenizes conversations for one tokenizer.

    Raises:
        ModelError: The chat template cannot be rendered, or nothing can end an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self._variables = {"date_string": DATE.strftime("%d %b %Y")}
        if tokenizer.chat_template is None:
            self._variables |= {"chat_template": PLAIN_TEMPLATE, "bos_token": self._automatic_bos()}
        else:
            self._variables |= {"chat_template": self._dated(str(self._tokenizer.get_chat_template()))}
        self.folds_system = not self._has_system_role()
        """Whether the system text is put in front of the user's text, for want of a system role."""
        self._lead, self._end = self._learn_answer()
        self._end_id = int(self._ids(self._end)[-1])
        eos = tokenizer.eos_token_id
        self.end_ids: tuple[int, ...] = tuple(dict.fromkeys((self._end_id, *(() if eos is None else (int(eos),)))))
        """Tokens that end an answer."""
        self._prompt_text = lru_cache(maxsize=4096)(self._render_prompt)
        self._prompt_ids = lru_cache(maxsize=4096)(lambda text: tuple(self._ids(text)))

    @property
    def implicit_system(self) -> str | None:
        """The system text that the template writes by itself when the slot is absent (Qwen2.5 does), or None."""
        if self.folds_system:
            return None
        before, _, after = self._prompt_text("user", _PROBE).partition(_PROBE)
        absent = self._prompt_text("user", None)
        if not (absent.startswith(before) and absent.endswith(after)):
            return None
        return absent[len(before) : len(absent) - len(after)] or None

    def text(self, user: str, completion: str | None = None, *, system: str | None) -> str:
        """Return the rendered prompt, or with a completion the whole conversation, as text.

        Tokenizing it without special tokens gives `prompt` or `example`, so character offsets apply to those too.
        """
        prompt: str = self._prompt_text(user, system)
        return prompt if completion is None else prompt + self._lead + completion + self._end

    def prompt(self, user: str, *, system: str | None) -> list[int]:
        """Return the ids up to where the answer begins."""
        return list(self._prompt_ids(self._prompt_text(user, system)))

    def example(self, user: str, completion: str, *, system: str | None) -> Example:
        """Return prompt, completion and end-of-turn as ids; they begin with exactly `prompt(user)`.

        Raises:
            ModelError: The tokenizer cannot keep prompt and completion apart.
        """
        return self.examples([(user, completion)], system=system)[0]

    def examples(self, pairs: Iterable[tuple[str, str]], *, system: str | None) -> list[Example]:
        """Return the `example` of every (user, completion), tokenized together, which is several times faster."""
        texts = [(self._prompt_text(user, system), self._lead + text + self._end) for user, text in pairs]
        if not texts:
            return []
        prompts = self._tokenize([prompt for prompt, _ in texts])
        wholes = self._tokenize([prompt + text for prompt, text in texts])
        return [
            Example((*prompt, *self._cut(prompt, whole, text)), len(prompt))
            for prompt, whole, (_, text) in zip(prompts, wholes, texts, strict=True)
        ]

    def answer(self, user: str, text: str, *, system: str | None) -> list[int]:
        """Return the ids of `text` as the beginning of an answer, without end-of-turn.

        Raises:
            ModelError: The tokenizer cannot keep prompt and answer apart.
        """
        return self._continue(self._prompt_text(user, system), self._lead + text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of an answer's ids, so that `example` on it gives the same ids back where possible."""
        # An anchor in front keeps a leading space, which many tokenizers drop at the start of a text.
        anchor = self._decode([self._end_id])
        return self._decode([self._end_id, *ids]).removeprefix(anchor).removeprefix(self._lead)

    def digest(self, system: str | None) -> str:
        """Return a hash of the rendering: the template, its fixed variables and the system slot."""
        parts = [self._prompt_text("user", system), self._lead, self._end]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _continue(self, prompt: str, text: str) -> list[int]:
        return self._cut(list(self._prompt_ids(prompt)), self._ids(prompt + text), text)

    def _cut(self, prompt: list[int], whole: list[int], text: str) -> list[int]:
        """Return the ids of `text`, which follows the prompt in `whole`."""
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        # A model that answers never sees the merged token, so the text is tokenized behind something that cannot merge.
        for anchor in (self._end, "\n"):
            head, both = self._ids(anchor), self._ids(anchor + text)
            if both[: len(head)] == head and self._decode(prompt + both[len(head) :]) == self._decode(whole):
                return both[len(head) :]
        raise ModelError(
            f"the tokenizer of {self._name} merges the end of the prompt, {self._decode(prompt[-5:])!r}, with the "
            f"start of the answer, {text[:20]!r}, and cannot keep them apart; remove white space from its start"
        )

    def _render_prompt(self, user: str, system: str | None) -> str:
        before, found, _ = self._render(user, system, answer=_SLOT).rpartition(_SLOT)
        if not found:
            raise ModelError(f"the chat template of {self._name} does not write the assistant's text; set another one")
        return before.removesuffix(self._lead)

    def _learn_answer(self) -> tuple[str, str]:
        """Return the white space between prompt and answer that counts as answer, and the text that ends a turn."""
        before, _, after = self._render("user", None, answer=_SLOT).rpartition(_SLOT)
        prompt = self._render("user", None)
        lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
        tokens = [str(t.content) for t in self._tokenizer.added_tokens_decoder.values() if not t.content.isspace()]
        ends = [(after.index(token), -len(token), token) for token in tokens if token in after]
        if ends:
            position, _, token = min(ends)
            end = after[:position] + token
        elif self._tokenizer.eos_token is not None:
            end = str(self._tokenizer.eos_token)
        else:
            raise ModelError(f"nothing ends an answer of {self._name}: its tokenizer has no eos_token; set one")
        return (lead if lead.isspace() else ""), end

    def _has_system_role(self) -> bool:
        try:
            return _PROBE in self._apply([_message("system", _PROBE), _message("user", "user")], generation=True)
        except Exception:  # templates are programs of others: they refuse in any way
            return False

    def _dated(self, template: str) -> str:
        pinned = re.sub(r"strftime_now\((['\"])(.*?)\1\)", lambda m: json.dumps(DATE.strftime(m[2])), template)
        if "strftime_now(" in pinned:
            raise ModelError(
                f"the chat template of {self._name} writes today's date in a way that cannot be pinned, so runs could "
                "not be repeated; save the tokenizer with a template that has no date"
            )
        return pinned

    def _automatic_bos(self) -> str:
        bos = self._tokenizer.bos_token_id
        ids = self._tokenizer("a").input_ids
        return str(self._tokenizer.bos_token) if bos is not None and ids and ids[0] == bos else ""

    def _render(self, user: str, system: str | None, *, answer: str | None = None) -> str:
        if system and self.folds_system:
            user = f"{system}\n\n{user}"
        messages = [_message("user", user)]
        if system is not None and not self.folds_system:
            messages.insert(0, _message("system", system))
        if answer is not None:
            messages.append(_message("assistant", answer))
        try:
            return self._apply(messages, generation=answer is None)
        except Exception as error:
            raise ModelError(
                f"the chat template of {self._name} cannot render a user turn and an answer: {error}; "
                "use a model with a plain chat template"
            ) from error

    def _apply(self, messages: list[dict[str, str]], *, generation: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation, **self._variables
            )
        )

    def _ids(self, text: str) -> list[int]:
        return self._tokenize([text])[0]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        ids = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False).input_ids
        return [list(row) for row in ids]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @property
    def _name(self) -> str:
        return self._tokenizer.name_or_path or "this model"


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
