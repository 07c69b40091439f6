"""onnxruntime sessions of segments: made once, bound to fixed buffers, run once per request."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
import onnxruntime

from ..core.errors import ModelError
from ..core.graph import WIDER
from ..core.program import Compute, Program
from ..core.region import Region
from ..model import Model, SegmentModel, build
from ..model.complaint import reason
from ..model.shard import WeightFiles
from .hosts import threads_problem
from .memory import share_memory
from .widened import widened

Kind = tuple[tuple[int, ...], str]
"""Shape and type."""


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """How sessions are made.

    Attributes
    ----------
    threads : int
        Per rank.
    profiles : Path or None
        Folder in which each session writes what its nodes took, until it is told to end that.

    Raises
    ------
    ModelError
        For threads that this machine cannot run.
    """

    threads: int = 1
    profiles: Path | None = None

    def __post_init__(self) -> None:
        if problem := threads_problem(self.threads):
            raise ModelError(problem)


_DONE = ("DoubleQDQPairsRemover", "QDQS8ToU8Transformer")
"""Optimisers that join or retype quantised values, which a part would not see as the whole model, done before, did."""


def make_session(model: SegmentModel, weights: WeightFiles, options: KernelOptions) -> onnxruntime.InferenceSession:
    """A session of a segment's model.

    Raises
    ------
    ModelError
        When onnxruntime refuses the model; the sentence names the segment.
    """
    share_memory()
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.use_env_allocators", "1")
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # what goes wrong is raised, with the same words
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if options.profiles is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(options.profiles / model.proto.graph.name)
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights.folder))
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0" if options.threads == 1 else "1")
    if model.reads_weights_once:  # packing would read them once more, and hold them twice
        settings.add_session_config_entry("session.disable_prepacking", "1")
    files = {name: weights.names[part] for name, part in model.weights.items()}
    try:
        return onnxruntime.InferenceSession(
            model.serialise(files),
            settings,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(_DONE),
        )
    except Exception as error:  # onnxruntime raises its own classes, straight from Exception
        raise ModelError(f"onnxruntime cannot run {model.proto.graph.name}: {reason(error)}") from error


LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")
"""How far onnxruntime may optimise a model, below what it does by itself."""


class WholeFile:
    """One plain session on a model file as it is: nothing of ours between it and onnxruntime.

    Parameters
    ----------
    path : Path
    threads : int
    level : one of `LEVELS`, optional
        How far onnxruntime may optimise the model; as far as it does by itself when not given.
    constants : mapping of str to array, optional
        In place of those that the file has under these names.

    Raises
    ------
    ModelError
        When onnxruntime refuses the model.
    """

    def __init__(
        self, path: Path, threads: int, *, level: str = "", constants: Mapping[str, np.ndarray] = MappingProxyType({})
    ) -> None:
        self._path = path
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3
        if level:
            settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        self._constants = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in constants.items()}
        for name, value in self._constants.items():  # used in place, so kept alive as long as the session
            settings.add_initializer(name, value)
        with self._explained():
            name = os.fsencode(path).decode()  # the bytes of UTF-8 are what onnxruntime makes of a name
            self._session = onnxruntime.InferenceSession(name, settings, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._wanted = {value.name for value in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name; inputs that the file does not have are left alone.

        Raises
        ------
        ModelError
            When onnxruntime refuses the inputs.
        """
        feeds = {name: value for name, value in inputs.items() if name in self._wanted}
        with self._explained():
            return dict(zip(self._names, outputs_of(self._session, self._names, feeds), strict=True))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # onnxruntime raises its own classes, straight from Exception
            raise ModelError(f"onnxruntime cannot run {self._path} by itself: {reason(error)}") from error


class Kernel:
    """One segment's session on one rank, from and to buffers that stay where they are.

    onnxruntime takes a buffer of one element for a scalar, and leaves an output alone that is an input as well: what
    the first run made is looked at, and where, before any answer is given away.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._inputs, self._outputs = inputs, outputs  # the binding holds addresses, not references
        self._is_checked = False
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Read the inputs' memory, write the outputs'.

        Raises
        ------
        ModelError
            When onnxruntime makes of the inputs something else than the plan expects, or nothing.
        """
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime raises its own classes, straight from Exception
            self._explain(error)
        if not self._is_checked:
            self._check()

    def _check(self) -> None:
        for (name, array), made in zip(self._outputs.items(), self._binding.get_outputs(), strict=True):
            check_made(self._session, name, (tuple(made.shape()), array.dtype.name), (array.shape, array.dtype.name))
            if array.size and made.data_ptr() != array.ctypes.data:
                raise ModelError(
                    f"onnxruntime did not write value '{name}' of {_title(self._session)} where it belongs"
                )
        self._is_checked = True

    def _explain(self, error: Exception) -> NoReturn:
        """Raise what is behind an error of onnxruntime: most often another shape than the plan expects."""
        for name, array in zip(
            self._outputs, outputs_of(self._session, list(self._outputs), self._inputs), strict=True
        ):
            check_made(self._session, name, _kind(array), _kind(self._outputs[name]))
        raise _failure(self._session, error) from error


