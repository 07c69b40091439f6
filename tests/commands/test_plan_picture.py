from __future__ import annotations

import json

import pytest

TINY = "builtin:tiny_cnn"
NAMES = {"plan.png", "plan.svg", "plan-dark.png", "plan-dark.svg"}


@pytest.fixture
def plan(here, tmp_path):
    code, _, err = here(
        "plan", "--model", TINY, "--ranks", 3, "--layout", "rows", "--weights", "2,1,1", "--output", tmp_path / "p.json"
    )
    assert code == 0, err
    return tmp_path / "p.json"


def test_a_plan_is_drawn(here, plan, tmp_path):
    code, out, err = here("report", "--plan", plan, "--output", tmp_path / "pictures", "--json", tmp_path / "r.json")
    assert (code, err) == (0, "") and "segments" in out and "plan-dark.svg" in "".join(out.split())
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == NAMES
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["plan"] == json.loads(plan.read_text()) and record["redundant_share"] >= 0
    assert [path.rpartition("/")[2] for path in record["pictures"]] == [
        "plan.png",
        "plan.svg",
        "plan-dark.png",
        "plan-dark.svg",
    ]


def test_a_plan_of_an_unknown_model_is_drawn_without_messages(here, plan, tmp_path):
    text = plan.read_text().replace('"model": "tiny_cnn"', '"model": "my own"')
    plan.write_text(text)
    code, out, _ = here("report", "--plan", plan, "--output", tmp_path / "mine.svg")
    assert (
        code == 0 and "not known without the model" in " ".join(out.split()) and "give --model" in " ".join(out.split())
    )
    assert {path.name for path in tmp_path.glob("mine*")} == {name.replace("plan", "mine") for name in NAMES}
    code, out, _ = here("report", "--plan", plan, "--model", TINY, "--output", tmp_path / "mine.svg")
    assert code == 0 and " in " in out and "give --model" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plan", "{plan}"], "give --output"),
        (["--plan", "{folder}/none.json", "--output", "{folder}/x"], "none.json' cannot be read"),
        (["--plan", "{plan}", "--output", "{plan}/x"], "no folder"),
        (["--plan", "{plan}", "--output", "{folder}", "--model", "builtin:tiny_vgg"], "another model"),
        (["{folder}/r.jsonl", "--plan", "{plan}", "--output", "{folder}"], "one of the two"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(here, plan, tmp_path, words, said):
    code, out, err = here("report", *(word.format(plan=plan, folder=tmp_path) for word in words))
    assert code == 2 and said in err and err.count("\n") == 1 and not out
    assert not list(tmp_path.glob("*.png"))
