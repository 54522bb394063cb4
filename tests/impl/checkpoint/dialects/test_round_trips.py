"""Random trees there and back: any dialect, layout, optimizer, dtypes and state; every byte has to return.

Nothing is converted through the disk here, so that hypothesis can try hundreds of trees in a second or two.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impl.checkpoint import KeyArray
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.leaves.tree import nest
from tests.impl.checkpoint import zoo
from tests.impl.checkpoint.dialects.test_dialects import moved, normal, same
from tests.impl.checkpoint.entropic import with_entropy

BOUNDED = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "int8", "uint8")
GROUPS = ("layers", "dense_layers", "moe_layers", "layers_outside_pipeline")
NAMES = ("kernel", "bias", "scale", "embedding", "sinks", "lora_a.kernel", "value_norm", "params", "layers_0")


@st.composite
def array(draw, shape, dtype):
    """Any bytes at all: NaNs with payloads, infinities and signed zeros included."""
    size = int(np.prod(shape, dtype=int))
    seed = draw(st.integers(0, 2**32 - 1))
    known = np.dtype(getattr(ml_dtypes, dtype, dtype))
    if dtype == "int4":
        return np.random.default_rng(seed).integers(-8, 8, shape).astype(known)
    return np.frombuffer(np.random.default_rng(seed).bytes(size * known.itemsize), known).reshape(shape)


@st.composite
def layer_shapes(draw):
    """{path inside a layer: (shape, dtype)}: modules of one or two levels."""
    places = ("mlp", "norm", "self_attention/query", "moe/gate")
    modules = draw(st.lists(st.sampled_from(places), min_size=1, unique=True))
    found = {}
    for module in modules:
        for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
            shape = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
            found[f"{module}/{name}"] = (shape, draw(st.sampled_from(DTYPES)))
    return found


@st.composite
def linen_states(draw):
    """(a D1 or D2 train state, the scan axis of its stacks, whether they are stacks)."""
    scanned, axis, aux = draw(st.booleans()), draw(st.integers(0, 2)), draw(st.booleans())
    groups = draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2, unique=True))
    depths = {group: draw(st.integers(1, 12)) for group in groups}
    shapes = {group: draw(layer_shapes()) for group in groups}
    slots = draw(st.sampled_from(((), ("mu",), ("mu", "nu"))))

    def tree():
        found = {"token_embedder/embedding": draw(array((3, 2), draw(st.sampled_from(DTYPES))))}
        for group, depth in depths.items():
            for rest, (shape, dtype) in shapes[group].items():
                layers = [draw(array(shape, dtype)) for _ in range(depth)]
                found |= placed(group, rest, layers, min(axis, len(shape)) if scanned else -1)
        return zoo.nest(found)

    state = {"params": {"params": tree()}, "step": draw(array((), "uint8")).astype(np.int32)}
    moments = {slot: {"params": tree()} for slot in slots}
    if moments or draw(st.booleans()):
        count = {"count": np.int32(draw(st.integers(-(2**31), 2**31 - 1)))}
        state["opt_state"] = [{**count, **moments}, None, count]
    if aux:
        streams = {}
        for group, depth in depths.items():
            keys = [KeyArray(draw(array((2,), "uint8")).astype(np.uint32), "threefry2x32") for _ in range(depth)]
            streams |= placed(group, "dropout/rngs/dropout/key", keys, 0 if scanned else -1)
        state["nnx_aux"] = {"model": zoo.nest(streams)}
    return state, axis, scanned


def placed(group, rest, layers, axis):
    if axis < 0:
        return {f"decoder/{group}_{i}/{rest}": layer for i, layer in enumerate(layers)}
    if isinstance(layers[0], KeyArray):
        return {f"decoder/{group}/{rest}": KeyArray(np.stack([key.words for key in layers]), layers[0].impl)}
    return {f"decoder/{group}/{rest}": np.stack(layers, axis)}


@BOUNDED
@given(linen_states(), st.sampled_from(("D2", "D3", "D4")))
def test_to_another_dialect_and_back(drawn, dialect):
    state, _, _ = drawn
    same(moved(moved(state, dialect), "D2"), state)


@BOUNDED
@given(linen_states(), st.sampled_from(("D2", "D3", "D4")))
def test_to_another_layout_and_dialect_and_back(drawn, dialect):
    state, axis, scanned = drawn
    there, back = ("unscanned", "scanned") if scanned else ("scanned", "unscanned")
    same(moved(moved(state, dialect, there, axis=axis), "D2", back, axis=axis), state)


@BOUNDED
@given(linen_states())
def test_reading_moves_and_copies_no_leaf(drawn):
    flat = normal(drawn[0])
    canonical = canonicalise(flat)
    trees = (canonical.weights, canonical.aux, canonical.step, canonical.scalars, *canonical.slots.values())
    leaves = [id(leaf) for tree in trees for leaf in tree.values()]
    assert sorted(leaves) == sorted(map(id, flat.leaves.values()))


@BOUNDED
@given(st.sampled_from(zoo.DIALECTS), st.sampled_from(zoo.DIALECTS), st.sampled_from(tuple(zoo.LAYOUTS)))
def test_entropy_commutes_with_every_conversion(source, target, layout):
    state = zoo.tree(source, layout, "muon", "fp8")
    made = normal(moved(state, target))
    there = zoo.LAYOUTS[layout].axis
    same(with_entropy(made)[0], moved(entropic(state), target, axis=there))


def entropic(state):
    flat, _, _ = with_entropy(normal(state))
    return nest(flat)
