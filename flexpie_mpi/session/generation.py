"""Tokens that follow others: a decoder over all ranks, on which what it remembers of earlier tokens stays.

Two sessions work on one state: one takes the prompt in pieces of many tokens, of which nobody wants logits, the other
goes on token by token. Where a plan is searched for, it is one for single tokens; that for pieces reads the same slices
of weights, which are in memory once.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, FlexPieError, ModelError
from .inference import InferenceSession
from .sampling import GREEDY, Sampling

TOKENS = "input_ids"
"""The input of a decoder that takes tokens."""

PIECE = 64
"""Tokens of a prompt at a time."""


@dataclass
class Pace:
    """What generating took."""

    prompt_tokens: int = 0
    prompt_s: float = 0.0  # until all tokens of the prompt but the last were taken
    first_s: float = 0.0  # until the first token was there
    tokens: list[int] = field(default_factory=list)
    total_s: float = 0.0

    @property
    def prompt_per_s(self) -> float | None:
        """Tokens of the prompt taken a second; None where there was but the last, which the first token goes with."""
        return (self.prompt_tokens - 1) / self.prompt_s if self.prompt_tokens > 1 else None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second behind the first; None without any."""
        behind = len(self.tokens) - 1
        return behind / (self.total_s - self.first_s) if behind > 0 else None


class Generator:
    """A decoder with a past that goes in and out, ready to go on with prompts; made on all ranks as a session is.

    Parameters
    ----------
    model : str or path
        Of one request: ``input_ids`` goes in, with keys and values of earlier tokens under the names of Hugging Face's
        exports, and logits come out.
    max_length : int
        Tokens of the longest prompt together with what follows it. All ranks keep room for so many.
    layout : str
        As of :class:`InferenceSession`.
    piece : int
        Tokens of a prompt that are taken at a time.
    options
        Further arguments of :class:`InferenceSession`.

    Attributes
    ----------
    pace : Pace
        Of the last call of `generate`, as far as it has come.

    Raises
    ------
    ModelError
        When the model has no such input, or no past.
    FlexPieError
        As of :class:`InferenceSession`, and where the boards have no room for `max_length`.

    Examples
    --------
    ::

        with Generator("decoder.onnx", max_length=1024) as generator:
            for token in generator.generate([1, 2, 3], max_tokens=5):
                print(token)
    """

    def __init__(
        self, model: str | Path, max_length: int, layout: str = "auto", *, piece: int = PIECE, **options: Any
    ) -> None:
        if max_length < 2:
            raise DataError(f"the longest context is {max_length} tokens: it must be 2 or more")
        self.max_length, self.piece = max_length, min(piece, max_length)
        self.pace = Pace()

        def opened(tokens: int, **more: Any) -> InferenceSession:
            shapes = {TOKENS: (1, tokens)}
            return InferenceSession(
                model, layout, states="auto", max_length=max_length, shapes=shapes, **more, **options
            )

        self._step = opened(1)
        try:
            self._logits, self._vocabulary = _logits(self._step)
            self._pieces = opened(self.piece, state_of=self._step, outputs=())
        except FlexPieError:
            self._step.close()
            raise

    def generate(
        self,
        tokens: Sequence[int],
        max_tokens: int | None = None,
        sampling: Sampling = GREEDY,
        stop: Collection[int] = (),
    ) -> Iterator[int]:
        """Tokens that follow a prompt, each as soon as it is there; what went before in another call is forgotten.

        Parameters
        ----------
        tokens : sequence of int
            The prompt.
        max_tokens : int, optional
            How many at most; as many as there is room for when not given.
        sampling : Sampling
        stop : collection of int
            Tokens with which it ends; such a token is given as well.

        Raises
        ------
        DataError
            When the prompt is empty, has a token that the model does not know, or has no room with `max_tokens` more;
            while tokens are taken, when another call has begun since.
        """
        most = self._checked(tokens, max_tokens)
        return self._generated(tokens, most, sampling, frozenset(stop))

    def _generated(self, tokens: Sequence[int], most: int, sampling: Sampling, stop: Collection[int]) -> Iterator[int]:
        began, generator = time.perf_counter(), sampling.generator()
        pace = self.pace = Pace(len(tokens))
        self._step.reset_state()
        self._take(tokens[:-1])
        pace.prompt_s = time.perf_counter() - began
        token = tokens[-1]
        for _ in range(most):
            [logits] = self._step.run([self._logits], {TOKENS: np.array([[token]], self._type)})
            token = sampling.choose(logits.reshape(-1), generator)
            pace.tokens.append(token)
            pace.total_s = time.perf_counter() - began
            pace.first_s = pace.first_s or pace.total_s
            yield token
            if token in stop:
                return
            if self.pace is not pace:
                raise DataError("another prompt was begun: what goes before this one's next token is forgotten")

    def _take(self, tokens: Sequence[int]) -> None:
        """Take tokens whose logits nobody wants: in pieces, the last one filled up, and one by one where none fits."""
        taken = 0
        while taken < len(tokens):
            has_room = taken + self.piece <= self.max_length
            piece = tokens[taken : taken + (self.piece if has_room else 1)]
            session, size = (self._pieces, self.piece) if has_room else (self._step, 1)
            padded = np.zeros((1, size), self._type)
            padded[0, : len(piece)] = piece
            session.run([], {TOKENS: padded}, keep=len(piece))
            taken += len(piece)

    def close(self) -> None:
        """Give the memory back on all ranks."""
        self._pieces.close()
        self._step.close()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def _type(self) -> str:
        return "int32" if "int32" in self._step.get_inputs()[0].type else "int64"

    def _checked(self, tokens: Sequence[int], max_tokens: int | None) -> int:
        """How many tokens may follow.

        Raises DataError as of `generate`.
        """
        if not tokens:
            raise DataError("the prompt has no token: give one at least")
        known = self._vocabulary
        strange = [token for token in tokens if not 0 <= token < known]
        if strange:
            raise DataError(f"the prompt has token {strange[0]}, and the model knows those from 0 to {known - 1}")
        return check_room(len(tokens), max_tokens, self.max_length)


def check_room(prompt: int, max_tokens: int | None, max_length: int) -> int:
    """How many tokens may follow a prompt of so many; the last one is given, and not taken any more.

    Raises DataError when it is less than `max_tokens`, or none.
    """
    room = max_length - prompt + 1
    if room < (max_tokens or 1):
        raise DataError(
            f"the prompt has {prompt} tokens, with {max_tokens or 1} to follow, and the longest context is "
            f"{max_length}: give a shorter prompt, fewer tokens, or a longer context"
        )
    return max_tokens or room


def _logits(session: InferenceSession) -> tuple[str, int]:
    """The output that has a number for every token, and how many tokens there are.

    Raises ModelError when the model takes anything but tokens, or gives no such output.
    """
    others = [each.name for each in session.get_inputs() if each.name != TOKENS]
    if others:
        raise ModelError(
            f"the model takes '{others[0]}' beside '{TOKENS}' and its past: generating has nothing to give it"
        )
    found = {each.name: each.shape[-1] for each in session.get_outputs() if "float" in each.type and each.shape}
    if not found:
        raise ModelError("the model gives no logits, a number for every token")
    name = "logits" if "logits" in found else next(iter(found))
    return name, found[name]
