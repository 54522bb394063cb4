"""How a run is spread over devices: part of a scenario's settings, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from impl.config import ConfigError
from impl.sharding.default import DEFAULT
from impl.sharding.rules import Rules

__all__ = ["Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """mesh: axis -> size, 1 where none is given, -1 once for all devices that are left. rules: of logical axes.

    axis_types: "auto" leaves shardings between the constraints to the compiler; "boundary" makes them part of the
    types of what a step takes and returns, "explicit" of all types inside it too. zero: 1 splits optimizer slots over
    the axis "data" too (ZeRO-1).
    """

    mesh: Mapping[str, int] = field(default_factory=dict)
    rules: Rules = DEFAULT
    axis_types: str = "auto"
    zero: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("axis_types", self.axis_types, ("auto", "boundary", "explicit")),
            ("zero", self.zero, (0, 1)),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} is not one of {', '.join(map(str, known))}")
