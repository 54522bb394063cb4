"""Room that a scenario grants, with its reason. Exact is the default: without an Allowance nothing may differ."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["Allowance"]


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Values whose "channel/name" matches `pattern` may differ by |a-b| <= atol + rtol*max(|a|,|b|).

    `because` is mandatory and is printed wherever the allowance is used. An allowance that nothing needed fails the
    run, like a strict xfail. Shapes, dtypes, missing and extra names are never allowed.

    Raises ValueError for an empty `because` or a negative or absent tolerance.
    """

    pattern: str
    because: str
    rtol: float = 0.0
    atol: float = 0.0

    def __post_init__(self) -> None:
        if not self.because.strip():
            raise ValueError(
                f"allowance for {self.pattern!r} has no reason: say in `because` why the values may differ"
            )
        if self.rtol < 0 or self.atol < 0 or not (self.rtol or self.atol):
            raise ValueError(
                f"allowance for {self.pattern!r} has rtol={self.rtol}, atol={self.atol}: give a positive number"
            )

    def covers(self, channel: str, name: str) -> bool:
        """Whether this allowance speaks about the value `name` of `channel`."""
        return fnmatchcase(f"{channel}/{name}", self.pattern)
