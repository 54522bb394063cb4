"""Logical rules: order, conflicts and fallbacks against Flax's own resolver, files good and bad, meshes."""

from __future__ import annotations

import numpy as np
import pytest
from flax import linen as nn

from impl.config import ConfigError
from impl.params import declare
from impl.sharding.default import DEFAULT
from impl.sharding.mesh import abstract_mesh, sizes
from impl.sharding.rules import Rules, assigned, read_rules
from impl.tiny import FAMILIES, family

GOOD = """
mesh_axes: ['fsdp', 'tensor']
data_sharding: [['fsdp']]
logical_axis_rules: [
  ['embed', ['fsdp', 'tensor']],
  ['mlp', 'tensor'],
  ['embed', ['fsdp']],
  ['kv', []],
]
"""

ACTIVATIONS = (
    ("activation_batch", "activation_length", "activation_embed"),
    ("activation_batch", "activation_length", "activation_mlp"),
    ("activation_embed_and_logits_batch", "activation_norm_length", "activation_vocab"),
    ("cache_batch", "cache_sequence", "cache_heads", "cache_kv"),
    ("layers", "exp", "embed_moe", "mlp_moe"),
    ("q_lora", "layers", "q_heads", "kv"),
    ("embed", "kv_lora"),
)


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "rules.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def by_flax(names, rules):
    """What flax.linen makes of an ordered list, as one tuple of mesh axes for each name."""
    spec = nn.logical_to_mesh_axes(names, rules.logical)
    return [() if axes is None else (axes,) if isinstance(axes, str) else tuple(axes) for axes in spec]


def test_a_file_is_read_in_order(written):
    rules = read_rules(written(GOOD))
    assert rules.mesh_axes == ("fsdp", "tensor")
    assert rules.logical == (
        ("embed", ("fsdp", "tensor")),
        ("mlp", ("tensor",)),
        ("embed", ("fsdp",)),
        ("kv", ()),
    )
    assert rules.batch == DEFAULT.batch


def test_the_first_rule_that_fits_counts_and_a_conflict_falls_back(written):
    rules = read_rules(written(GOOD))
    assert assigned(("embed", "kv"), rules.logical) == {"embed": ("fsdp", "tensor"), "kv": ()}
    assert assigned(("embed", "mlp"), rules.logical) == {"embed": ("fsdp", "tensor"), "mlp": ()}
    later = Rules(name="later", mesh_axes=rules.mesh_axes, logical=rules.logical[1:])
    assert assigned(("embed", "mlp"), later.logical) == {"embed": ("fsdp",), "mlp": ("tensor",)}
    assert assigned(("unheard_of", None, "mlp"), rules.logical) == {"unheard_of": (), "mlp": ("tensor",)}


@pytest.mark.parametrize("seed", range(40))
def test_the_order_is_resolved_as_flax_resolves_it(seed):
    random = np.random.default_rng(seed)
    axes, words = ("a", "b", "c", "d"), ("u", "v", "w", "x", "y")
    logical = tuple(
        (str(random.choice(words)), tuple(map(str, random.permutation(axes)[: random.integers(0, 4)])))
        for _ in range(int(random.integers(3, 12)))
    )
    rules = Rules(name=f"drawn {seed}", mesh_axes=axes, logical=logical)
    for _ in range(10):
        names = tuple(map(str, random.permutation([*words, "unruled"])[: random.integers(1, 5)]))
        found = assigned(names, rules.logical)
        assert [found[name] for name in names] == by_flax(names, rules), (names, logical)


def test_the_default_rules_say_what_maxtext_says(maxtext):
    theirs = read_rules(maxtext("rules") / "default.yml")
    assert theirs.mesh_axes == DEFAULT.mesh_axes
    assert theirs.batch == DEFAULT.batch
    assert {name for name, _ in theirs.logical} - {name for name, _ in DEFAULT.logical} == {
        "activation_embed_and_logits_batch_sequence"
    }
    names = {row.axes for name in FAMILIES for row in declare(family(name))} | set(ACTIVATIONS)
    assert len(names) > 15
    for each in names:
        assert assigned(each, DEFAULT.logical) == assigned(each, theirs.logical), each
    for name, _ in DEFAULT.logical:
        assert assigned((name,), DEFAULT.logical) == assigned((name,), theirs.logical), name


@pytest.mark.parametrize("name", ["default", "pure-fsdp", "shard-exp-on-fsdp"])
def test_maxtexts_files_are_read(name, maxtext):
    rules = read_rules(maxtext("rules") / f"{name}.yml")
    assert assigned(("embed", "q_heads"), rules.logical)["embed"][0] == "fsdp"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mesh_axes: [", "cannot be read"),
        ("- a\n- b\n", "holds no keys and values"),
        ("mesh_axis: ['a']\nlogical_axis_rules: [['x', 'a']]", "has no mesh_axes; nearest: mesh_axis"),
        ("mesh_axes: ['a']", "has no logical_axis_rules"),
        ("mesh_axes: ['a']\nlogical_axis_rules: []", "must be a list of"),
        ("mesh_axes: ['a']\nlogical_axis_rules: [['x']]", r"rule 0 is \['x'\]"),
        ("mesh_axes: ['a']\nlogical_axis_rules: [['x', 3]]", r"rule 0 \(x\) is 3"),
        ("mesh_axes: {'a': 1}\nlogical_axis_rules: [['x', 'a']]", "mesh_axes is"),
        ("mesh_axes: ['fsdp']\nlogical_axis_rules: [['x', 'fdsp']]", "no mesh axis 'fdsp'; nearest: fsdp"),
        ("mesh_axes: ['a', 'a']\nlogical_axis_rules: [['x', 'a']]", "each of them once"),
        ("mesh_axes: ['a']\nlogical_axis_rules: [['x', ['a', 'a']]]", "uses a mesh axis twice"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(text, words, written):
    path = written(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_rules(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_rules(tmp_path / "none.yml")


def test_a_mesh_has_every_axis_and_fills_one():
    assert sizes({"tensor": 2, "fsdp": -1}, DEFAULT, 8) == {
        **dict.fromkeys(DEFAULT.mesh_axes, 1),
        "tensor": 2,
        "fsdp": 4,
    }
    mesh = abstract_mesh({"fsdp": 512, "expert": 3}, DEFAULT)
    assert mesh.axis_names == DEFAULT.mesh_axes
    assert mesh.size == 1536


@pytest.mark.parametrize(
    ("asked", "devices", "words"),
    [
        ({"fdsp": 2}, 8, "no mesh axis is called 'fdsp'.*nearest: fsdp"),
        ({"fsdp": 0}, 8, "fsdp=0"),
        ({"fsdp": -1}, 0, "cannot be filled"),
        ({"fsdp": -1, "tensor": -1}, 8, "cannot be filled"),
        ({"fsdp": -1, "tensor": 3}, 8, "cannot be filled"),
        ({"fsdp": 4, "tensor": 4}, 8, "16 devices"),
    ],
)
def test_a_mesh_that_makes_no_sense_is_refused(asked, devices, words):
    with pytest.raises(ConfigError, match=words):
        sizes(asked, DEFAULT, devices)
