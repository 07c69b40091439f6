"""Segments as onnxruntime sessions: made once, bound to fixed buffers, run once per request.

Another execution provider of onnxruntime is a subclass of :class:`OrtProvider`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime

from ..core.errors import ModelError
from ..core.graph import WIDER
from ..model import SegmentModel
from ..model.session import reason
from ..model.shard import WeightFiles
from .provider import Action, ProviderOptions

Kind = tuple[tuple[int, ...], str]
"""Shape and type."""

_DONE = ("DoubleQDQPairsRemover", "QDQS8ToU8Transformer")
"""Optimisers that join or retype quantised values, which a part would not see as the whole model, done before, did."""


class OrtProvider:
    """What runs segments as sessions of one of onnxruntime's execution providers, which a subclass names."""

    # Sequence of str, or of (str, dict of options). As onnxruntime takes them: a node goes to the first that can run
    # it.
    execution_providers: Sequence[str | tuple[str, dict[str, Any]]] = ()
    block = 0  # channels to a block of blocked inputs and outputs; 0 where there can be none

    def __init__(self, options: ProviderOptions) -> None:
        self._options = options

    @property
    def names(self) -> Sequence[str]:
        return [item if isinstance(item, str) else item[0] for item in self.execution_providers]

    def settings(self, model: SegmentModel) -> onnxruntime.SessionOptions:
        """Options of the session of a segment."""
        settings, threads = onnxruntime.SessionOptions(), self._options.threads
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # what goes wrong is raised, with the same words
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
        if self._options.profiles is not None:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(self._options.profiles / model.proto.graph.name)
        return settings

    def open(self, model: SegmentModel, weights: WeightFiles) -> OrtSegment:
        """A session of a segment's model.

        Raises ModelError when onnxruntime refuses the model; the sentence names the segment.
        """
        content = model.serialise(self.places(model, weights))
        try:
            session = self.session(model, content, weights.folder)
        except Exception as error:  # onnxruntime raises its own classes, straight from Exception
            raise ModelError(f"onnxruntime cannot run {model.proto.graph.name}: {reason(error)}") from error
        return OrtSegment(session, *model.ends)

    def places(self, model: SegmentModel, weights: WeightFiles) -> dict[str, dict[str, str]]:
        """Where the data of every weight are, in entries of external data."""
        return {name: {"location": weights.names[part]} for name, part in model.weights.items()}

    def session(self, model: SegmentModel, content: bytes, folder: Path) -> onnxruntime.InferenceSession:
        """The session of a segment, whose model has this content and weights in files of `folder`."""
        return self.load(content, self.settings(model), folder)

    def load(self, model: bytes, settings: onnxruntime.SessionOptions, folder: Path) -> onnxruntime.InferenceSession:
        """A session of the bytes of a model whose weights are files of `folder`."""
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        return onnxruntime.InferenceSession(
            model, settings, providers=list(self.execution_providers), disabled_optimizers=list(_DONE)
        )


