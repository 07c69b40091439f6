"""Tokens of texts and texts of tokens, by a ``tokenizer.json`` of Hugging Face's and the package that reads it."""

from __future__ import annotations

from collections.abc import Callable

import tokenizers
from tokenizers.decoders import DecodeStream

from ..core.errors import DataError

ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<|end|>", "<eos>")
"""Tokens with which well-known models end what they say."""


class Tokenizer:
    """A tokenizer's file, read.

    Raises DataError when it cannot be read.
    """

    def __init__(self, path: str) -> None:
        try:
            self._read = tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the package raises Exception itself
            raise DataError(f"tokenizer file '{path}' cannot be read: {error}") from error

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end what a model says."""
        found = (self._read.token_to_id(word) for word in ENDS)
        return tuple(token for token in found if token is not None)

    def tokens(self, text: str) -> list[int]:
        """Those of a text, as the model was taught to have them."""
        return list(self._read.encode(text).ids)

    def words(self) -> Callable[[int], str]:
        """What gives the text of each token in turn: nothing as long as bytes of a character are still to come."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self._read, token) or ""
