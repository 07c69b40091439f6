"""The picture of a plan: what it shows, where it puts it, and that no text meets another."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from flexpie_mpi import Layout, Plan, Segment, layout_plan, load
from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.lower import lower, turns_of
from flexpie_mpi.report import planview
from flexpie_mpi.report.figure import image, painted, save
from flexpie_mpi.report.planpicture import plan_picture, plan_words
from flexpie_mpi.report.planview import CLOSED, panels
from flexpie_mpi.report.theme import LIGHT, THEMES
from tests.planners import planned


@pytest.fixture(scope="module")
def graph():
    return load("builtin:tiny_cnn").graph


def plan_view(plan, graph=None):
    """The view of a plan that is lowered for its graph, where there is one."""
    return planview.plan_view(plan, graph, turns_of(plan, graph) if graph else ())


def parts(view, name):
    """Every rank's part of a node."""
    return next(row for s in view.segments for node, row in zip(s.nodes, s.parts, strict=True) if node == name)


def widest(text):
    """A measure without letters."""
    return 0.06 * len(text)


# What is shown


def test_messages_are_those_of_the_programs(graph):
    plan = layout_plan(graph, 4, "rows", fusion="none")
    view, programs = plan_view(plan, graph), lower(plan, graph)
    assert len(view.exchanges) == len(plan.segments) + 1
    sent = sorted(
        (e.index, e.kind, m.source, m.target, m.nbytes) for p in programs for e in p.exchanges for m in e.sends
    )
    assert sorted((index, e.kind, *link) for index, e in enumerate(view.exchanges) for link in e.links) == sent and sent
    assert {e.kind for e in view.exchanges if not e.links} == {""}


def test_shares_add_up_and_the_halo_grows_towards_the_front(graph):
    fused = plan_view(layout_plan(graph, 3, "rows", fusion="all-legal"), graph)
    for segment in fused.segments:
        for row in segment.parts:
            assert sum(part.share for part in row) == pytest.approx(1.0) and all(part.total <= 1.0 for part in row)
    chain = ["stem", "residual.conv1", "residual.conv2"]
    again = [sum(part.again for part in parts(fused, name)) for name in chain]
    assert again == sorted(again, reverse=True) and again[0] > again[-1] and fused.redundant > 0
    alone = plan_view(layout_plan(graph, 3, "rows", fusion="none"), graph)
    assert all(part.again == 0.0 for segment in alone.segments for row in segment.parts for part in row)
    assert alone.redundant == 0.0 and "no redundant work" in plan_words(alone)


def test_every_rank_of_a_replicated_segment_has_all_of_it(graph):
    names = tuple(node.name for node in graph.nodes)
    plan = Plan((Segment(names, Layout("replicated", (0, 2))),), 3, graph.digest)
    (segment,) = plan_view(plan, graph).segments
    assert all([part.share for part in row] == [1.0, 0.0, 1.0] for row in segment.parts)
    assert all(part.again == 0.0 for row in segment.parts for part in row)


@pytest.mark.parametrize("is_known", [True, False])
def test_replicas_each_have_a_share_of_the_requests(graph, is_known):
    half = len(graph.nodes) // 2
    names = [node.name for node in graph.nodes]
    solo = [Layout("single", (rank,)) for rank in range(3)]
    stages = (Segment(tuple(names[:half]), solo[0]), Segment(tuple(names[half:]), solo[1], replicas=(solo[2],)))
    plan = Plan(stages, 3, graph.digest)
    view = plan_view(plan, graph if is_known else None)
    assert [segment.ranks for segment in view.segments] == [(0,), (1, 2)]
    assert {tuple(part.share for part in row) for row in view.segments[1].parts} == {(0.0, 0.5, 0.5)}
    if is_known:
        turns = [plan_view(plan.variant(turn), graph).exchanges[1] for turn in range(2)]
        assert view.exchanges[1].nbytes == turns[0].nbytes == turns[1].nbytes
        assert {target for _, target, _ in view.exchanges[1].links} == {1, 2}


