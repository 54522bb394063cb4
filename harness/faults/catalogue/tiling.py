"""Faults of the tiled loss: on the NNX side alone, and in the maths that both sides share."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

TILING, MATHS = "impl/nnx/tiling.py", "impl/math/tiling.py"
OBJECTIVE = "value, terms = tiled_objective(head, weights, hidden, batch, settings)"
RELATION = tuple(
    ("tiled_equals_untiled", f"llama2,{side}:gradients(retrained={{'num_vocab_tiling': 4}})")
    for side in ("linen", "nnx")
)
"""What both sides get wrong alike shows on each of them by itself."""


def _other_settings(**fields: str) -> tuple[Edit, ...]:
    """Edits that give the tiled loss other settings than the rest of the step."""
    changes = ", ".join(f"{name}={value}" for name, value in fields.items())
    return (
        Edit(TILING, "import jax\n", "from dataclasses import replace\n\nimport jax\n"),
        Edit(TILING, OBJECTIVE, OBJECTIVE.replace("settings)", f"replace(settings, {changes}))")),
    )


ONE_SIDE = (
    Fault(
        id="tiling_cotangents_misshapen",
        title="all weights enter the tiled loss, and those that are not the head's get cotangents without the layers' "
        "axis (MaxText handed them over; here the head alone is, so that they are handed over first)",
        source="B27",
        channel="outputs",
        module="*bwd rule must produce an output with the same type*",
        expect="error",
        edits=(
            Edit(TILING, OBJECTIVE, OBJECTIVE.replace("head, weights,", "whole, (weights, params),")),
            Edit(
                TILING,
                "        aux = collected(layers, config)\n",
                "        def whole(both: tuple[nnx.State, nnx.State], hidden: jax.Array) -> jax.Array:\n"
                "            return head(both[0], hidden)\n\n        aux = collected(layers, config)\n",
            ),
            Edit(
                MATHS,
                "    return of_weights, joined(of_hidden), None\n",
                "    if isinstance(of_weights, tuple):\n"
                "        others = jax.tree.map(lambda leaf: leaf[0] if leaf.ndim > 2 else leaf, of_weights[1])\n"
                "        of_weights = (of_weights[0], others)\n"
                "    return of_weights, joined(of_hidden), None\n",
            ),
        ),
        scenarios=(("vocab_tiling", "gemma2-scan1"),),
    ),
    Fault(
        id="both_tiled_head_gets_no_cotangent",
        title="the backward pass hands back None for the head's weights, which is a gradient of 0, on both sides",
        source="B27",
        channel="claims",
        module="decoder/logits_dense/kernel *",
        expect="claim",
        edits=(
            Edit(
                MATHS, "    return of_weights, joined(of_hidden), None\n", "    return None, joined(of_hidden), None\n"
            ),
        ),
        scenarios=(("tiled_equals_untiled", "llama2,nnx:gradients(retrained={'num_vocab_tiling': 4})"),),
    ),
    Fault(
        id="tiling_factor_dropped",
        title="hidden states' gradients lack the outer factor: they are too large by the number of weighted tokens",
        source="B28",
        channel="loss",
        module="loss",
        edits=_other_settings(vocab_tiling_gradients='"maxtext-0.2.4"'),
        scenarios=(("vocab_tiling", "llama2"), ("vocab_tiling", "gemma2-scan1")),
    ),
    Fault(
        id="tiling_z_loss_dropped",
        title="the tiled loss has no z-loss",
        source="FM46",
        channel="claims",
        module="*z_loss is not zero",
        expect="claim",
        edits=_other_settings(z_loss_multiplier="0.0"),
        scenarios=(("vocab_tiling", "llama2"),),
    ),
    Fault(
        id="tiling_soft_cap_dropped",
        title="the head that tiles go through forgets the final soft cap",
        source="FM09",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                TILING,
                "config, (head_def, weights) = model.config, nnx.split(model.head_module)",
                'config = model.config.overriding({"final_logits_soft_cap": 0.0})\n'
                "        head_def, weights = nnx.split(model.head_module)",
            ),
        ),
        scenarios=(("vocab_tiling", "gemma2-scan1"),),
    ),
    Fault(
        id="tiling_weighs_padding",
        title="every position of a tile counts, padding included",
        source="B21",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                TILING,
                OBJECTIVE,
                f"batch = batch._replace(target_segments=batch.target_segments | 1)\n        {OBJECTIVE}",
            ),
        ),
        scenarios=(("vocab_tiling", "llama2"),),
    ),
    Fault(
        id="tiling_targets_of_another_tile",
        title="hidden states and targets are cut in different orders: tiles meet the targets of others",
        source="FM65",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                TILING,
                OBJECTIVE,
                "tiles = settings.num_vocab_tiling\n"
                "        hidden = hidden.reshape(hidden.shape[0], tiles, -1, hidden.shape[2]).swapaxes(1, 2)\n"
                "        hidden = hidden.reshape(*batch.tokens.shape, -1)\n"
                f"        {OBJECTIVE}",
            ),
        ),
        scenarios=(("vocab_tiling", "llama2"),),
    ),
    Fault(
        id="tiling_head_closed_over",
        title="tiles read the head of the module around them instead of the weights that they are handed",
        source="FM57",
        channel="outputs",
        module="*UnexpectedTracerError*",
        expect="error",
        edits=(Edit(TILING, "nnx.merge(head_def, weights, copy=True), hidden)", "model.head_module, hidden)"),),
        scenarios=(("vocab_tiling", "llama2"),),
    ),
)

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

FAULTS: tuple[Fault, ...] = (*ONE_SIDE, *BOTH_SIDES)
