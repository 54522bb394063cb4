"""One form for all dialects: the model's own paths, whatever the tree around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from impl.checkpoint.dialects.dialect import LINEN, Dialect, detect, model_root
from impl.checkpoint.dialects.kinds import collections_of, out_of_value, place_of
from impl.checkpoint.dialects.layers import Group, find_groups, is_array, suffixed_names
from impl.checkpoint.dialects.optimizers import (
    join_name,
    leaves_weights_out,
    numbered_places,
    split_name,
    split_optimizer,
)
from impl.checkpoint.leaves.leaf import Leaf, Leaves, Path, dtype_of, key_impl_of, show
from impl.checkpoint.leaves.tree import Flat

__all__ = ["REFERENCE", "Canonical", "canonicalise", "split_name"]

REFERENCE = "reference_params"
_NONE: tuple[str, ...] = ()
_COUNTERS = {"uint32", "int32", "int64", "bool"}  # what streams and routing tables are made of, and weights never


@dataclass(frozen=True, kw_only=True)
class Canonical:
    """A checkpoint taken out of its dialect. Every inner path starts at the model, e.g. ("decoder", "layers_0", ...).

    weights: what the optimizer trains. slots: optimizer state that mirrors the weights, by its place in the optimizer
    ("0/mu"). scalars: the rest of the optimizer ("0/count"). step: {} or {(): the step counter}. aux: random streams
    and other state of the model. collections: further trees of the shape of the model, by Linen's names for them
    ("reference_params", "aqt"), and under "nnx_aux" what a D2 file keeps there besides the model. bare_slots: slots
    without the "params" level that Linen has. lists: places in the optimizer that are lists. model_lists: places in the
    model that are, without the layer (`kinds.place_of`). notes: readings that were not certain.
    """

    dialect: Dialect
    weights: Leaves
    slots: Mapping[str, Leaves]
    scalars: Mapping[str, Leaf]
    step: Leaves
    aux: Leaves
    collections: Mapping[str, Leaves]
    bare_slots: frozenset[str]
    lists: frozenset[str]
    model_lists: frozenset[Path]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def reference_params(self) -> Leaves:
        """The frozen policy of a preference run; empty when there is none."""
        return self.collections.get(REFERENCE, {})


def canonicalise(flat: Flat) -> Canonical:
    """Any dialect to the canonical form; works on arrays and on LeafSpecs alike. Leaves are passed on, not copied."""
    dialect = detect(flat.leaves)
    leaves = _unwrap(flat.leaves) if dialect == "D4" else flat.leaves
    root = model_root(leaves, dialect)
    model = _under(leaves, root)
    linen = dialect in LINEN
    state = ("opt_state",) if linen else ("optimizer", "opt_state")
    slots, scalars, bare = split_optimizer(_under(leaves, state), model)
    extra = _collections(leaves, linen)
    if linen:
        weights, notes = model, _NONE
        aux, found = _apart(_under(leaves, ("nnx_aux", "model")), {})
    else:
        mixed, found = _apart(model, slots)
        weights, aux, notes = _split_model(mixed, slots, scalars)
    for name, tree in found.items():
        extra[name] = {**extra.get(name, {}), **tree}
    groups = find_groups(weights, aux)
    nested = frozenset(group.name for group in groups if group.form == "nested")

    def plain(tree: Leaves) -> dict[Path, Leaf]:
        return {suffixed_names(path, nested): leaf for path, leaf in tree.items()}

    inside = [path[len(state) :] for path in flat.lists if path[: len(state)] == state]
    return Canonical(
        dialect=dialect,
        weights=plain(weights),
        slots={name: plain(tree) for name, tree in slots.items()},
        scalars=scalars,
        step=_under(leaves, ("step",) if linen else ("optimizer", "step")),
        aux=plain(aux),
        collections={name: plain(tree) for name, tree in extra.items()},
        bare_slots=bare if linen else frozenset(),
        lists=frozenset(join_name(path) for path in inside) if linen else numbered_places((*slots, *scalars)),
        model_lists=_model_lists(flat.lists, dialect, root),
        groups=groups,
        notes=(*notes, *(("the level base/ around the model is left out",) if root == ("base",) else ())),
    )


def _under(leaves: Leaves, root: Path) -> dict[Path, Leaf]:
    return {path[len(root) :]: leaf for path, leaf in leaves.items() if path[: len(root)] == root}


def _unwrap(leaves: Leaves) -> dict[Path, Leaf]:
    return {(out_of_value(path) if is_array(leaf) else path): leaf for path, leaf in leaves.items()}


def _apart(model: Leaves, slots: Mapping[str, Leaves]) -> tuple[dict[Path, Leaf], dict[str, dict[Path, Leaf]]]:
    """What of `model` Linen keeps in no collection of its own, and the rest by collection."""
    # What is trained is a weight, whatever it is called.
    where = collections_of(set(model) - {path for tree in slots.values() for path in tree})
    found: dict[str, dict[Path, Leaf]] = {}
    for path in model:  # in the tree's order, which a set has not
        if path in where:
            found.setdefault(where[path], {})[path] = model[path]
    return {path: leaf for path, leaf in model.items() if path not in where}, found


def _model_lists(lists: frozenset[Path], dialect: Dialect, root: Path) -> frozenset[Path]:
    """Lists outside the optimizer, by their place in the model."""
    roots = (root, ("nnx_aux", "model"))
    places = set()
    for path in lists:
        if path[:1] in (("opt_state",), ("optimizer",)):
            continue
        inside = next((path[len(each) :] for each in roots if each and path[: len(each)] == each), None)
        if inside is None:  # below a collection, or in a bare model
            inside = path[2:] if path[0] in ("params", "collections") else path
        places.add(place_of(out_of_value(inside) if dialect == "D4" else inside))
    return frozenset(places)


def _split_model(
    model: Leaves, slots: Mapping[str, Leaves], scalars: Mapping[str, Leaf]
) -> tuple[dict[Path, Leaf], dict[Path, Leaf], tuple[str, ...]]:
    """Weights and other state of an NNX model, where both lie in one tree, and what was judged rather than known."""
    trained = {path for tree in slots.values() for path in tree}
    whole = trained and not leaves_weights_out(slots, scalars, model)
    weights: dict[Path, Leaf] = {}
    aux: dict[Path, Leaf] = {}
    notes: list[str] = []
    for path, leaf in model.items():
        stream = any(part == "rngs" or part.endswith("_rngs") for part in path[:-1])
        if path in trained:
            weights[path] = leaf
        elif stream or key_impl_of(leaf) or dtype_of(leaf) in _COUNTERS:
            aux[path] = leaf
        elif whole and is_array(leaf):
            aux[path] = leaf
            notes.append(f"{show(path)}: no optimizer slot mirrors it, so it is taken for state, not for a weight")
        else:
            weights[path] = leaf
    return weights, aux, tuple(notes)


def _collections(leaves: Leaves, linen: bool) -> dict[str, dict[Path, Leaf]]:
    """Trees beside the model: below params in Linen, below nnx_aux in D2, below collections in an NNX tree."""
    root: Path = ("params",) if linen else ("collections",)
    found: dict[str, dict[Path, Leaf]] = {}
    for path, leaf in _under(leaves, root).items():
        if linen and path[0] == "params":
            continue
        found.setdefault(path[0], {})[path[1:]] = leaf
    if linen:
        beside = {path: leaf for path, leaf in _under(leaves, ("nnx_aux",)).items() if path[:1] != ("model",)}
        if beside:
            found["nnx_aux"] = beside
    return found
