"""What a module is called in a report: as the pair's neutral names spell it. No JAX here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.forcing.tape import Place, Stream, Tape

__all__ = ["Labels"]

Path = tuple[str, ...]


class Labels:
    """Labels of the first side's modules. names: the pair's neutral names of weights, "decoder/layers/0/mlp/kernel"."""

    def __init__(self, tape: Tape, names: Iterable[str]):
        self.tape = tape
        known = [name.split("/") for name in names]
        self._words = {word for name in known for word in name}
        self._layers: dict[Path, set[int]] = {}
        for name in known:
            for at, word in enumerate(name):
                if word.isdigit():
                    self._layers.setdefault(tuple(name[:at]), set()).add(int(word))

    def label(self, path: Path, place: Place, stream: Stream, at: int) -> str:
        """The label of `path`, a module's or its caller's, when the `at`-th value of a stream arrives at `place`.

        The number of a layer that is run again and again is found from how often values arrived; it is left out where
        the numbers do not say. "" is the outermost module.
        """
        words: list[str] = []
        for index, word in enumerate(path):
            split = re.fullmatch(r"(.+)_(\d+)", word)
            if split and word not in self._words and split[1] in self._words:
                words += split.groups()
                continue
            words.append(word)
            layers = self._layers.get(tuple(words))
            if layers and not "".join(path[index + 1 : index + 2]).isdigit():
                number = self._number(tuple(words), len(layers), (place, stream), at)
                words += [str(number)] if number >= 0 else []
        return "/".join(words)

    def _number(self, stack: Path, layers: int, way: tuple[Place, Stream], at: int) -> int:
        """Which layer of a stack: in order, maybe once more backwards (rematerialised); cotangents backwards. Or -1."""
        (path, method), stream = way
        inner, outer = len(self.tape.arrivals.get(((path, method), stream), ())), self._count(stack, stream)
        outer = outer or inner
        if inner % outer or outer % layers:
            return -1
        turn = at // (inner // outer)
        if stream.endswith("back"):
            return layers - 1 - turn % layers
        again = outer == 2 * layers * (self._count(stack[:-1], stream) or 1)
        turn %= 2 * layers if again else layers
        return turn if turn < layers else 2 * layers - 1 - turn

    def _count(self, path: Path, stream: Stream) -> int:
        """How often values arrived where a module is called."""
        return len(self.tape.arrivals.get(((path, "__call__"), stream), ()))
