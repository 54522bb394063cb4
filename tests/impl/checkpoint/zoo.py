"""Trees of every dialect, optimizer, layout and kind of state, written down without the code that converts them."""

from __future__ import annotations

import numpy as np

from tests.impl.checkpoint.parts import LAYOUTS, beside, values, weights

__all__ = [
    "LAYOUTS",
    "LOSSY",
    "NESTED",
    "OPTIMIZERS",
    "STATES",
    "bare",
    "nest",
    "numbered",
    "tree",
    "values",
    "weights",
]

DIALECTS = ("D1", "D2", "D3", "D4")
OPTIMIZERS = ("adamw", "adamw_mask", "adam_pax", "sgd", "muon", "trainable", "skip", "none")
MATRICES = ("wi_0/kernel", "wo/kernel")
STATES = ("none", "reference", "fp8", "aqt", "batch_stats", "rngs", "lora", "counters")
NESTED = ("muon", "trainable", "skip")
LOSSY = (*NESTED, "adamw_mask")  # hold empty states that only Linen writes


def nest(leaves):
    """{"a/b": leaf} to nested dicts; what lies below frozen/scale becomes a list."""
    tree = {}
    for path, leaf in leaves.items():
        node, parts = tree, path.split("/")
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = leaf
    return listed(tree)


def listed(node):
    if not isinstance(node, dict):
        return node
    found = {key: listed(child) for key, child in node.items()}
    if "qvalue" in found:
        found["scale"] = [found["scale"][str(i)] for i in range(len(found["scale"]))]
    return found


def numbered(leaves, nnx):
    """NNX keeps the layers of a group as a list of numbers."""
    if not nnx:
        return leaves
    turned = {}
    for path, leaf in leaves.items():
        parts = path.split("/")
        head, _, index = parts[1].rpartition("_") if parts[0] == "decoder" else ("", "", "")
        if head in ("layers", "dense_layers", "moe_layers", "layers_outside_pipeline") and index.isdecimal():
            parts[1:2] = [head, index]
        turned["/".join(parts)] = leaf
    return turned


def chain(linen, *links):
    return list(links) if linen else {str(i): link for i, link in enumerate(links) if link is not None}


def optimizer(kind, make, linen, lossy):
    """The optimizer's state. make(salt, keep): one slot. lossy: what NNX has no place for was lost on the way."""

    def adam(keep=lambda path: True):
        return {"count": np.int32(5), "mu": make("mu", keep), "nu": make("nu", keep)}

    count = {"count": np.int32(6)}
    if kind == "adamw":
        return chain(linen, adam(), None, count)
    if kind == "adamw_mask":
        return chain(linen, adam(), None if lossy or not linen else {"inner_state": None}, count)
    if kind == "adam_pax":
        return adam()
    if kind == "sgd":
        return chain(linen, None, count)
    if kind == "skip":
        spikes = {"losses": values("losses", (7,)), "grad_norms": values("norms", (7,)), "is_skipped": np.array(True)}
        return {"inner_state": chain(linen, adam(), None, count), "count": np.int32(9), **spikes}
    if kind == "muon":
        inner = {
            "count": np.int32(7),
            "mu": make("mu", lambda path: path.endswith(MATRICES)),
            "ns_coeffs": values("n", (3,)),
        }
        other = adam(lambda path: not path.endswith(MATRICES))
        states = {"muon": chain(linen, inner, None, None, count), "adam": chain(linen, other, None, count)}
    else:
        only = adam(lambda path: "self_attention" in path)
        states = {"trainable": chain(linen, only, None, count)}
        if linen and not lossy:
            states["frozen"] = None
    return {"inner_states": {label: {"inner_state": state} for label, state in states.items()}}


def tree(dialect, layout, kind, state, *, origin=""):
    """One checkpoint. origin: the dialect that it was converted from, which may have had no place for some of it."""
    linen, origin = dialect in ("D1", "D2"), origin or dialect
    collection, extra = beside(layout, state)
    if collection == "aux" and "D1" in (dialect, origin):
        extra = {}
    inside = dialect == "D2" and kind in NESTED

    def make(salt, keep):
        leaves = {path: leaf for path, leaf in weights(layout, state, salt).items() if keep(path)}
        slot = nest(numbered(leaves, not linen))
        statistics = dialect == "D1" and state == "fp8"  # beside which Flax's optimizer sees the weights alone
        return {"params": slot} if linen and not inside and not statistics else slot

    lossy = origin in ("D3", "D4") or (kind in LOSSY and "D2" in (origin, dialect))
    opt = optimizer(kind, make, linen and not inside, lossy) if kind != "none" else None
    named, model_tree = nest(numbered(extra, not linen)), weights(layout, state)
    reference = nest(numbered(weights(layout, state, "ref"), not linen)) if state == "reference" else None
    if linen:
        found = {"params": {"params": nest(model_tree)}, "step": np.asarray(5, np.int32)}
        if extra and dialect == "D2":
            found["nnx_aux"] = {"model": named}
        elif extra:
            found["params"][collection] = named
        if reference:
            found["params"]["reference_params"] = reference
        return found | ({"opt_state": opt} if opt is not None else {})
    found = {"model": nest(numbered(model_tree | extra, True)), "optimizer": {"step": np.asarray(5, np.uint32)}}
    if opt is not None:
        found["optimizer"]["opt_state"] = opt
    if reference:
        found["collections"] = {"reference_params": reference}
    return valued(found) if dialect == "D4" else found


def valued(node):
    """nnx.State as it is saved: every Variable's value below {value:}, a quantised tensor's as a whole."""
    if isinstance(node, list):
        return [valued(child) for child in node]
    if isinstance(node, dict):
        return {"value": node} if "qvalue" in node else {key: valued(child) for key, child in node.items()}
    return {"value": node}


def bare(layout, state):
    """The parameters of an NNX model saved as a bare state: no level above, {value:} around each."""
    return valued(nest(numbered(weights(layout, state), True)))
