"""The way in from Python: a session as onnxruntime's, over all ranks of a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np

from ..core.choices import PLANNERS, StateChoice
from ..core.errors import DataError, PlanError
from ..core.plan import Plan
from ..model.inputs import Asked
from ..runtime.admission import Deliver, RequestSource
from ..runtime.state_transfer import read_states, write_states
from ..runtime.waiting import DEADLINE_S
from .opening import ROOT, CostSources, PlanChoice, Tell, read_plan
from .ranks import READ, RESET, RUN, STREAM, WRITE, Order, Ranks


class NodeArg(NamedTuple):
    """An input or output of the model, as onnxruntime describes it; `shape` is None where only a run can tell."""

    name: str
    shape: list[int] | None
    type: str


class InferenceSession:
    """A model on all ranks of the job, used as an ``onnxruntime.InferenceSession``.

    A script changes one import and is started by ``mpirun``; without it, it runs on one rank. **Every rank runs the
    script up to the first session; from there on rank 0 runs it alone.** The other ranks do not come back from that
    constructor: they serve the sessions of rank 0 until its script ends, and then end themselves. So the rest of the
    script may read data that only rank 0 has, call `run` as often as it likes, and fail in the middle: an error that
    it catches leaves all others waiting for the next call, and one that it does not catch ends the whole job. (A
    ``with`` statement or a ``serve()`` would need more lines, and a ``run`` that all ranks call together would hang
    as soon as one of them calls it less often.)

    Parameters
    ----------
    model : str, path or bytes
        A file, ``builtin:NAME``, or what such a file holds. Rank 0 reads it, the others get their parts of it.
    layout : str
        Who plans: one of :data:`flexpie_mpi.core.choices.PLANNERS`; ``auto`` is the fastest plan that is predicted,
        unless one board or one layout is measured to be faster.
    plan : Plan or path, optional
        The plan to run, in place of a planner.
    testbed, cost : path, optional
        Files of the boards, to plan for and to keep within their memory, and of their cost model. What neither they
        nor the cache know is measured before planning.
    shapes : mapping of str to sequence of int, optional
        Of inputs with symbolic axes, or one size of such an axis by its symbol; a symbolic first axis alone becomes 1.
        Every request has these shapes.
    outputs : sequence of str, optional
        Those that are wanted, or positions of them, such as ``logits[:, -1]``; all when not given, and where states are
        all that is wanted, none. Nothing is computed that they do not need.
    threads : int
        onnxruntime threads of each rank.
    in_flight : int, optional
        Requests of a stream that are under way at once; enough to keep all ranks busy when not given.
    trace_budget_s : float
        Most that is measured with ``auto`` before and after planning, where these hosts and the model have not been.
    cache : path, optional
        Folder for prepared models, weights and measurements; the user's cache when not given.
    deadline_s : float
        How long a rank waits for another before it gives up; that of the first session counts.
    tell : callable, optional
        Is told what goes on while the session is made.
    states : sequence of str or "auto", optional
        Outputs that are what the next request reads, as ``OUTPUT=INPUT`` with any text where both have a ``*``, or by
        their usual names; ``=INPUT`` is one that no request changes, as keys of an encoder. They stay on the ranks that
        compute with them, and are neither inputs nor outputs of `run`.
    max_length : int, optional
        Positions that there is room for in states that grow, such as caches of keys and values. The mask and the
        numbers of positions that such a model takes are made for it.
    state_of : InferenceSession, optional
        A session with the same states, to work on that one's: one for prompts beside one for single tokens.

    Raises
    ------
    FlexPieError
        A sentence about what is wrong with the model, the plan, the boards or the job.

    Examples
    --------
    Five lines that ``mpirun -n 3 python script.py`` starts::

        import flexpie_mpi as ort

        session = ort.InferenceSession("model.onnx")
        for frame in frames:
            print(session.run(None, {"input": frame})[0].argmax())
    """

    def __init__(
        self,
        model: str | Path | bytes,
        layout: str = "auto",
        *,
        plan: Plan | str | Path | None = None,
        testbed: str | Path | None = None,
        cost: str | Path | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        outputs: Sequence[str] | None = None,
        threads: int = 1,
        in_flight: int | None = None,
        trace_budget_s: float = 20.0,
        cache: str | Path | None = None,
        deadline_s: float = DEADLINE_S,
        tell: Tell = lambda text: None,
        states: Sequence[str] | None = None,
        max_length: int | None = None,
        state_of: InferenceSession | None = None,
    ) -> None:
        self._ranks = Ranks.of_process(deadline_s)
        if self._ranks.transport.rank != ROOT:
            self._ranks.serve()
            sys.exit()
        if layout not in PLANNERS:
            raise PlanError(f"unknown planner '{layout}'; choose from {', '.join(PLANNERS)}")
        self._folder = TemporaryDirectory(prefix="flexpie-") if isinstance(model, bytes) else None
        if self._folder is not None and isinstance(model, bytes):
            path = Path(self._folder.name, "model.onnx")
            path.write_bytes(model)
            model = path
        sources = CostSources(_text(testbed), _text(cost), None, threads, trace_budget_s)
        given = plan if isinstance(plan, Plan) or plan is None else read_plan(str(plan))
        asked = Asked({name: tuple(shape) for name, shape in (shapes or {}).items()}, outputs=outputs)
        patterns = (states,) if isinstance(states, str) else tuple(states or ())
        order = Order(
            str(model),
            PlanChoice(layout),
            sources,
            given,
            asked,
            _text(cache),
            in_flight,
            StateChoice(patterns, max_length),
            None if state_of is None else state_of._number,
        )
        self._number: int
        self._number, self._served = self._ranks.open(order, tell)
        graph = self._served.model.graph
        self._inputs, self._outputs = map(self._described, (graph.inputs, graph.outputs))

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: object = None,
        *,
        keep: int | None = None,
    ) -> list[Any]:
        """Outputs of one request.

        Parameters
        ----------
        output_names : sequence of str or None
            All outputs in the model's order when None.
        input_feed : mapping of str to array
            Every input of the model, with its shape and type. States that no request changes may be among them, such as
            keys and values of an encoder: they are written, and stay for later requests.
        run_options : object
            Ignored; there for scripts that give onnxruntime some.
        keep : int, optional
            How many of its positions the request leaves in states that grow: the first ones, where those behind them
            only fill it up. All when not given.

        Raises
        ------
        DataError
            When an input is missing, unknown, or of another shape or type, an output is unknown, or states have no
            room for more positions. The session goes on.
        TransportError
            When a rank is late or gone. The session is of no use then.
        """
        names = self._wanted(output_names)
        fixed = self._served.engine.states.fixed & input_feed.keys()
        inputs = self._checked({name: value for name, value in input_feed.items() if name not in fixed}, keep)
        if fixed:
            self.write_state({name: input_feed[name] for name in fixed})
        with self._ranks.told(RUN, self._number, -1 if keep is None else keep):
            outputs = self._served.run(inputs, keep)
        return [_own(outputs[name]) for name in names]

    def stream(
        self, requests: Iterable[Mapping[str, Any]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Any]]:
        """Outputs of many requests in order, several of which are under way at once.

        A thread takes the next requests while those before them are computed. Whoever stops listening ends the
        stream, and what is under way is finished. Nothing else can be run before it has ended.

        Parameters
        ----------
        requests : iterable of mapping of str to array
            As of `run`.
        output_names : sequence of str or None

        Raises
        ------
        DataError
            As of `run`, behind the outputs of the requests before that one.
        Exception
            What `requests` raises, at the same place.
        """
        names = self._wanted(output_names)

        def work(source: RequestSource, deliver: Deliver) -> None:
            with self._ranks.told(STREAM, self._number):
                self._served.stream(source, deliver)

        for outputs in _streamed(requests, self._checked, work):
            yield [outputs[name] for name in names]

    @property
    def state_length(self) -> int:
        """Positions that states that grow hold now."""
        return self._served.engine.states.length

    def reset_state(self, length: int = 0) -> None:
        """Forget what requests have left, or what is behind the first `length` positions.

        What they do not change, such as keys of an encoder, stays as it was written. Raises DataError when there are
        not so many, or requests change states that do not grow.
        """
        with self._ranks.told(RESET, self._number, length):
            self._served.engine.states.reset(length)

    def read_state(self) -> dict[str, np.ndarray]:
        """What requests have left, by the inputs that are states; of those that grow, the positions that are held."""
        with self._ranks.told(READ, self._number):
            return read_states(self._served.engine)

    def write_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state as `read_state` gives it, of this or another session, in the place of what there is.

        States that no request changes may be given alone, or left out. Raises DataError when it does not fit; the
        session goes on.
        """
        with self._ranks.told(WRITE, self._number):
            write_states(self._served.engine, state)

    def get_inputs(self) -> list[NodeArg]:
        """Name, shape and type of every input."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """Name, shape and type of every output."""
        return list(self._outputs)

    def get_providers(self) -> list[str]:
        """The execution providers of every rank."""
        return self._served.engine.provider_names

    @property
    def plan(self) -> Plan:
        """The plan that the ranks follow."""
        return self._served.plan

    def close(self) -> None:
        """Give the session's memory back on all ranks; they go on serving other sessions."""
        self._ranks.close(self._number)
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _described(self, names: Sequence[str]) -> list[NodeArg]:
        model = self._served.model
        shapes = {name: model.graph.value(name).shape for name in names}
        return [
            NodeArg(name, None if shape is None else list(shape), model.type_name(name))
            for name, shape in shapes.items()
        ]

    def _wanted(self, names: Sequence[str] | None) -> Sequence[str]:
        known = self._served.model.graph.outputs
        for name in names or ():
            if name not in known:
                raise DataError(f"the model has no output '{name}': it gives {', '.join(known)}")
        return known if names is None else names

    def _checked(self, feed: Mapping[str, Any], keep: int | None = None) -> Mapping[str, Any]:
        known = self._served.model.graph.inputs
        for name in feed:
            if name not in known:
                raise DataError(f"the model has no input '{name}': it takes {', '.join(known)}")
        return self._served.engine.checked(feed, keep)