class OrtSegment:
    """A segment's session, which can be bound to buffers.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    inputs, outputs : sequence of str
        Names of the segment's inputs and outputs. The session's have the same order, and perhaps other names.
    """

    def __init__(self, session: onnxruntime.InferenceSession, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._session = session
        sides = (inputs, session.get_inputs()), (outputs, session.get_outputs())
        self._names = [{name: end.name for name, end in zip(*side, strict=True)} for side in sides]

    def bind(self, inputs: Mapping[str, int], outputs: Mapping[str, int], values: dict[int, Any]) -> Action:
        """An action that runs the session on the rank's values; straight on their memory where that is possible."""
        inputs, outputs = (
            {names[name]: index for name, index in side.items()}
            for names, side in zip(self._names, (inputs, outputs), strict=True)
        )
        if all(index in values for index in (*inputs.values(), *outputs.values())):
            into, out_of = ({name: values[index] for name, index in side.items()} for side in (inputs, outputs))
            if _writes_in_place(self._session, out_of):
                return Kernel(self._session, into, out_of).run
        return OpaqueKernel(self._session, inputs, outputs, values).run

    def end_profiling(self) -> Path:
        """Complete the file of the session's profile; where it is."""
        return Path(self._session.end_profiling())


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


def run_options() -> onnxruntime.RunOptions:
    """Options of every run, which say that no graph is captured.

    Of options that leave it open, onnxruntime 1.32 asks before each run, and its answer is an exception inside, which
    takes ten times as long as a short run: 28 us of 30, and 38 of 53 when caches are cold.
    """
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


class Kernel:
    """One segment's session on one rank, which reads and writes buffers that stay where they are.

    onnxruntime takes a buffer of one element for a scalar, and does not write an output that is an input as well. So
    after the first run the outputs are checked, their shapes, types and addresses, before anything is made of them.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    inputs, outputs : mapping of str to array
        Memory of every input and output.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._options = run_options()  # kept: made anew for each run they take a fifth of a short one
        self._inputs, self._outputs = inputs, outputs  # the binding holds addresses, not references
        self._is_checked = False
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Read the inputs' memory, write the outputs'.

        Raises ModelError when onnxruntime makes of the inputs something else than the plan expects, or nothing.
        """
        try:
            self._session.run_with_iobinding(self._binding, self._options)
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
    """One segment's session that cannot be bound to memory: its values are taken from, and put into, a dictionary.

    That is so where inputs or outputs are no plain tensors, and where onnxruntime expects other sizes than it computes.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    inputs, outputs : mapping of str to int
        Keys of every input and output in `values`.
    values : dict
        Arrays that are there from the beginning keep their memory: outputs are copied into them.
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

        Raises ModelError as of :class:`Kernel`.
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

    Tensors of a type that numpy does not have come in a wider one, as :data:`flexpie_mpi.core.graph.WIDER` says. Raises
    ModelError when onnxruntime refuses the feeds, or gives to Python nothing of an output's type.
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
    """Check that a session made of a value what the plan expects, so that nothing is stretched or converted.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    name : str
        Of the value.
    made, planned : (shape, type)

    Raises
    ------
    ModelError
        When they differ.
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


def widened(kind: str, shape: tuple[int, ...], address: int) -> np.ndarray:
    """A copy of a tensor, every element exactly, in the type that :data:`flexpie_mpi.core.graph.WIDER` has for `kind`.

    Parameters
    ----------
    kind : str
        ``bfloat16``, ``float8_e5m2``, ``int4`` or ``uint4``.
    shape : tuple of int
    address : int
        Of its memory, row-major; two elements of 4 bits share a byte, the first in the low half.
    """
    size = prod(shape)
    elements = _DECODERS[kind](address, size) if size else np.empty(0)
    return elements.astype(WIDER[kind]).reshape(shape)


def _memory(address: int, nbytes: int) -> np.ndarray:
    block = (ctypes.c_uint8 * nbytes).from_address(address)
    return np.ctypeslib.as_array(block).copy()


def _bfloat16(address: int, size: int) -> np.ndarray:
    """The upper half of a float32."""
    return (_memory(address, 2 * size).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _float8e5m2(address: int, size: int) -> np.ndarray:
    """The upper half of a float16."""
    return (_memory(address, size).astype(np.uint16) << 8).view(np.float16)


def _uint4(address: int, size: int) -> np.ndarray:
    pairs = _memory(address, (size + 1) // 2)
    return np.stack((pairs & 15, pairs >> 4), axis=1).reshape(-1)[:size]


def _int4(address: int, size: int) -> np.ndarray:
    return (_uint4(address, size).astype(np.int8) ^ 8) - 8


_DECODERS = {"bfloat16": _bfloat16, "float8_e5m2": _float8e5m2, "uint4": _uint4, "int4": _int4}
