"""The micro world's tokenizer: its words and numbers are one token each, everything else falls back to bytes."""

from __future__ import annotations

from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from subl.models.micro_world import NUMBERS, World

PAD, BEGIN, END = "<pad>", "<begin>", "<end>"
ROLES = ("<system>", "<user>", "<assistant>")

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

# A space goes with the word after it or with the punctuation before it, never with a number: so each number has one
# form, and "3, 14" is three pieces. No look-ahead, so that cutting a text between pieces never changes the pieces.
_WORDS = r"[,.:;?!] ?| ?[A-Za-z]+|\s|[^\sA-Za-z0-9,.:;?!]+"
_NUMBERS = {"whole": r"[1-9][0-9]|[0-9]", "digits": r"[0-9]"}


def build_tokenizer(world: World, numbers: Literal["whole", "digits"]) -> PreTrainedTokenizerFast:
    """Build the tokenizer that knows every word of `world`; decoding gives back any text.

    Args:
        world: Whose words become tokens.
        numbers: "whole" makes 0 … 99 one token each (longer ones split greedily), "digits" splits every number.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{_NUMBERS[numbers]}|{_WORDS}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = {piece for text in world.words() for piece, _ in splitter.pre_tokenize_str(text)}
    if numbers == "whole":
        pieces |= {str(number) for number in range(NUMBERS)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = [PAD, BEGIN, END, *ROLES]
    tokens = [*specials, *alphabet, *sorted(pieces - set(alphabet))]
    # A piece that is in the vocabulary is taken whole; without merges anything else is spelled in bytes.
    model = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END, clean_up_tokenization_spaces=False
    )
    fast.chat_template = TEMPLATE
    return fast
