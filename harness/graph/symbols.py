"""What the names inside a module stand for: functions, meshes. A name says nothing; two programs may share one."""

from __future__ import annotations

from typing import Any

from jax.extend.mlir import ir

__all__ = ["Symbols"]

_NOTES = "mhlo.frontend_attributes"


class Symbols:
    """functions: name -> operation. meshes: the text of meshes that the module itself carries, "" if it has none."""

    def __init__(self, module: Any) -> None:
        self.functions: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        for view in module.body.operations:
            operation = view.operation
            if "sym_name" not in operation.attributes:
                continue
            name = ir.StringAttr(operation.attributes["sym_name"]).value
            if operation.name == "func.func":
                self.functions[name] = operation
            else:
                self._texts[name] = str(operation).replace(f"@{name}", "@")
        notes = module.operation.attributes
        self.meshes = str(notes[_NOTES]) if _NOTES in notes else ""
        # Longest first: @mesh must not be taken for the beginning of @mesh_1.
        self._names = sorted((*self.functions, *self._texts), key=len, reverse=True)

    def functions_in(self, value: object) -> list[Any]:
        """The functions that an attribute refers to."""
        if not isinstance(value, str) or "@" not in value:
            return []
        found = []
        for name in self._names:
            if f"@{name}" in value:
                value = value.replace(f"@{name}", "")
                found += [self.functions[name]] if name in self.functions else []
        return found

    def resolved(self, value: object) -> object:
        """An attribute in which no name is left: a mesh is written out, a function is told by `functions_in`."""
        if not isinstance(value, str) or "@" not in value:
            return value
        for name in self._names:
            value = value.replace(f"@{name}", self._texts.get(name, "@"))
        return value
