"""The built-in models: published architectures with seeded weights, written to disk as ONNX on demand.

To add one: a function that builds it, and a row of `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from ...core.errors import ModelError
from ...files.atomic import appearing
from . import decoders, encoders, mobile, spread
from . import published as nets
from .builder import Blueprint, Builder
from .drawn import write_weights

__all__ = ["MODELS", "VERSION", "Blueprint", "Entry", "blueprint", "describe", "materialise", "names"]

VERSION = "1"
"""Changes whenever the contents of any built-in model do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the zoo: what the model is, in a line, and what builds it."""

    about: str
    build: Callable[[Builder], None]


MODELS: dict[str, Entry] = {
    "mobilenet_v1": Entry("MobileNet, 13 depthwise separable blocks", mobile.mobilenet_v1),
    "mobilenet_v2": Entry("MobileNetV2, 17 inverted residual blocks", mobile.mobilenet_v2),
    "mobilenet_v3": Entry("MobileNetV3-Large, 15 inverted residual blocks, 8 of them gated", mobile.mobilenet_v3),
    "efficientnet_b0": Entry("EfficientNet-B0, 16 gated inverted residual blocks", mobile.efficientnet_b0),
    "resnet18": Entry("ResNet-18, 8 basic blocks", partial(nets.resnet, block=nets.basic, depths=(2, 2, 2, 2))),
    "resnet50": Entry("ResNet-50, 16 bottlenecks", partial(nets.resnet, block=nets.bottleneck, depths=(3, 4, 6, 3))),
    "resnet101": Entry("ResNet-101, 33 bottlenecks", partial(nets.resnet, block=nets.bottleneck, depths=(3, 4, 23, 3))),
    "vgg16": Entry("VGG-16, 13 convolutions and 3 fully connected layers", nets.vgg),
    "inception_v1": Entry("Inception v1 (GoogLeNet), 9 modules of four branches", nets.inception),
    "bert_base": Entry("BERT base, 12 encoder layers of 12 heads, 128 tokens", encoders.bert),
    "vit_b16": Entry("ViT-B/16, 12 encoder layers of 12 heads, 197 tokens", encoders.vit),
    "whisper_tiny": Entry("encoder of Whisper tiny, 4 layers of 6 heads, 1500 tokens", encoders.whisper),
    "lstm": Entry("2 LSTM layers on a sound that comes in pieces, with their states in and out", encoders.lstm),
    "gpt2": Entry("GPT-2 small, 12 decoder layers of 12 heads, with their keys and values in and out", decoders.gpt2),
    "llama_tiny": Entry("Llama of 12 decoder layers of 12 heads, 4 of keys and values", decoders.llama),
    "llama_tiny_int4": Entry("the same with weights of 4 bits", partial(decoders.llama, is_packed=True)),
    "tiny_cnn": Entry("one of each convolutional pattern, 32 x 32", nets.tiny),
    "tiny_resnet": Entry(
        "a small ResNet, 4 bottlenecks, 64 x 64",
        partial(nets.resnet, block=nets.bottleneck, depths=(1, 2, 1), width=8, size=64, classes=10),
    ),
    "tiny_mobilenet": Entry(
        "a small MobileNetV2, 4 inverted residual blocks, 64 x 64",
        partial(
            mobile.mobilenet_v2,
            table=((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 1, 2)),
            stem=8,
            head=64,
            size=64,
            classes=10,
        ),
    ),
    "tiny_vgg": Entry(
        "a small VGG, 5 convolutions and 3 fully connected layers, 32 x 32",
        partial(nets.vgg, table=((8, 8), (16, 16), (32,)), hidden=64, size=32, classes=10),
    ),
    "tiny_inception": Entry(
        "a small Inception v1, 3 modules of four branches, 64 x 64",
        partial(
            nets.inception,
            table={"3a": (8, 8, 12, 4, 8, 4), "3b": (12, 8, 16, 4, 8, 8), "4a": (16, 12, 24, 4, 8, 8)},
            stem=(8, 16),
            size=64,
            classes=10,
        ),
    ),
    "tiny_bert": Entry(
        "a small BERT, 2 encoder layers of 4 heads, 16 tokens",
        partial(encoders.bert, layers=2, hidden=64, heads=4, intermediate=256, tokens=16, vocabulary=256, positions=32),
    ),
    "tiny_gpt2": Entry(
        "a small GPT-2, 2 decoder layers of 4 heads",
        partial(decoders.gpt2, layers=2, hidden=64, heads=4, vocabulary=256, positions=128),
    ),
    **{
        f"spread_{seed}": Entry(
            f"operators of many shapes, to be timed, {size} x {size}", partial(spread.build, seed=seed, size=size)
        )
        for seed, size in enumerate((224, 160, 192, 128), 1)
    },
}


def names() -> tuple[str, ...]:
    """Names of all built-in models."""
    return tuple(MODELS)


def describe(name: str) -> str:
    """One line about a model: architecture and number of parameters.

    Raises ModelError when there is no such model.
    """
    return f"{_entry(name).about}; {_millions(blueprint(name).parameters)} parameters"


def blueprint(name: str) -> Blueprint:
    """The graph of a model, its large weights not drawn yet.

    Raises ModelError when there is no such model.
    """
    builder = Builder(name)
    _entry(name).build(builder)
    return builder.finish()


def materialise(name: str, folder: Path) -> Path:
    """Write ``<name>.onnx`` and ``<name>.weights`` into `folder`, and return the path of the former.

    Both appear under their names only when complete, the .onnx file last. The bytes depend on `name` and `VERSION`
    alone.

    Raises ModelError when there is no such model, or the folder cannot be written.
    """
    model = blueprint(name)
    path = folder / f"{name}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with appearing(folder / f"{name}.weights") as part, part.open("wb") as file:
            write_weights(model.external, file)
        with appearing(path) as part:
            part.write_bytes(model.proto.SerializeToString(deterministic=True))
    except OSError as error:
        size = sum(weight.nbytes for weight in model.weights)
        raise ModelError(
            f"built-in model '{name}' ({size / 1e6:.1f} MB) cannot be written to '{folder}': "
            f"{error.strerror or error}; free space there or choose another folder"
        ) from error
    return path


def _entry(name: str) -> Entry:
    if name in MODELS:
        return MODELS[name]
    close = get_close_matches(name, MODELS, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise ModelError(f"there is no built-in model '{name}'{hint} (choose from: {', '.join(MODELS)})")


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 100_000 else f"{count / 1e3:.1f} k"
