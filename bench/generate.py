"""The same tokens as one onnxruntime session whose past grows? Greedy, over the ranks that mpirun started.

``mpirun -n 3 python bench/generate.py [MODEL ...] [--tokens 1000] [--prompt 100] [--layout auto] [--trace-budget 20]``

A MODEL is a file or ``builtin:NAME``; without any, ``builtin:gpt2``, ``builtin:llama_tiny`` and the same with weights
of 4 bits. A row says how many tokens were equal, how many different ones there were among them, and how fast prompt and
tokens were, here and in the session.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from flexpie_mpi.model.zoo import materialise
from flexpie_mpi.session.generation import Generator

MODELS = ["builtin:gpt2", "builtin:llama_tiny", "builtin:llama_tiny_int4"]


class Alone:
    """One session on a model's file, which gets keys and values back as it gave them."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = {each.name for each in self._session.get_inputs()}

    def generate(self, prompt: list[int], count: int) -> tuple[list[int], float, float]:
        """Tokens, and seconds until the first and until the last."""
        inputs = [each for each in self._session.get_inputs() if "past" in each.name]
        past = {each.name: np.zeros([_size(axis, dim) for axis, dim in enumerate(each.shape)], "f4") for each in inputs}
        outputs = [name.replace("past_key_values", "present") for name in past]
        began, tokens, held, given = time.perf_counter(), list[int](), 0, np.array([prompt])
        first_s = 0.0
        for _ in range(count):
            end = held + given.shape[1]
            fed = {
                "input_ids": given,
                "attention_mask": np.ones((1, end), "i8"),
                "position_ids": np.arange(held, end)[None],
            }
            fed = {name: value for name, value in fed.items() if name in self._names}
            logits, *present = self._session.run(["logits", *outputs], {**fed, **past})
            past, held = dict(zip(past, present, strict=True)), end
            tokens.append(int(logits[0, -1].argmax()))
            given = np.array([tokens[-1:]])
            first_s = first_s or time.perf_counter() - began
        return tokens, first_s, time.perf_counter() - began


def _size(axis: int, dim: int | str) -> int:
    """Of a past that holds nothing yet, of one request."""
    return dim if isinstance(dim, int) else 1 if axis == 0 else 0


def main() -> int:
    """Print the table; 1 when tokens differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--prompt", type=int, default=24, help="tokens of the prompt")
    parser.add_argument("--layout", default="auto")
    parser.add_argument("--trace-budget", type=float, default=20.0)
    options = parser.parse_args()
    length, is_wrong = options.tokens + options.prompt - 1, False
    for model in options.models:
        prompt = [int(token) for token in np.random.default_rng(0).integers(0, 250, options.prompt)]
        with Generator(model, length, options.layout, trace_budget_s=options.trace_budget) as generator:
            found = list(generator.generate(prompt, options.tokens))
            pace = generator.pace
        with TemporaryDirectory() as folder:
            name = model.removeprefix("builtin:")
            path = Path(model) if name == model else materialise(name, Path(folder))
            expected, first_s, total_s = Alone(path).generate(prompt, options.tokens)
        equal = next(
            (at for at, both in enumerate(zip(found, expected, strict=True)) if both[0] != both[1]), len(found)
        )
        is_wrong = is_wrong or equal < len(expected)
        rates = [pace.tokens_per_s or 0.0, (len(expected) - 1) / (total_s - first_s)]
        print(
            f"{name:20} {equal} of {len(expected)} equal, {len(set(found))} different; first token "
            f"{pace.first_s:.3f} s (alone {first_s:.3f}), {rates[0]:.1f} tokens/s (alone {rates[1]:.1f})",
            flush=True,
        )
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
