"""What a compiled program needs, as XLA's memory analysis tells it."""

from __future__ import annotations

import jax

__all__ = ["memory"]


def memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes of temporaries, outputs, arguments, and of arguments whose memory an output takes over.

    Raises NotImplementedError where the compiler does not tell.
    """
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise NotImplementedError("this backend's compiler gives no memory analysis: bench on another")
    return {
        "temp": int(analysis.temp_size_in_bytes),
        "output": int(analysis.output_size_in_bytes),
        "argument": int(analysis.argument_size_in_bytes),
        "alias": int(analysis.alias_size_in_bytes),
    }