@pytest.mark.parametrize(
    ("layout", "shares"),
    [
        (Layout("rows", (0, 2), weights=(3, 1)), (0.75, 0.0, 0.25)),
        (Layout("channels", (0, 1, 2)), (1 / 3, 1 / 3, 1 / 3)),
        (Layout("single", (1,)), (0.0, 1.0, 0.0)),
        (Layout("grid", (0, 1), weights=(1, 3, 1), grid=(1, 2)), (0.75, 0.25, 0.0)),
    ],
)
def test_a_plan_alone_shows_what_its_layouts_say(graph, layout, shares):
    names = tuple(node.name for node in graph.nodes)
    view = plan_view(Plan((Segment(names, layout),), 3, graph.digest))
    assert all([part.share for part in row] == pytest.approx(shares) for row in view.segments[0].parts)
    assert view.redundant is None and "not known without the model" in plan_words(view)


def test_another_model_is_refused(graph):
    with pytest.raises(PlanError, match="another model"):
        plan_view(layout_plan(graph, 2, "rows"), load("builtin:tiny_vgg").graph)


def pooled_in_parts(graph, layout):
    """The network by rows, its average in parts of a layout."""
    names, pool = [node.name for node in graph.nodes], next(n for n in graph.nodes if n.op == "GlobalAveragePool")
    at, everyone = names.index(pool.name), layout.ranks
    spans = (names[: at - 1], Layout("rows", everyone)), (names[at - 1 : at + 1], layout), (names[at + 1 :], None)
    segments = (Segment(tuple(span), each or Layout("channels", everyone)) for span, each in spans)
    return Plan(tuple(segments), len(everyone), graph.digest), pool.name


@pytest.mark.parametrize("weights", [(), (3, 1, 0)])
def test_what_ranks_share_of_a_sum_is_their_part_and_has_a_sign(graph, weights):
    plan, pool = pooled_in_parts(graph, Layout("rows", (0, 1, 2), weights, in_parts=True))
    view = plan_view(plan, graph)
    read = next(node for node in graph.nodes if node.name == pool).inputs[0]
    regions = [plan.segments[1].layout.region(graph.value(read).shape, rank) for rank in range(3)]
    shares = [region.size / graph.value(read).size if region else 0.0 for region in regions]
    assert [part.share for part in parts(view, pool)] == pytest.approx(shares)
    assert all(part.again == 0.0 for part in parts(view, pool))
    assert [segment.parted for segment in view.segments] == [(), (0, 1) if weights else (0, 1, 2), ()]
    texts, _ = looks(painted(plan_picture(view), LIGHT))
    assert "part of a sum" in [text for text, _ in texts]
    plain, _ = looks(painted(plan_picture(plan_view(layout_plan(graph, 3, "rows"), graph)), LIGHT))
    assert "part of a sum" not in [text for text, _ in plain]


# Where it lies


@pytest.mark.parametrize("width", [2.0, 8.4, 200.0])
def test_panels_hold_every_segment_once_and_keep_to_the_width(graph, width):
    view = plan_view(layout_plan(graph, 3, "rows", fusion="none"), graph)
    found = panels(view, width, widest)
    assert [box.segment.index for panel in found for box in panel.boxes] == list(range(len(view.segments)))
    assert [gap.index for panel in found for gap in panel.gaps] == list(range(len(view.exchanges)))
    assert (len(found) == 1) is (width == 200.0)
    for panel in found:
        assert panel.right <= width + 1e-9
        spans = sorted([*(g.span for g in panel.gaps), *(b.span for b in panel.boxes)], key=lambda span: span.left)
        assert all(a.right == pytest.approx(b.left) and a.width > 0 for a, b in pairwise(spans))
        labels = [(gap.span.centre, max(map(widest, gap.label)) / 2) for gap in panel.gaps if gap.label]
        assert all(a + half <= b - other for (a, half), (b, other) in pairwise(labels))
        names = [(caption.left, caption.left + widest(caption.text)) for caption in panel.captions]
        assert all(a[1] <= b[0] or b[1] <= a[0] for a, b in combinations(names, 2))


