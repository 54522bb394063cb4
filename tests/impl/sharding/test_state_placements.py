"""The whole train state on a mesh: both sides alike, scan axis and slots included, and as MaxText's goldens say."""

from __future__ import annotations

import json
import re

import pytest

from harness.placement import normalised
from impl.config import ConfigError
from impl.maxtext import read_maxtext
from impl.params import declare
from impl.sharding.default import DEFAULT
from impl.sharding.mesh import abstract_mesh
from impl.sharding.rules import Rules, read_rules
from impl.sides import side
from impl.tiny import FAMILIES, family
from impl.training.settings import TrainSettings

SIDES = ("linen", "nnx")
MESH = {"fsdp": 2, "fsdp_transpose": 2, "tensor": 2, "expert": 1, "stage": 3}
"""Sizes that divide a tiny model with 260 words: of 20 into fsdp and fsdp_transpose, of 44, of 3 layers."""

CASES = (
    ("qwen3-0.6b", "tpu7x-16", "default"),
    ("deepseek2-16b", "tpu7x-16", "default"),
    ("deepseek2-16b", "tpu7x-16", "pure-fsdp"),
    ("deepseek2-16b", "tpu7x-8", "shard-exp-on-fsdp_expert2"),
)


def asked(name, config, mesh=MESH, rules=DEFAULT, settings=None):
    return side(name).Trainer.placements(config, settings or TrainSettings(), abstract_mesh(mesh, rules), rules)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", FAMILIES)
def test_both_sides_place_every_leaf_alike(name, axis):
    config = family(name, scan_layers=True, param_scan_axis=axis, vocab_size=260)
    linen, nnx = (asked(each, config) for each in SIDES)
    assert set(linen) == set(nnx)
    assert {leaf: (linen[leaf], nnx[leaf]) for leaf in linen if linen[leaf] != nnx[leaf]} == {}


@pytest.mark.parametrize("name", SIDES)
def test_stacked_weights_and_slots_have_their_scan_axis_and_are_sharded_by_hand(name):
    found = asked(name, family("llama2", scan_layers=True, vocab_size=260))
    kernel = found["decoder/layers/*/mlp/wi_0/kernel"]
    assert kernel.logical == ("embed", "layers", "mlp")
    assert normalised(kernel.spec, MESH | dict.fromkeys(set(DEFAULT.mesh_axes) - set(MESH), 1)) == (
        ("fsdp",),
        ("stage",),
        ("fsdp_transpose", "tensor"),
    )
    assert (kernel.shape, kernel.shard, kernel.size) == ((20, 3, 44), (10, 1, 11), 10 * 1 * 11 * 4)
    assert found["0/mu/decoder/layers/*/mlp/wi_0/kernel"] == kernel
    assert found["0/nu/decoder/layers/*/mlp/wi_0/kernel"] == kernel
    assert found["step"].spec == ()
    assert found["step"].size == 4


@pytest.mark.parametrize("name", SIDES)
def test_every_parameter_is_there_with_its_declared_names(name):
    config = family("gemma2", vocab_size=260, num_decoder_layers=1)
    found = asked(name, config)
    declared = {row.name: (row.axes, row.shape) for row in declare(config)}
    assert {leaf: (found[leaf].logical, found[leaf].shape) for leaf in declared} == declared
    assert {leaf for leaf in found if leaf.startswith("0/nu/")} == {f"0/nu/{leaf}" for leaf in declared}


@pytest.mark.parametrize("name", SIDES)
def test_rules_without_a_word_for_a_name_replicate_it(name):
    rules = Rules(name="short", mesh_axes=("fsdp",), logical=(("embed", ("fsdp",)),))
    found = asked(name, family("llama2", vocab_size=260), {"fsdp": 4}, rules)
    assert found["decoder/decoder_norm/scale"].shard == (20,)
    assert found["decoder/layers/0/mlp/wi_0/kernel"].shard == (5, 44)
    assert found["token_embedder/embedding"].shard == (260, 20)