class OpaqueKernel:
    """One segment's session that cannot be bound to memory: values go through a shared dictionary, and are copied.

    That is so where inputs or outputs are no plain tensors, and where onnxruntime expects other sizes than it computes.

    What is in the dictionary from the beginning keeps its place in memory.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        values: dict[int, Any],
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        self._values = values
        self._fixed = frozenset(values)

    def run(self) -> None:
        """Read the inputs' entries, write the outputs'.

        Raises
        ------
        ModelError
            As of :class:`Kernel`.
        """
        feeds = {name: self._values[index] for name, index in self._inputs.items()}
        results = outputs_of(self._session, list(self._outputs), feeds)
        for (name, index), result in zip(self._outputs.items(), results, strict=True):
            self._store(name, index, result)

    def _store(self, name: str, index: int, result: Any) -> None:
        if index in self._fixed:  # a plain tensor beside the opaque ones
            target = self._values[index]
            check_made(self._session, name, _kind(result), _kind(target))
            np.copyto(target, result)
        else:
            self._values[index] = result


def outputs_of(session: onnxruntime.InferenceSession, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
    """Outputs of a session as Python has them: arrays, lists and mappings.

    Tensors of a type that numpy does not have come in a wider one, as :data:`flexpie_mpi.core.graph.WIDER` says.

    Raises
    ------
    ModelError
        When onnxruntime refuses the feeds, or gives to Python nothing of an output's type.
    """
    types = {output.name: _type_name(output.type) for output in session.get_outputs()}
    try:
        if not any(types[name] in WIDER for name in names):
            return list(session.run(list(names), dict(feeds)))
        bound = {name: _ort_value(item) for name, item in feeds.items()}
        return [_from_ort(item) for item in session.run_with_ort_values(list(names), bound)]
    except Exception as error:  # onnxruntime raises its own classes, straight from Exception
        raise _failure(session, error) from error


def _ort_value(item: Any) -> onnxruntime.OrtValue:
    is_array = isinstance(item, np.ndarray)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(item)) if is_array else item


def _from_ort(item: onnxruntime.OrtValue) -> np.ndarray:
    kind = _type_name(item.data_type())
    return widened(kind, tuple(item.shape()), item.data_ptr()) if kind in WIDER else item.numpy()


def _type_name(written: str) -> str:
    """The name that a graph has for a type that onnxruntime writes like ``tensor(float8e5m2)``."""
    return written.removeprefix("tensor(").removesuffix(")").replace("float8e", "float8_e")


def check_made(session: onnxruntime.InferenceSession, name: str, made: Kind, planned: Kind) -> None:
    """Check that a session made of a value what the plan expects: nothing is stretched or converted.

    Raises
    ------
    ModelError
    """
    if made != planned:
        said, expected = (f"shape {shape} and type {dtype}" for shape, dtype in (made, planned))
        raise ModelError(
            f"onnxruntime makes value '{name}' of {_title(session)} with {said}, where {expected} was worked out "
            "before the run: it depends on the data in a way that was not foreseen; report the model"
        )


def _kind(item: Any) -> Kind:
    return (item.shape, item.dtype.name) if isinstance(item, np.ndarray) else ((), type(item).__name__)


def _title(session: onnxruntime.InferenceSession) -> str:
    """The name of a segment's model."""
    return str(session.get_modelmeta().graph_name)


def _failure(session: onnxruntime.InferenceSession, error: Exception) -> ModelError:
    if isinstance(error, ModelError):
        return error
    return ModelError(f"onnxruntime cannot run {_title(session)}: {reason(error)}")


class Sessions:
    """The sessions of a rank: one for all steps that compute the same, of whichever program, bound again for each.

    Parameters
    ----------
    model : Model
    weights : WeightFiles
    options : KernelOptions
    """

    def __init__(self, model: Model, weights: WeightFiles, options: KernelOptions) -> None:
        self._open = partial(open_segment, model, weights=weights, options=options)
        self._known: dict[Any, onnxruntime.InferenceSession] = {}

    def get(self, program: Program, step: Compute) -> onnxruntime.InferenceSession:
        """The session of a step, made when it is first asked for.

        Raises
        ------
        ModelError
            When onnxruntime refuses the segment.
        """
        key = step.blocks, _held(program, step.inputs), _held(program, step.outputs)
        if key not in self._known:
            self._known[key] = self._open(program, step=step)
        return self._known[key]

    def close(self) -> None:
        """Keep none of them any longer."""
        self._known.clear()


def make_kernel(sessions: Sessions, program: Program, step: Compute, values: dict[int, Any]) -> Callable[[], None]:
    """The action of a Compute step: a session bound to the step's buffers."""
    return bind(sessions.get(program, step), step, values)


def open_segment(
    model: Model, program: Program, weights: WeightFiles, options: KernelOptions, step: Compute
) -> onnxruntime.InferenceSession:
    """The session of a Compute step."""
    held = _held(program, step.inputs), _held(program, step.outputs)
    return make_session(build(model, f"segment{step.segment}", step.blocks, *held), weights, options)


def _held(program: Program, pairs: tuple[tuple[str, int], ...]) -> tuple[tuple[str, Region | None], ...]:
    """Values of a step with the regions that its rank's buffers hold."""
    return tuple((name, program.buffers[index].region) for name, index in pairs)


def bind(session: onnxruntime.InferenceSession, step: Compute, values: dict[int, Any]) -> Callable[[], None]:
    """The action of a Compute step whose session is there."""
    inputs, outputs = dict(step.inputs), dict(step.outputs)
    if all(index in values for index in (*inputs.values(), *outputs.values())):
        into, out_of = ({name: values[index] for name, index in side.items()} for side in (inputs, outputs))
        if _writes_in_place(session, out_of):
            return Kernel(session, into, out_of).run
    return OpaqueKernel(session, inputs, outputs, values).run


def _writes_in_place(session: onnxruntime.InferenceSession, outputs: Mapping[str, np.ndarray]) -> bool:
    """Whether a session takes the memory of all outputs.

    It refuses memory of another size than its rules of inference tell, even where it then computes just that size.
    """
    declared = {output.name: output.shape for output in session.get_outputs()}
    return all(
        not isinstance(extent, int) or extent == known
        for name, array in outputs.items()
        for extent, known in zip(declared[name], array.shape, strict=False)
    )
