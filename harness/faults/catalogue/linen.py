"""Faults on the Linen side: the ruler can be wrong too, and then the difference must show just the same."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

LAYERS, MODEL, TRAIN = "impl/linen/layers.py", "impl/linen/transformer.py", "impl/linen/train.py"

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="linen_final_norm_epsilon",
        title="Linen's norms are built without their epsilon",
        source="B04",
        channel="loss",
        module="decoder/layers/0/pre_self_attention_layer_norm/normalise",
        edits=(Edit(LAYERS, "nn.RMSNorm(epsilon=self.epsilon, dtype", "nn.RMSNorm(dtype"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="linen_same_mask_each_layer",
        title="Linen's scan does not split its dropout stream",
        source="FM35",
        channel="claims",
        module="layers draw different masks",
        expect="claim",
        edits=(Edit(MODEL, '"dropout": True}', '"dropout": False}'),),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="linen_same_mask_each_step",
        title="Linen's dropout key is not folded by the step",
        source="FM34",
        channel="claims",
        module="steps draw different masks",
        expect="claim",
        edits=(
            Edit(
                TRAIN,
                "gradients(state.params, batch, jax.random.fold_in(key, state.step))",
                "gradients(state.params, batch, key)",
            ),
        ),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="linen_loses_axes",
        title="Linen's norm scales are not annotated",
        source="FM75",
        channel="structure",
        module="decoder/layers/0/pre_self_attention_layer_norm",
        edits=(
            Edit(
                LAYERS,
                'self.param("scale", nn.with_logical_partitioning(first, ("norm",)), x.shape[-1:], self.weight_dtype)',
                'self.param("scale", first, x.shape[-1:], self.weight_dtype)',
            ),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
)
