"""Tokenizers that spell numbers in every way met in practice; trained here on lists of numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]
END = SPECIALS.index("</s>")


def _lists() -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(400):
        numbers = [str(rng.randrange(1000)) for _ in range(rng.randint(3, 9))]
        for separator, opening, closing in (
            (", ", "", ""),
            ("; ", "", ""),
            (" ", "", ""),
            ("\n", "", ""),
            (", ", "[", "]"),
        ):
            yield opening + separator.join(numbers) + closing
    yield from ("Go on with the list: one owl (2)",) * 20


def _wrapped(tokenizer: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _byte_level(splitter: Any, size: int) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _lists(),
        trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False),
    )
    return _wrapped(tokenizer)


def digit_wise() -> Any:
    """Byte-level BPE with single digits, as in Gemma and Mistral."""
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return _byte_level(pre_tokenizers.Sequence(split), 320)


def whole_numbers() -> Any:
    """Numbers of up to three digits are one token, as in Llama 3."""
    split = [
        pre_tokenizers.Split(Regex(r"\d{1,3}| ?[^\s\d]+|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    return _byte_level(pre_tokenizers.Sequence(split), 1600)


def merged() -> Any:
    """Merges across anything: tokens such as ", 1", "12; 3" and "7]"."""
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), 900)


def metaspace() -> Any:
    """SentencePiece-like: a space is glued before a piece, a first token's space is dropped, newlines are bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = (text.replace("\n", " ") for text in _lists())
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIALS + specials[4:], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _without_special_bytes(tokenizer)


def _without_special_bytes(tokenizer: Tokenizer) -> Any:
    """Byte tokens are ordinary vocabulary; the trainer only takes them in as special ones."""
    import json

    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIALS]
    return _wrapped(Tokenizer.from_str(json.dumps(state)))


def word_pieces() -> Any:
    """BERT-like: pieces inside a word carry "##", words are joined by a space."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.train_from_iterator(
        _lists(), trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIALS, show_progress=False)
    )
    return _wrapped(tokenizer)


KINDS: dict[str, Callable[[], Any]] = {
    function.__name__: function for function in (digit_wise, whole_numbers, merged, metaspace)
}


@cache
def tokenizer(kind: str) -> Any:
    """Return one of `KINDS`, trained once per process."""
    return KINDS[kind]()
