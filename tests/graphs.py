"""Small graphs made by hand, for tests of everything that knows no ONNX."""

from __future__ import annotations

from flexpie_mpi.core.graph import Graph, Node, Value


class GraphBuilder:
    """Collects nodes; every method returns the name of the value it adds."""

    def __init__(self, shape: tuple[int, ...] = (1, 4, 12, 10)) -> None:
        self.values = {"x": Value("x", shape, "float32")}
        self.nodes: list[Node] = []

    def node(self, op, inputs, shape, dtype="float32", **attributes) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.values[name] = Value(name, shape, dtype)
        self.nodes.append(Node(name, op, tuple(inputs), (name,), attributes=tuple(sorted(attributes.items()))))
        return name

    def weight(self, shape) -> str:
        name = f"w{len(self.values)}"
        self.values[name] = Value(name, shape, "float32", is_constant=True)
        return name

    def conv(self, x, channels=None, kernel=3, stride=1) -> str:
        n, c, h, w = self.values[x].shape
        m, pad = channels or c, kernel // 2
        size = [(extent + 2 * pad - kernel) // stride + 1 for extent in (h, w)]
        weight = self.weight((m, c, kernel, kernel))
        return self.node(
            "Conv", (x, weight), (n, m, *size), kernel_shape=(kernel, kernel), pads=(pad,) * 4, strides=(stride,) * 2
        )

    def relu(self, x) -> str:
        return self.node("Relu", (x,), self.values[x].shape)

    def add(self, a, b) -> str:
        return self.node("Add", (a, b), self.values[a].shape)

    def concat(self, *names) -> str:
        n, _, h, w = self.values[names[0]].shape
        channels = sum(self.values[name].shape[1] for name in names)
        return self.node("Concat", names, (n, channels, h, w), axis=1)

    def pool(self, x) -> str:
        n, c, _, _ = self.values[x].shape
        return self.node("GlobalAveragePool", (x,), (n, c, 1, 1))

    def graph(self, *outputs: str) -> Graph:
        return Graph("test", tuple(self.nodes), dict(self.values), ("x",), outputs)


def residual() -> Graph:
    b = GraphBuilder()
    stem = b.relu(b.conv("x", 6))
    body = b.conv(b.relu(b.conv(stem)))
    return b.graph(b.conv(b.relu(b.add(stem, body)), 5, stride=2))


def branches() -> Graph:
    b = GraphBuilder()
    stem = b.conv("x", 6)
    joined = b.concat(b.conv(stem, 3, 1), b.conv(stem, 4, 3), b.conv(b.conv(stem, 2, 1), 2, 5))
    return b.graph(b.pool(joined), b.relu(joined))


def chain(length: int = 5) -> Graph:
    b = GraphBuilder()
    x = "x"
    for _ in range(length):
        x = b.conv(x)
    return b.graph(x)


GRAPHS = {"residual": residual(), "branches": branches(), "chain": chain()}
