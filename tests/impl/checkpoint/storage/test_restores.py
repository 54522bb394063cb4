"""What Orbax's own public API makes of a converted checkpoint: manager, checkpointer with a target, and version 1."""

from __future__ import annotations

import jax
import numpy as np
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as v1
import pytest

from impl.checkpoint import Request, convert_as
from tests.impl.checkpoint.saving import FORMS


@pytest.fixture(scope="module", params=["zarr2", "zarr3"])
def run(request, tmp_path_factory, linen_tree):
    """A manager's run of one step, its tree in the leaves of jax, and the same run converted to a stacked D2."""
    folder = tmp_path_factory.mktemp("run")
    tree = jax.tree.map(jax.numpy.asarray, linen_tree(3, -1))
    keys = jax.random.split(jax.random.key(11, impl="threefry2x32"), 3)
    rngs = {f"layers_{index}": {"rngs": {"params": {"key": keys[index]}}} for index in range(3)}
    tree["nnx_aux"] = {"model": {"decoder": rngs}}
    handler = ocp.PyTreeCheckpointHandler(**FORMS[request.param])
    names = {"items": handler, "notes": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder / "from", item_names=tuple(names), item_handlers=names) as manager:
        items = {"items": ocp.args.PyTreeSave(tree), "notes": ocp.args.JsonSave({"read": 40})}
        manager.save(12, args=ocp.args.Composite(**items), custom_metadata={"scan_layers": False, "lora": 4})
    options = {"to": "D2", "layout": "scanned", "scan_axis": 1}
    convert_as(Request(source=folder / "from", target=folder / "to", **options), lambda moved, total: None)
    return folder / "to", tree


def host(leaf):
    typed = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if typed else leaf)


def check(found, tree):
    """Every leaf of a restored D2 tree, stacked layers against the layers they were made of."""
    stacked = {"params": found["params"]["params"], "rngs": found["nnx_aux"]["model"]}
    stacked |= {name: found["opt_state"][0][name]["params"] for name in ("mu", "nu")}
    apart = {"params": tree["params"]["params"], "rngs": tree["nnx_aux"]["model"]}
    apart |= {name: tree["opt_state"][0][name]["params"] for name in ("mu", "nu")}
    count = 0
    for name, whole in stacked.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(whole)[0]:
            keys = [step.key for step in path]
            parts = [keys] if "layers" not in keys else [[keys[0], f"layers_{i}", *keys[2:]] for i in range(3)]
            layers = [host(follow(apart[name], part)) for part in parts]
            axis = 0 if name == "rngs" else min(1, layers[0].ndim)
            wanted = layers[0] if len(layers) == 1 else np.stack(layers, axis)
            mine = host(leaf)
            assert (mine.dtype, mine.shape, mine.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes()), keys
            count += 1
    assert count == 3 * 8 + 1
    assert [int(found["step"]), int(found["opt_state"][0]["count"]), int(found["opt_state"][2]["count"])] == [5, 5, 6]


def follow(node, keys):
    for key in keys:
        node = node[key]
    return node


def test_a_manager_restores_all_items_of_the_step(run):
    folder, tree = run
    with ocp.CheckpointManager(folder, item_names=("items", "notes")) as manager:
        assert manager.latest_step() == 12
        wanted = ocp.args.Composite(items=ocp.args.PyTreeRestore(), notes=ocp.args.JsonRestore())
        found = manager.restore(12, args=wanted)
        assert manager.metadata(12).custom_metadata == {"scan_layers": True, "lora": 4}
    check(found["items"], tree)
    assert found["notes"] == {"read": 40}


def test_a_checkpointer_restores_into_a_target_on_devices(run):
    folder, tree = run
    plain = ocp.PyTreeCheckpointer().restore(folder / "12" / "items")
    check(plain, tree)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def like(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here) if hasattr(leaf, "shape") else leaf

    found = ocp.StandardCheckpointer().restore(folder / "12" / "items", jax.tree.map(like, plain))
    assert isinstance(found["params"]["params"]["decoder"]["decoder_norm"]["scale"], jax.Array)
    check(found, tree)


def test_version_1_loads_it(run):
    folder, tree = run
    found = v1.load(folder / "12")
    check(found.get("items", found), tree)


def test_how_arrays_lay_on_devices_stays_noted_for_who_asks(run):
    folder, tree = run
    plain = ocp.PyTreeCheckpointer().restore(folder / "12" / "items")
    ask = jax.tree.map(lambda leaf: ocp.ArrayRestoreArgs(restore_type=jax.Array), plain)
    found = ocp.PyTreeCheckpointer().restore(folder / "12" / "items", args=ocp.args.PyTreeRestore(restore_args=ask))
    assert {type(leaf).__name__ for leaf in jax.tree.leaves(plain)} == {"ndarray", "PRNGKeyArray"}
    assert isinstance(found["params"]["params"]["decoder"]["layers"]["mlp"]["wo"]["kernel"], jax.Array)
    check(found, tree)


def test_the_items_folder_alone_becomes_a_folder_of_its_own(run, tmp_path):
    folder, tree = run
    options = {"to": "D2", "layout": "keep", "scan_axis": 1, "mode": "copy", "verify": "values"}
    request = Request(source=folder / "12" / "items", target=tmp_path / "alone", **options)
    moves = []
    convert_as(request, lambda moved, total: moves.append((moved, total)))
    assert sum(moved for moved, _ in moves) == moves[-1][1] == moves[0][1]
    check(ocp.PyTreeCheckpointer().restore(tmp_path / "alone"), tree)
    check(v1.load(tmp_path / "alone"), tree)
    noted = ocp.PyTreeCheckpointer().metadata(tmp_path / "alone")
    assert noted.custom_metadata == {"scan_layers": True, "lora": 4}
