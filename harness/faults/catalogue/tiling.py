"""Faults of the tiled loss, in the maths that both sides share."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

MATHS = "impl/math/tiling.py"
RELATION = tuple(
    ("tiled_equals_untiled", f"llama2,{side}:gradients(retrained={{'num_vocab_tiling': 4}})")
    for side in ("linen", "nnx")
)
"""What both sides get wrong alike shows on each of them by itself."""

BOTH_SIDES = (
    Fault(
        id="both_tile_without_factor",
        title="both sides leave the outer factor out, as MaxText 0.2.4 does: parity cannot see it",
        source="B28",
        channel="gradients",
        module="loss",
        edits=(Edit(MATHS, '_FACTORS = {"exact": _exact,', '_FACTORS = {"exact": _maxtext_0_2_4,'),),
        scenarios=RELATION,
    ),
    Fault(
        id="both_keep_the_last_tile",
        title="the gradient of the head is that of one tile, on both sides",
        source="B28",
        channel="gradients",
        module="loss",
        edits=(Edit(MATHS, "sums + part.astype(sums.dtype)", "0 * sums + part.astype(sums.dtype)"),),
        scenarios=RELATION,
    ),
    Fault(
        id="both_join_tiles_in_another_order",
        title="gradients of hidden states go to the positions of other tiles, on both sides",
        source="FM65",
        channel="gradients",
        module="loss",
        edits=(Edit(MATHS, "jnp.moveaxis(tiles, 0, 2)", "jnp.moveaxis(tiles, 0, 1)"),),
        scenarios=RELATION,
    ),
    Fault(
        id="both_tile_without_z_loss",
        title="the z-loss enters the value of a tile and not its gradient, on both sides",
        source="FM46",
        channel="gradients",
        module="loss",
        edits=(
            Edit(
                MATHS,
                "    weights, hidden, labels = kept\n",
                "    weights, hidden, labels = kept\n    tiling = tiling._replace(z_loss=0.0)\n",
            ),
        ),
        scenarios=RELATION,
    ),
)

FAULTS: tuple[Fault, ...] = BOTH_SIDES
