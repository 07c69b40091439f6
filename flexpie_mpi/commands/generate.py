"""``flexpie-mpi generate``: what a language model says behind a prompt, token by token, over all ranks of the job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..core.choices import PLANNERS
from ..core.errors import FlexPieError, count_of
from ..runtime.waiting import DEADLINE_S
from ..session.generation import PIECE, Generator, Pace, check_room
from ..session.opening import ROOT
from ..session.ranks import Ranks
from ..session.sampling import Sampling
from . import UsageError, options, texts
from .job import RankPart, run_job
from .output import STDOUT, check_paths, emit, show, tell, write_record

if TYPE_CHECKING:
    from ..files.tokenizer import Tokenizer

MAX_TOKENS = 64

LEAST_CONTEXT = 64
"""Contexts that nobody gives a length are powers of two from here on: what is prepared for one is of use again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="FILE.onnx|builtin:NAME",
        help="a decoder with keys and values of earlier tokens in and out, as Hugging Face's exports have them",
    )
    _add_text_arguments(parser.add_argument_group("text"))
    plan = parser.add_argument_group("plan")
    plan.add_argument(
        "--layout",
        choices=PLANNERS,
        default="auto",
        metavar="NAME",
        help="who plans, as of infer; auto and megatron for single tokens, the prompt then reads the same weights "
        "(default: %(default)s)",
    )
    plan.add_argument("--testbed", metavar="T.toml", help="the boards and the links between them")
    plan.add_argument("--cost", metavar="cost.json", help="the cost model that 'flexpie-mpi fit' wrote")
    options.add_trace_budget(plan, "planning")
    options.add_threads(plan)
    options.add_cache_arguments(parser)
    options.add_record_arguments(parser)


def _add_text_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--tokenizer", metavar="tokenizer.json", help="makes tokens of --prompt, and text of tokens")
    prompt = group.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="what is to be gone on with; needs --tokenizer")
    prompt.add_argument("--tokens", type=token_numbers, metavar="1,2,3", help="the same as numbers of tokens")
    group.add_argument(
        "--max-tokens",
        type=texts.positive,
        default=MAX_TOKENS,
        metavar="N",
        help="most tokens that follow (default: %(default)s)",
    )
    group.add_argument(
        "--max-length",
        type=texts.positive,
        metavar="M",
        help="longest context, for which ranks have room (default: enough for prompt and --max-tokens)",
    )
    group.add_argument(
        "--piece",
        type=texts.positive,
        default=PIECE,
        metavar="K",
        help="tokens of the prompt that are taken at a time (default: %(default)s)",
    )
    group.add_argument(
        "--stop",
        type=token_numbers,
        default=(),
        metavar="1,2",
        help="tokens with which it ends (default: those that --tokenizer has for that)",
    )
    group.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 for the likeliest token, the default"
    )
    group.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="chance plays among the likeliest of this share (default: 1)",
    )
    group.add_argument("--seed", type=texts.natural, default=0, metavar="S", help="of chance (default: %(default)s)")


def token_numbers(text: str) -> tuple[int, ...]:
    """Numbers of tokens with commas between them."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of token numbers such as 1,2,3") from None


def run(args: argparse.Namespace) -> int:
    """Start MPI and generate."""
    if args.prompt is not None and args.tokenizer is None:
        raise UsageError("--prompt needs --tokenizer, the model's tokenizer.json; or give --tokens 1,2,3")
    if args.no_cache:
        raise UsageError("generate keeps what it prepares: --cache DIR says where")
    run_job(DEADLINE_S, lambda transport: Generation(transport, args).run())


class Generation(RankPart):
    """One rank's part of generating: the root's is all of it, the others serve its sessions."""

    def run(self) -> int:
        """The exit code."""
        ranks = Ranks.of_process(DEADLINE_S, self.transport)
        if self.transport.rank != ROOT:
            ranks.serve()
            return 0
        problem: FlexPieError | None = None
        try:
            self._generate()
        except FlexPieError as error:  # raised when the others know that it is over
            problem = error
        ranks.end()
        if problem is not None:
            raise problem
        return 0

    def _generate(self) -> None:
        args = self.args
        check_paths({"--json": args.json})
        sampling = Sampling(args.temperature, args.top_p, args.seed)
        tokenizer = None if args.tokenizer is None else read_tokenizer(args.tokenizer)
        tokens = args.tokens if tokenizer is None or args.prompt is None else tokenizer.tokens(args.prompt)
        stop = args.stop or (tokenizer.ends if tokenizer else ())
        show_token = tokenizer.words() if tokenizer else "{} ".format
        is_shown = args.json != STDOUT
        with self.progress:
            generator = self._open(len(tokens))
        text = ""
        with generator:
            for token in generator.generate(tokens, args.max_tokens, sampling, stop):
                text += (piece := show_token(token))
                emit(piece if is_shown else "")
        emit("\n" if is_shown else "")
        record = pace_record(generator, text)
        write_record(record, args.json)
        if is_shown:
            tell(said(generator.pace))
        else:
            show(tuple, record, STDOUT)

    def _open(self, prompt: int) -> Generator:
        args = self.args
        needed = prompt + args.max_tokens - 1  # the last token is given and not taken
        most = args.max_length or max(LEAST_CONTEXT, 1 << (needed - 1).bit_length())
        check_room(prompt, args.max_tokens, most)
        sources = {"testbed": args.testbed, "cost": args.cost, "trace_budget_s": args.trace_budget}
        settings = {"threads": args.threads, "cache": args.cache, "tell": self.progress.tell}
        return Generator(args.model, most, args.layout, piece=args.piece, **sources, **settings)


def read_tokenizer(path: str) -> Tokenizer:
    """The tokenizer of a file, by a package that few have.

    Raises UsageError without it, and DataError when the file cannot be read.
    """
    try:
        from ..files.tokenizer import Tokenizer
    except ImportError as error:
        raise UsageError(
            "--tokenizer needs the package tokenizers: pip install flexpie-mpi[tokenizers]; or give --tokens 1,2,3"
        ) from error
    return Tokenizer(path)


def pace_record(generator: Generator, text: str) -> dict[str, Any]:
    """What was generated, and how fast, for scripts."""
    pace = generator.pace
    return {
        "tokens": pace.tokens,
        "text": text,
        "max_length": generator.max_length,
        "prompt": {"tokens": pace.prompt_tokens, "seconds": pace.prompt_s, "tokens_per_s": pace.prompt_per_s},
        "first_token_s": pace.first_s,
        "tokens_per_s": pace.tokens_per_s,
    }


def said(pace: Pace) -> str:
    """How fast it was, in a line."""
    parts = [f"prompt of {count_of(pace.prompt_tokens, 'token')}", f"first token after {pace.first_s * 1e3:.0f} ms"]
    if pace.prompt_per_s is not None:
        parts[0] += f" taken at {pace.prompt_per_s:.0f} tokens/s"
    if pace.tokens_per_s is not None:
        parts.append(f"{len(pace.tokens) - 1} more at {pace.tokens_per_s:.1f} tokens/s")
    return ", ".join(parts)
