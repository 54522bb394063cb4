"""`harness shardings` as a user types it, on a pair that knows of no model, and on impl's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.cli import obeyed
from harness.pair import NoShardings, Pair, Side
from harness.placement import Placement, normalised, placed, where_different

MESH = {"rows": 2, "columns": 4}
KERNEL = Placement(logical=("in", "out"), spec=(("rows",), ("columns", "thin")), shape=(6, 8), shard=(3, 2), size=24)
WHOLE = replace(KERNEL, spec=((), ()), shard=(6, 8), size=192)
STATE = {"step": Placement(logical=(), spec=(), shape=(), shard=(), size=4), "b/0/k": KERNEL, "b/1/k": KERNEL}


def shardings(settings, mesh, rules):
    if rules == "bad":
        raise NoShardings("rule 3 names no axis")
    assert mesh == MESH
    return STATE if settings["sharded"] else STATE | {"b/1/k": WHOLE}


def loses(settings, mesh, rules):
    return {name: value for name, value in STATE.items() if name != "step"}


def pair_of(**functions):
    sides = {
        name: Side(name=name, frameworks=frozenset(), programs={}, shardings=function)
        for name, function in functions.items()
    }
    models = {"small": lambda: {"sharded": True}, "replicated": lambda: {"sharded": False}}
    return Pair(name="toy", sides=sides, prepare=lambda settings, seed: ({}, {}), models=models)


@pytest.fixture
def asked(monkeypatch, capsys):
    """Runs the command on a toy pair; (exit code, output, errors)."""

    def ask(pair, *words):
        monkeypatch.setattr("harness.cli.shardings.load_pair", lambda spec: pair)
        code = obeyed(["shardings", "--mesh", "rows=2,columns=4", *words])
        return code, *capsys.readouterr()

    return ask


ALIKE = pair_of(left=shardings, right=shardings)
APART = pair_of(left=shardings, right=lambda *words: shardings({"sharded": False}, *words[1:]))
SIDES = ("--sides", "left:right")


def test_alike_sides_are_shown_in_one_row_for_each_kind_of_leaf(asked):
    code, out, _ = asked(ALIKE, *SIDES, "--model", "small")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["b/*/k", "(x2)", "[6,8]", *2 * ["(in,", "out)", "(rows,", "columns)", "[3,2]", "24"]] in rows
    assert "Bytes per device: left 52, right 52\n3 leaves, 0 placed differently.\n" in out
    assert "≠" not in out


def test_what_differs_is_marked_and_summed(asked, tmp_path):
    path = tmp_path / "table.json"
    code, out, _ = asked(APART, *SIDES, "--model", "small", "--json", str(path))
    assert code == 1
    assert "≠ b/1/k: spec, shard, bytes\n3 leaves, 1 placed differently.\n" in out
    assert "Bytes per device: left 52, right 220 ≠" in out
    found = json.loads(path.read_text())
    assert found["bytes_per_device"] == {"left": 52, "right": 220}
    assert [row["different"] for row in found["leaves"]] == [[], [], ["spec", "shard", "bytes"]]
    assert found["leaves"][2]["right"]["shard"] == [6, 8]


def test_a_leaf_that_one_side_lacks_is_marked(asked):
    code, out, _ = asked(pair_of(left=shardings, right=loses), *SIDES, "--model", "small")
    assert code == 1
    assert "≠ step: absent" in out


def test_settings_are_laid_over_the_model(asked):
    assert asked(ALIKE, *SIDES, "--model", "replicated")[1].count("192") == 2
    assert "192" not in asked(ALIKE, *SIDES, "--model", "replicated", "--settings", '{"sharded": true}')[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "smal"), "no model is called 'smal': did you mean small"),
        (("--model", "small", "--rules", "bad"), "left: rule 3 names no axis"),
        (("--model", "small", "--mesh", "rows"), "'rows' is not AXIS=N"),
        (("--model", "small", "--mesh", "rows=2,rows=2"), "'rows=2' is not AXIS=N"),
        (("--model", "small", "--mesh", "rows=-1"), "'rows=-1' is not AXIS=N"),
        (("--model", "small", "--sides", "left"), "write it as LEFT:RIGHT"),
        (("--model", "small", "--sides", "left:rihgt"), "no side is called 'rihgt'"),
        (("--model", "small", "--settings", "{"), "is not JSON"),
        (("--model", "small", "--settings", "[1]"), "is a list"),
    ],
)
def test_bad_usage_is_a_sentence_and_exit_code_2(words, sentence, asked):
    code, out, err = asked(ALIKE, *SIDES, *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_pair_that_offers_none_is_refused_with_a_sentence(asked):
    silent = replace(ALIKE, sides={name: replace(side, shardings=Side.shardings) for name, side in ALIKE.sides.items()})
    code, out, err = asked(silent, *SIDES, "--model", "small")
    assert (code, out) == (2, "")
    assert err == "harness: left: this pair's sides do not say where their state lives on a mesh (Side.shardings)\n"


def test_axes_of_size_one_shard_nothing_and_order_counts():
    assert normalised(KERNEL.spec, {**MESH, "thin": 1}) == (("rows",), ("columns",))
    other = replace(KERNEL, spec=(("rows", "thin"), ("columns",)))
    assert where_different(KERNEL, other, MESH) == ()
    assert where_different(KERNEL, other, {**MESH, "thin": 2}) == ("spec",)
    turned = replace(KERNEL, spec=(("rows",), ("thin", "columns")))
    assert where_different(KERNEL, turned, {**MESH, "thin": 2}) == ("spec",)
    assert where_different(KERNEL, replace(KERNEL, memory="pinned_host"), MESH) == ("memory",)
    assert where_different(KERNEL, replace(KERNEL, logical=("in", "-")), MESH) == ("logical",)
    assert where_different(KERNEL, None, MESH) == ("absent",)


def test_rows_join_only_leaves_that_are_placed_alike_on_each_side():
    rows = placed(STATE, STATE | {"b/1/k": WHOLE, "more": WHOLE}, MESH)
    assert [(row.name, row.count, bool(row.different)) for row in rows] == [
        ("step", 1, False),
        ("b/0/k", 1, False),
        ("b/1/k", 1, True),
        ("more", 1, True),
    ]


def test_impl_answers_with_rules_of_a_file(tmp_path, capsys):
    rules = tmp_path / "rules.yml"
    rules.write_text("mesh_axes: [fsdp]\nlogical_axis_rules: [[embed, fsdp], [embed_vocab, fsdp]]\n")
    words = ["shardings", "--model", "qwen3-0.6b", "--settings", '{"overriding": {"scan_layers": true}}']
    assert obeyed([*words, "--mesh", "fsdp=4", "--rules", str(rules)]) == 0
    out = capsys.readouterr().out
    assert "42 leaves, 0 placed differently." in out
    row = next(line for line in out.splitlines() if line.startswith("    decoder/layers/*/mlp/wi_0/kernel "))
    assert row.split() == [
        "decoder/layers/*/mlp/wi_0/kernel",
        "[1024,28,3072]",
        *2 * ["(embed,", "layers,", "mlp)", "(fsdp,", "-,", "-)", "[256,28,3072]", "88,080,384"],
    ]


@pytest.mark.parametrize(
    ("mesh", "text", "sentence"),
    [
        ("fsdp=4", "mesh_axes: [fsdp\n", "cannot be read"),
        ("tensor=2", "mesh_axes: [fsdp]\nlogical_axis_rules: [[embed, fsdp]]\n", "no mesh axis is called 'tensor'"),
        ("fsdp=3", "mesh_axes: [fsdp]\nlogical_axis_rules: [[embed, fsdp]]\n", "these do not divide"),
    ],
)
def test_impl_refuses_rules_and_meshes_with_exit_code_2(mesh, text, sentence, tmp_path, capsys):
    rules = tmp_path / "rules.yml"
    rules.write_text(text)
    assert obeyed(["shardings", "--model", "qwen3-0.6b", "--mesh", mesh, "--rules", str(rules)]) == 2
    caught = capsys.readouterr()
    assert sentence in caught.err
    assert caught.err.count("\n") == 1
