"""From two modules and a task to a `Pair` that the harness can verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from harness.binding import bind, renamed
from harness.modules.draw import draw_batches, draw_weights
from harness.modules.engine import Engine
from harness.modules.graphs import graphs
from harness.modules.linen_engine import linen_engine
from harness.modules.nnx_engine import nnx_engine
from harness.modules.nnx_parts import precision
from harness.modules.programs import Binding, programs
from harness.modules.spec import LinenModel, NnxModel, Task
from harness.names import Key, Leaf, NameMap, table
from harness.observation import Values
from harness.pair import Pair, Side
from harness.rearranged import Rearranged, rearranged_rows
from harness.scenario import Scenario

__all__ = ["module_pair"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


_WHYS = {
    "structure": "Both modules must hold the same leaves, shapes, dtypes, parameter count and dropout rates.",
    "forward": "Both modules must give the same output in eval mode from the same weights.",
    "forward_train": "Both modules must give the same output in train mode and leave the same state behind.",
    "grad": "Every loss term and the gradient of every weight must be the same.",
    "grad_dropout": "The same with dropout on, where the second side draws with the keys of the first.",
    "train": "Weights, optimizer slots and statistics must stay the same over several optimizer steps.",
    "state": "A call must change the same state on both sides, and dropout must do what it says on each.",
    "taps": "The outputs of the modules inside, in forward order, show where a difference begins.",
    "taps_train": "The same in train mode, where batch statistics take part.",
}

_OWN_KEYS = ("structure", "state")
"""Programs that look at what each side draws by itself, or draw nothing."""


def module_pair(
    name: str,
    *,
    linen: LinenModel,
    nnx: NnxModel,
    task: Task,
    renames: Mapping[str, str] = _NOTHING,
    stacks: Mapping[str, int] = _NOTHING,
) -> Pair:
    """A Linen and an NNX version of one module, ready for `harness run`: sides "linen" and "nnx".

    renames: Linen path prefix -> NNX path prefix, for what the two call differently: {"Dense_0": "linear1"}.
    stacks: which side stores scanned layers stacked, and on which axis; {} if neither or both do. See `binding.bind`.
        Leaves that one side fuses, reshapes or transposes are `NnxModel.rearranged`'s.
    The modules are bound when a case is prepared; NameMapError then lists all that does not fit.
    Programs: those of `_WHYS`; train has a setting "steps".
    """
    engines = (linen_engine(linen, task), nnx_engine(nnx, task))
    bound = cache(partial(_bound, engines, task, renames, partial(_names, renames, stacks, nnx.rearranged)))

    def prepare(settings: Mapping[str, object], seed: int) -> tuple[Values, Values]:
        steps = max(2, int(str(settings.get("steps", task.steps))))
        return draw_weights(bound().names, seed), draw_batches(task.inputs, seed, steps)

    return Pair(
        name=name,
        sides={
            engine.name: _side(engine, task, bound, bridged=bridged)
            for engine, bridged in zip(engines, (linen.bridged, nnx.bridged), strict=True)
        },
        prepare=prepare,
        scenarios=_scenarios(name, task),
        table=lambda settings: table(bound().names),
        exact=dict,  # modules take the dtype of their weights and inputs, or cast, see `harness.uncast`
        precision=lambda settings: precision(nnx),
        reordered=_backwards,
    )


def _side(engine: Engine, task: Task, bound: Callable[[], Binding], *, bridged: bool) -> Side:
    return Side(
        name=engine.name,
        frameworks=frozenset({"linen", "nnx"} if bridged else {engine.name}),
        programs=programs(engine, bound),
        graphs=partial(graphs, engine, task, bound),
    )


def _backwards(_settings: Mapping[str, object], inputs: Values) -> Values:
    """Every batch with its examples the other way round, where there is an axis that may be theirs."""
    return {name: array[:, ::-1] for name, array in inputs.items() if array.ndim > 1}


def _scenarios(name: str, task: Task) -> dict[str, Scenario]:
    """One scenario for each program. Every one of them is a parity of the two sides."""
    return {
        program: Scenario(
            why=why,
            program=program,
            pair=name,
            draws="own" if program in _OWN_KEYS else "if any",
            allow=tuple(task.allow.get(program, ())),
        )
        for program, why in _WHYS.items()
    }


def _names(
    renames: Mapping[str, str],
    stacks: Mapping[str, int],
    rearranged: Rearranged,
    left: Mapping[Key, Leaf],
    right: Mapping[Key, Leaf],
) -> NameMap:
    """The map of the leaves of both sides, in Linen's order."""
    moved = rearranged_rows(left, right, rearranged)
    ours, theirs = ({row.addresses[side].key for row in moved} for side in ("linen", "nnx"))
    rest = bind(
        {key: leaf for key, leaf in left.items() if key not in ours},
        {key: leaf for key, leaf in right.items() if key not in theirs},
        renames,
        stacks,
    )
    order = {key: index for index, key in enumerate(left)}
    return NameMap(rows=tuple(sorted((*rest.rows, *moved), key=lambda row: order[row.addresses["linen"].key])))


def _bound(
    engines: tuple[Engine, Engine],
    task: Task,
    renames: Mapping[str, str],
    named: Callable[[Mapping[Key, Leaf], Mapping[Key, Leaf]], NameMap],
) -> Binding:
    """The name map, and the modules that both sides are seen to call. Traced abstractly; no weight is made for it."""
    batch = {key: array[0] for key, array in draw_batches(task.inputs, 0, 1).items()}
    left, right = (engine.leaves(batch) for engine in engines)
    # First, so that a misfit is told as one and not as an error from inside the module's call.
    names = named(left, right)
    tapped = [dict.fromkeys(path for path, _ in engine.tapped(batch)) for engine in engines]
    modules = {path: renamed(path, renames) for path in tapped[0] if renamed(path, renames) in tapped[1]}
    rates = {engine.name: engine.rates(batch) for engine in engines}
    return Binding(names=names, modules=modules, rates=rates)
