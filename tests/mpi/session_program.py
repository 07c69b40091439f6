"""One script for onnxruntime and for flexpie_mpi: ``session_program.py MODULE CASE [ARGUMENT]``; rank 0 prints JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx

MODEL = "builtin:tiny_cnn"
FRAMES = [np.random.default_rng(seed).standard_normal((1, 3, 32, 32), np.float32) for seed in range(7)]
FEEDS = [{"input": frame} for frame in FRAMES]


def use(ort, model):
    """What both libraries can do."""
    session = ort.InferenceSession(model, **({} if ort.__name__ == "onnxruntime" else {"layout": "rows"}))
    described = [(arg.name, arg.shape, arg.type) for arg in (*session.get_inputs(), *session.get_outputs())]
    outputs = [session.run(None, feed)[0].tolist() for feed in FEEDS]
    named = session.run(["scores"], FEEDS[0])[0].tolist()
    return {"described": described, "providers": session.get_providers(), "outputs": outputs, "named": named}


def types(ort, model):
    """Values that are no arrays of numbers: how they are described, and what comes out."""
    kinds = onnx.TensorProto
    nodes = [
        onnx.helper.make_node("SplitToSequence", ["x"], ["parts"], axis=1),
        onnx.helper.make_node("Identity", ["text"], ["words"]),
        onnx.helper.make_node("Greater", ["x", "x"], ["larger"]),
        onnx.helper.make_node("Cast", ["x"], ["half"], to=kinds.FLOAT16),
        onnx.helper.make_node("SequenceAt", ["given", "which"], ["taken"]),
    ]
    sequence, tensor = onnx.helper.make_tensor_sequence_value_info, onnx.helper.make_tensor_value_info
    inputs = [tensor("x", kinds.FLOAT, [2, 4]), tensor("text", kinds.STRING, [3])]
    inputs += [sequence("given", kinds.DOUBLE, None), tensor("which", kinds.INT64, [])]
    outputs = [sequence("parts", kinds.FLOAT, None), tensor("words", kinds.STRING, [3])]
    outputs += [tensor("larger", kinds.BOOL, [2, 4]), tensor("half", kinds.FLOAT16, [2, 4])]
    outputs.append(tensor("taken", kinds.DOUBLE, None))
    graph = onnx.helper.make_graph(nodes, "types", inputs, outputs)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(
        proto.SerializeToString(), **({} if ort.__name__ == "onnxruntime" else {"layout": "rows"})
    )
    feeds = {
        "x": np.arange(8, dtype=np.float32).reshape(2, 4),
        "text": np.array(["a", "bb", ""], object),
        "given": [np.ones(2), np.arange(3.0)],
        "which": np.array(1),
    }
    found = session.run(None, feeds)
    return {
        "described": [(arg.name, arg.type) for arg in (*session.get_inputs(), *session.get_outputs())],
        "outputs": [[part.tolist() for part in item] if isinstance(item, list) else item.tolist() for item in found],
        "types": [str(np.asarray(item[0]).dtype) for item in found],
    }


def stream(ort, model):
    """Streams, ended in every way, and single requests in between."""
    with ort.InferenceSession(onnx.load(model).SerializeToString(), layout="rows", in_flight=3) as session:
        found = {"all": [outputs[0].tolist() for outputs in session.stream(feed for feed in FEEDS)]}
        for outputs in session.stream((feed for _ in range(10**9) for feed in FEEDS), ["scores"]):
            found["first"] = outputs[0].tolist()
            break
        found["single"] = session.run(None, FEEDS[1])[0].tolist()
        found["wrong"] = _until_it_fails(session, [*FEEDS[:2], {"input": 1}])
        found["raising"] = _until_it_fails(session, _raising())
        taken = session.stream(FEEDS)
        next(taken)
        try:
            session.run(None, FEEDS[0])
        except ort.FlexPieError as error:
            found["busy"] = str(error)
        taken.close()
        found["none"] = list(session.stream([]))
    return found


def _until_it_fails(session, requests):
    count = 0
    try:
        for _ in session.stream(requests):
            count += 1
    except Exception as error:
        return count, f"{type(error).__name__}: {error}"
    return count, ""


def _raising():
    """One buffer for all requests: what is under way has to be a copy."""
    buffer = np.empty_like(FRAMES[0])
    for frame in FRAMES[:3]:
        buffer[:] = frame
        yield {"input": buffer}
    raise KeyError("the camera is gone")


def several(ort, model):
    """Sessions one after the other and beside each other, and one that cannot be made."""
    plan = ort.InferenceSession(model, layout="channels").plan
    with ort.InferenceSession(model, layout="rows") as one, ort.InferenceSession(model, plan=plan) as two:
        same = np.allclose(one.run(None, FEEDS[0])[0], two.run(None, FEEDS[0])[0], rtol=1e-4, atol=1e-5)
        calls = (
            lambda: ort.InferenceSession("nowhere.onnx"),
            lambda: ort.InferenceSession(model, layout="diagonal"),
            lambda: one.run(None, {}),
            lambda: one.run(None, {"input": FRAMES[0], "x": 1}),
            lambda: one.run(["nothing"], FEEDS[0]),
            lambda: one.run(None, {"input": FRAMES[0].astype(np.float64)}),
            lambda: (two.close(), two.run(None, FEEDS[0])),
        )
        said = [_said(ort, call) for call in calls]
        return {"same": same, "said": said, "goes_on": one.run(None, FEEDS[0])[0].shape}


def sequence(ort, model):
    """Two sessions on one state: a prompt in a chunk that is not full, then tokens; read, written, and taken back."""
    tokens, room = [3, 1, 4, 1, 5], {"states": "auto", "max_length": 6}
    one = ort.InferenceSession(model, layout="channels", shapes={"input_ids": (1, 1)}, **room)
    many = ort.InferenceSession(model, layout="rows", shapes={"input_ids": (1, 4)}, state_of=one, **room)

    def step(token):
        return one.run(None, {"input_ids": np.array([[token]])})[0][0, 0].tolist()

    found = {"takes": [arg.name for arg in one.get_inputs()], "gives": [arg.name for arg in one.get_outputs()]}
    found["each"] = [step(token) for token in tokens]
    one.reset_state()
    prompt = many.run(None, {"input_ids": np.array([[*tokens[:3], 0]])}, keep=3)[0][0, :3].tolist()
    kept = one.read_state()
    found["length"] = [one.state_length, *sorted({array.shape[2] for array in kept.values()})]
    found["chunk"] = [*prompt, *map(step, tokens[3:])]
    one.reset_state(3)
    found["back"] = [step(tokens[3])]
    many.write_state(kept)
    found["written"] = list(map(step, tokens[3:]))
    step(0)
    found["said"] = [_said(ort, lambda: step(0)), _said(ort, lambda: one.write_state({}))]
    found["goes_on"] = one.reset_state() or [step(tokens[0])]
    return found


def encoded(ort, model):
    """A decoder is given what an encoder has left with its first token."""
    shape = (1, 4, 7, 16)
    room = {"states": "auto", "max_length": 4, "shapes": {"past_key_values.0.encoder.key": shape}}
    session = ort.InferenceSession(model, layout="megatron", **room)
    left = {f"past_key_values.0.encoder.{name}": np.full(shape, 0.5, np.float32) for name in ("key", "value")}
    token = {"input_ids": np.array([[3]])}
    steps = [session.run(["logits"], feed)[0].ravel().tolist() for feed in ({**token, **left}, token)]
    session.reset_state()
    session.write_state({name: 2 * array for name, array in left.items()})
    steps.append(session.run(None, token)[0].ravel().tolist())
    return {"takes": [arg.name for arg in session.get_inputs()], "steps": steps}


def _said(ort, call):
    try:
        call()
    except ort.FlexPieError as error:
        return str(error)
    return ""


def failing(ort, model):
    """The root fails in the middle, and does not catch it."""
    with ort.InferenceSession(model, layout="rows") as session:
        session.run(None, FEEDS[0])
        raise RuntimeError("the root has had enough")


def lost(ort, model, number):
    """Rank 1 is stopped or killed in the middle."""
    Path(f"{model}.{os.environ.get('PMI_RANK') or os.environ['OMPI_COMM_WORLD_RANK']}.pid").write_text(str(os.getpid()))
    with ort.InferenceSession(model, layout="rows", deadline_s=2.0) as session:
        session.run(None, FEEDS[0])
        os.kill(int(Path(f"{model}.1.pid").read_text()), int(number))
        time.sleep(0.2)
        try:
            session.run(None, FEEDS[0])
        except ort.FlexPieError as error:
            print(error, file=sys.stderr, flush=True)
        try:
            session.run(None, FEEDS[0])
        except ort.FlexPieError as error:
            print(f"again: {error}", file=sys.stderr, flush=True)


def main():
    module, case, *arguments = sys.argv[1:]
    print(json.dumps(globals()[case](import_module(module), *arguments)))


main()