def _own(value: Any) -> Any:
    """An output that later requests do not overwrite."""
    return np.array(value) if isinstance(value, np.ndarray) else value


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


_Feed = Mapping[str, Any]
_DEPTH = 4
"""Outputs that wait to be taken; with more the stream waits."""


class _Source:
    """The requests of an iterable, which may raise anything."""

    count, identity = None, ""

    def __init__(self, requests: Iterable[_Feed], check: Callable[[_Feed], _Feed]) -> None:
        self._requests, self._check = requests, check
        self.error: BaseException | None = None

    def rest(self, done: int) -> _Source:
        """As of a source of files."""
        return self

    def requests(self, first: int, stop: object) -> Iterator[_Feed]:
        """As of a source of files."""
        try:
            for request in self._requests:
                yield {name: _own(value) for name, value in self._check(request).items()}  # the next may overwrite it
        except GeneratorExit:
            return
        except BaseException as error:  # raised again where the stream is listened to
            self.error = error


def _streamed(
    requests: Iterable[_Feed], check: Callable[[_Feed], _Feed], work: Callable[[RequestSource, Deliver], None]
) -> Iterator[dict[str, Any]]:
    """Outputs of requests in order, while two threads read requests and run them."""
    from ..files.sources import Reader, put_while_wanted

    source, done, is_stopped = _Source(requests, check), object(), Event()
    reader, outputs = Reader(source), Queue[Any](_DEPTH)
    errors: list[BaseException] = []

    def put(item: Any) -> None:
        put_while_wanted(outputs, item, is_stopped.is_set)

    def run() -> None:
        try:
            work(reader, lambda number, values, latency_s: put({name: _own(value) for name, value in values.items()}))
        except BaseException as error:  # raised again where the stream is listened to
            errors.append(error)
        finally:
            put(done)

    thread = Thread(target=run, name="stream")
    thread.start()
    try:
        while (item := outputs.get()) is not done:
            yield item
    finally:
        is_stopped.set()
        reader.stop()
        thread.join()
    for error in (*errors, source.error):
        if error is not None:
            raise error
