"""One form for all dialects: the model's own paths, whatever the tree around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from impl.checkpoint.dialect import LINEN, Dialect, detect, model_root
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.layers import Group, find_groups, suffixed_names
from impl.checkpoint.leaf import Empty, Leaf, Leaves, Path, dtype_of, key_impl_of, show
from impl.checkpoint.tree import Flat

__all__ = ["REFERENCE", "Canonical", "canonicalise", "join_name", "split_name"]

REFERENCE = "reference_params"
_COUNTERS = {"uint32", "int32", "int64", "bool"}  # what streams and routing tables are made of, and weights never


@dataclass(frozen=True, kw_only=True)
class Canonical:
    """A checkpoint taken out of its dialect. Every inner path starts at the model, e.g. ("decoder", "layers_0", ...).

    weights: what the optimizer trains. slots: optimizer state that mirrors the weights, by its place in the optimizer
    ("0/mu"). scalars: the rest of the optimizer ("0/count"). step: {} or {(): the step counter}. aux: random streams
    and other state of the model. collections: further trees of the shape of the model ("reference_params", "aqt"), and
    under "nnx_aux" what a D2 file keeps there besides the model. bare_slots: slots without the "params" level that
    Linen has. lists: places in the optimizer that are lists. notes: readings that were not certain.
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
    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def reference_params(self) -> Leaves:
        """The frozen policy of a preference run; empty when there is none."""
        return self.collections.get(REFERENCE, {})


def join_name(path: Path) -> str:
    """Name of a place in the optimizer. Raises CheckpointError for a part that holds a slash."""
    if any("/" in part for part in path):
        raise CheckpointError(f"optimizer key {path} holds a slash, expected plain names: rename that key")
    return "/".join(path)


def split_name(name: str) -> Path:
    """The path that `join_name` made `name` of."""
    return tuple(name.split("/")) if name else ()


def canonicalise(flat: Flat) -> Canonical:
    """Any dialect to the canonical form; works on arrays and on LeafSpecs alike. Leaves are passed on, not copied."""
    dialect = detect(flat.leaves)
    leaves = _unwrap(flat.leaves) if dialect == "D4" else flat.leaves
    root = model_root(leaves, dialect)
    model = _under(leaves, root)
    linen = dialect in LINEN
    state = ("opt_state",) if linen else ("optimizer", "opt_state")
    slots, scalars, bare = _split_optimizer(_under(leaves, state), model)
    weights, aux, notes = (model, {}, ()) if linen else _split_model(model, slots)
    extra = _collections(leaves, linen)
    if dialect == "D2":
        aux = _under(leaves, ("nnx_aux", "model"))
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
        lists=frozenset(join_name(path) for path in inside) if linen else _numbered((*slots, *scalars)),
        groups=groups,
        notes=notes,
    )


def _under(leaves: Leaves, root: Path) -> dict[Path, Leaf]:
    return {path[len(root) :]: leaf for path, leaf in leaves.items() if path[: len(root)] == root}


def _unwrap(leaves: Leaves) -> dict[Path, Leaf]:
    return {
        (path[:-1] if path[-1] == "value" and not isinstance(leaf, Empty) else path): leaf
        for path, leaf in leaves.items()
    }


def _split_optimizer(
    state: Leaves, model: Leaves
) -> tuple[dict[str, dict[Path, Leaf]], dict[str, Leaf], frozenset[str]]:
    """Slots by name, the other leaves by name, and the slots that have no "params" level."""
    slots: dict[str, dict[Path, Leaf]] = {}
    scalars: dict[str, Leaf] = {}
    bare: set[str] = set()
    for path, leaf in state.items():
        # The longest tail that is a weight wins, so that a module named like an optimizer key cannot cut it short.
        start = next((start for start in range(1, len(path)) if path[start:] in model), 0)
        if not start:
            scalars[join_name(path)] = leaf
            continue
        level = path[start - 1] == "params" and start > 1
        name = join_name(path[: start - level])
        if not level:
            bare.add(name)
        slots.setdefault(name, {})[path[start:]] = leaf
    return slots, scalars, frozenset(bare)


def _split_model(
    model: Leaves, slots: Mapping[str, Leaves]
) -> tuple[dict[Path, Leaf], dict[Path, Leaf], tuple[str, ...]]:
    """Weights and other state of an NNX model, where both lie in one tree, and what was judged rather than known."""
    trained = {path for tree in slots.values() for path in tree}
    # A plain chain keeps a slot for every weight. A partitioned or wrapped one may leave out the frozen ones.
    masked = any({"inner_states", "inner_state"} & set(split_name(name)) for name in slots)
    weights: dict[Path, Leaf] = {}
    aux: dict[Path, Leaf] = {}
    notes: list[str] = []
    for path, leaf in model.items():
        stream = any(part == "rngs" or part.endswith("_rngs") for part in path[:-1])
        if path in trained:
            weights[path] = leaf
        elif stream or key_impl_of(leaf) or dtype_of(leaf) in _COUNTERS:
            aux[path] = leaf
        elif trained and not masked:
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


def _numbered(names: tuple[str, ...]) -> frozenset[str]:
    """Places whose children are all numbers: the chains that NNX writes as dicts with gaps and Linen as lists."""
    children: dict[Path, set[str]] = {}
    for name in names:
        path = split_name(name)
        for end in range(len(path)):
            children.setdefault(path[:end], set()).add(path[end])
    return frozenset(join_name(path) for path, keys in children.items() if all(key.isdecimal() for key in keys))