def test_a_gap_without_messages_is_narrow_and_unequal_shares_are_told(graph):
    names = tuple(node.name for node in graph.nodes)
    weighted = Layout("rows", (0, 1), weights=(3, 1))
    spans = (names[:1], names[1:2], names[2:])  # a ReLU reads what its rank has
    segments = tuple(Segment(span, weighted) for span in spans)
    view = plan_view(Plan(segments, 2, graph.digest), graph)
    (panel,) = panels(view, 8.0, widest)
    assert not view.exchanges[1].links and not panel.gaps[1].label
    assert panel.gaps[1].span.width <= 2 * CLOSED < panel.gaps[0].span.width
    assert [caption.text for caption in panel.captions if "%" in caption.text] == ["stem  75:25 %"]


# How it looks


def looks(figure):
    """Boxes of all texts, in pixels, by what they say, and the box of the whole picture."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts], figure.bbox


CASES = [
    ("tiny_cnn", 1, "single", {}),
    ("tiny_cnn", 2, "rows", {"fusion": "all-legal"}),
    ("tiny_cnn", 3, "rows", {"fusion": "none", "weights": (4, 2, 1)}),
    ("tiny_cnn", 16, "rows", {}),
    ("tiny_inception", 4, "grid", {"fusion": "all-legal", "grid": (2, 2)}),
    ("tiny_bert", 8, "channels", {}),
    ("tiny_bert", 4, "auto", {}),
    ("tiny_mobilenet", 4, "auto", {}),
]


@pytest.mark.parametrize(("name", "ranks", "planner", "options"), CASES)
def test_no_text_meets_another_or_leaves_the_picture(name, ranks, planner, options):
    graph = load(f"builtin:{name}").graph
    plan = planned(graph, ranks, planner) if planner == "auto" else layout_plan(graph, ranks, planner, **options)
    for view in (plan_view(plan, graph), *([plan_view(plan)] if name == "tiny_cnn" else [])):
        texts, picture = looks(painted(plan_picture(view), LIGHT))
        for said, box in texts:
            assert box.x0 >= picture.x0 and box.x1 <= picture.x1 and box.y0 >= picture.y0 and box.y1 <= picture.y1, said
        for (one, a), (other, b) in combinations(texts, 2):
            assert not a.overlaps(b), (one, other)
        said = [text for text, _ in texts]
        assert all(str(segment.index) in said for segment in view.segments)
        assert said.count("rank 0") >= 1 and f"on {ranks} rank" in " ".join(said)


def test_names_and_labels_keep_to_their_segments(graph):
    """What is measured for placing is what is drawn."""
    view = plan_view(layout_plan(graph, 3, "rows", fusion="none"), graph)
    texts, picture = looks(painted(plan_picture(view), LIGHT))
    rows = {}
    for said, box in texts:
        rows.setdefault(round((box.y0 + box.y1) / 2), []).append((box.x0, box.x1, said))
    assert max(box.x1 for _, box in texts) <= picture.x1
    close = [(a, b) for row in rows.values() for a, b in pairwise(sorted(row)) if b[0] - a[1] < 3]
    assert not close


def test_pictures_are_saved_for_both_themes_and_always_alike(graph, tmp_path):
    draw = plan_picture(plan_view(layout_plan(graph, 2, "rows"), graph))
    paths = save(draw, tmp_path, "plan")
    assert sorted(path.name for path in paths) == ["plan-dark.png", "plan-dark.svg", "plan.png", "plan.svg"]
    assert all(path.stat().st_size > 4000 for path in paths)
    for theme, stem in zip(THEMES, ("plan", "plan-dark"), strict=True):
        again = image(painted(draw, theme), theme, "svg")
        assert (tmp_path / f"{stem}.svg").read_bytes() == again and b"<svg" in again
        assert theme.kinds["rows"].encode() in again and theme.paper.encode() in again