@pytest.mark.parametrize("name", SIDES)
def test_what_does_not_divide_is_refused_leaf_by_leaf(name):
    with pytest.raises(ConfigError, match=r"token_embedder/embedding\[259, 20\]: 259 at axis 0 over .*tensor.* \(2\)"):
        asked(name, family("llama2"))


def neutral(key):
    """A key of MaxText's golden -> this project's name: .opt_state/[0]/.mu/['params']/['x'] -> 0/mu/x."""
    parts = re.sub(r"[\[\]'.]", "", key).split("/")
    parts = [part for part in parts if part not in ("params", "opt_state")]
    return re.sub(r"(^|/)((?:\w+_)?layers)/", r"\1\2/*/", "/".join(parts))


def differing(folder, found):
    """A sentence for every entry in which `found` is not what the golden folder says."""
    named = json.loads((folder / "named_shardings.json").read_text())
    logical = json.loads((folder / "logical_shardings.json").read_text())
    golden = {neutral(key): (named[key], logical[key]) for key in named}
    # A stack of one layer is called by that layer's number here.
    found = {leaf.replace("layers/0/", "layers/*/"): placement for leaf, placement in found.items()}
    problems = [f"{leaf}: the golden has no such leaf" for leaf in found if leaf not in golden]
    for leaf, (placed, names) in golden.items():
        if leaf not in found:
            problems.append(f"{leaf}: absent here")
            continue
        ours, mesh = found[leaf], placed["mesh"]["shape"]
        spec = [[axes] if isinstance(axes, str) else axes or [] for axes in placed["partition_spec"]]
        spec += [[]] * (len(placed["shape"]) - len(spec))
        rows = {
            "shape": (placed["shape"], list(ours.shape)),
            "logical names": (names["partition_spec"], [None if name == "-" else name for name in ours.logical]),
            "spec": (normalised(tuple(map(tuple, spec)), mesh), normalised(ours.spec, mesh)),
        }
        problems += [f"{leaf}: {what} {a} in the golden, {b} here" for what, (a, b) in rows.items() if a != b]
    return problems


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize(("model", "topology", "rule"), CASES)
def test_maxtexts_goldens_hold_entry_by_entry(name, model, topology, rule, maxtext):
    folder = maxtext("shardings") / model / topology / f"rule_{rule}"
    config = read_maxtext(maxtext("models") / f"{model}.yml").overriding({"scan_layers": True})
    rules = read_rules(maxtext("rules") / f"{rule.partition('_')[0]}.yml")
    mesh = json.loads((folder / "named_shardings.json").read_text())[".step"]["mesh"]
    assert tuple(mesh["axis_names"]) == rules.mesh_axes
    found = asked(name, config, mesh["shape"], rules)
    problems = differing(folder, found)
    print("\n".join(problems) or f"{len(found)} entries alike")
    assert problems == []


def test_a_golden_that_says_something_else_is_told_apart(tmp_path, maxtext):
    folder = maxtext("shardings") / "qwen3-0.6b" / "tpu7x-16" / "rule_default"
    config = read_maxtext(maxtext("models") / "qwen3-0.6b.yml").overriding({"scan_layers": True})
    for file in ("named_shardings.json", "logical_shardings.json"):
        content = json.loads((folder / file).read_text())
        key = ".opt_state/[0]/.nu/['params']/['decoder']/['layers']/['mlp']/['wo']/['kernel']"
        content[key]["partition_spec"].reverse()
        content.pop(".opt_state/[2]/.count")
        (tmp_path / file).write_text(json.dumps(content))
    problems = differing(tmp_path, asked("nnx", config, {"fsdp": 16}))
    assert [problem.split(" in the golden")[0].split(" [")[0].split(" (")[0] for problem in problems] == [
        "2/count: the golden has no such leaf",
        "0/nu/decoder/layers/*/mlp/wo/kernel: logical names",
        "0/nu/decoder/layers/*/mlp/wo/kernel: spec",
    ]
