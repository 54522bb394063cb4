"""Operations that are no functions of their operands, or not known to be."""

from __future__ import annotations

from harness.graph.nodes import Attributes

__all__ = ["opaque"]

_DIALECTS = ("stablehlo.", "chlo.", "sdy.", "mhlo.")
_IMPURE = ("rng", "infeed", "outfeed", "send", "recv", "create_token", "after_all")
_NO_EFFECT = ("false", "None")


def opaque(name: str, attributes: Attributes) -> bool:
    """Whether an operation must not be taken for equal to any other.

    That is: it has or may have an effect, it draws numbers from the device, it belongs to a dialect that is not known
    here, it calls back into Python (its attributes number the callbacks of one program, so that two programs name
    different functions alike), or its constant lies outside of the text.
    """
    dialect, _, operation = name.partition(".")
    if f"{dialect}." not in _DIALECTS or operation in _IMPURE:
        return True
    told = dict(attributes)
    if any("dense_resource" in str(value) for value in told.values()):
        return True
    if operation != "custom_call":
        return False
    effect = str(told.get("has_side_effect", "false"))
    return effect not in _NO_EFFECT or "callback" in str(told.get("call_target_name", "")).lower()
