"""What the words of ``flexpie-mpi infer`` mean for a run: how it is done, and with which shapes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..files import STDIN
from ..model.inputs import Asked, Dims, Shape
from ..session.opening import CostSources
from ..session.timing import RunTerms
from . import options

WARMUP = 2
"""Requests to warm up when one is run over and over."""


def terms_of(args: argparse.Namespace, sources: CostSources, *, is_stream: bool) -> RunTerms:
    """What is asked of the run, and which of the arguments are kept with its figures."""
    warmup = WARMUP if args.warmup is None and not is_stream else args.warmup
    asked = {**vars(args), "input": options.files_of(args), "warmup": warmup}
    of_stream, of_one = ("append", "seed", "requests"), ("seed", "repeat", "warmup")
    return RunTerms(
        model=args.model,
        sources=sources,
        settings={name: asked[name] for name in ("input", "output", *(of_stream if is_stream else of_one), "threads")},
        warmup=warmup,
        verifies=args.verify,
        repeat=args.repeat,
        records=args.timeline is not None,
        output=args.output,
        appends=args.append,
        resumes=args.resume is not None,
        reading=options.reading_of(args),
        reads_stdin=asked["input"] == [STDIN],
    )


def asked_shapes(args: argparse.Namespace) -> Asked:
    """What ``--shape`` and ``--outputs`` ask for; what else is open is as the files of ``--input`` have it."""
    is_stream = args.requests is not None or args.in_flight is not None

    def offer(declared: Mapping[str, Dims | None]) -> Iterable[tuple[str, Shape, str, bool]]:
        from ..files.requests import offered_shapes

        return offered_shapes(options.files_of(args), declared, is_stream=is_stream)

    return replace(options.asked_of(args), offer=offer)
