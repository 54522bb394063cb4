"""QK-Clip from arXiv 2507.20534 section 2.1, in float64, one head and one column at a time."""

from __future__ import annotations

import numpy as np


def factor(largest, threshold):
    """What a head's logits are multiplied by."""
    return threshold / largest if largest > threshold else 1.0


def clipped(kernel, largest, threshold, powers):
    """[C, H, D] with column d of head h times the head's factor to the power of powers[d]."""
    result = np.array(kernel, np.float64)
    for head, column in np.ndindex(result.shape[1:]):
        result[:, head, column] *= factor(float(largest[head]), threshold) ** powers[column]
    return result


def queries(kernel, largest, threshold, still):
    """Columns that do not turn by the root, those that do by the whole: the keys that these meet cannot shrink."""
    return clipped(kernel, largest, threshold, [0.5] * still + [1.0] * (kernel.shape[-1] - still))


def keys_and_values(kernel, largest, threshold, still):
    """Keys by the root, values not at all."""
    return clipped(kernel, largest, threshold, [0.5] * still + [0.0] * (kernel.shape[-1] - still))
