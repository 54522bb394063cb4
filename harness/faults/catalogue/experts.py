"""Faults in mixtures of experts: what layers sow, where tokens go, what they weigh, biases that Adam does not move."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

MOE, MODEL, TRAIN = "impl/nnx/moe.py", "impl/nnx/transformer.py", "impl/nnx/train.py"
MATHS = "impl/math/moe.py"
ROUTE = "route(logits, biases, router(config)), self._experts"
FIRST = "decoder/moe_layers/0/DeepSeekMoeBlock_0"

SOWN = (
    Fault(
        id="balance_silently_zero",
        title="the load-balance loss is multiplied by nothing, on both sides: parity cannot see it",
        source="FM46",
        channel="claims",
        module="*moe_lb_loss is not zero",
        expect="claim",
        edits=(
            Edit(
                "impl/training/auxiliary.py",
                "jnp.mean(rows) if name == BALANCE",
                "0.0 * jnp.mean(rows) if name == BALANCE",
            ),
        ),
        scenarios=(("moe", "mixtral-scan1"),),
    ),
    Fault(
        id="scan_drops_sown_values",
        title="sown values are filtered from the state that a scan returns",
        source="B19",
        channel="outputs",
        module="*sowed moe_lb_loss 0 times*",
        expect="error",
        edits=(
            Edit(
                MODEL,
                "return x, nnx.state(block, nnx.Not(DIFFERENTIATED))",
                "return x, nnx.state(block, nnx.Not(nnx.Any(DIFFERENTIATED, nnx.Intermediate)))",
            ),
        ),
        scenarios=(("moe", "mixtral-scan1"),),
    ),
    Fault(
        id="linen_scan_drops_sown_values",
        title="Linen's scan does not know the collection that layers sow into",
        source="FM48",
        channel="outputs",
        module="*",
        expect="error",
        edits=(Edit("impl/linen/transformer.py", ', "cache": 0, "intermediates": 0}', ', "cache": 0}'),),
        scenarios=(("moe", "mixtral-scan1"),),
    ),
    Fault(
        id="balance_not_differentiated",
        title="the load-balance loss is reported and not added to what is differentiated",
        source="FM46",
        channel="loss",
        module="decoder/*",
        edits=(
            Edit(
                TRAIN,
                "value, terms = with_auxiliary(",
                "_, terms = with_auxiliary(",
            ),
        ),
        scenarios=(("moe", "mixtral-scan1"),),
    ),
)

ROUTED = (
    Fault(
        id="routing_bias_stands_still",
        title="the routing bias is not moved after the optimizer's step",
        source="B15",
        channel="loss",
        module="optimizer",
        edits=(Edit(TRAIN, "    if LOADS in aux:\n", "    if LOADS in ():\n"),),
        scenarios=(("moe", "deepseek-scan1"),),
    ),
    Fault(
        id="routing_bias_weighs",
        title="the bias that should only choose experts is in their weights too",
        source="B15",
        channel="loss",
        module=f"{FIRST}/*",
        edits=(
            Edit(
                MOE,
                "gate_inputs(config, *self.gate(x))\n",
                "gate_inputs(config, *self.gate(x))\n        logits, biases = sum(biases, logits), ()\n",
            ),
        ),
        scenarios=(("moe", "deepseek-scan1"),),
    ),
    Fault(
        id="weights_not_renormalised",
        title="the weights of the chosen experts are not divided by their sum",
        source="C7",
        channel="loss",
        module=f"{FIRST}/*",
        edits=(
            Edit(
                MOE, "import jax\nimport jax.numpy", "from dataclasses import replace\n\nimport jax\nimport jax.numpy"
            ),
            Edit(MOE, ROUTE, ROUTE.replace("router(config)", "replace(router(config), renormalise=False)")),
        ),
        scenarios=(("moe", "deepseek-scan1"),),
    ),
    Fault(
        id="expert_scale_twice",
        title="experts are scaled in their kernels and in their weights",
        source="B06",
        channel="loss",
        module="decoder/layers/0/MoeBlock_0",
        edits=(
            Edit(
                MOE,
                "self.per_expert_scale[...])\n",
                "self.per_expert_scale[...])\n"
                "            twice = self.per_expert_scale[:, None, None]\n"
                "            experts = experts._replace(output=experts.output * twice)\n",
            ),
        ),
        scenarios=(("moe", "scaled"),),
    ),
    Fault(
        id="experts_not_clipped",
        title="gpt-oss's experts have a plain gate: nothing is bounded, the value is not shifted by 1",
        source="C7",
        channel="loss",
        module="decoder/layers/0/GptOssMlp",
        edits=(
            Edit(
                MOE,
                "        return combined(config, x, routing, experts)\n",
                "        return combined(replace(config, mlp_activations_limit=0.0), x, routing, experts)\n",
            ),
            Edit(
                MOE, "import jax\nimport jax.numpy", "from dataclasses import replace\n\nimport jax\nimport jax.numpy"
            ),
        ),
        scenarios=(("moe", "gpt_oss-scan1"),),
    ),
    Fault(
        id="experts_take_all",
        title="experts take every token that chooses them, however many",
        source="C7",
        channel="loss",
        module="decoder/layers/0/moe_block",
        edits=(
            Edit(
                MOE,
                "        return combined(config, x, routing, experts)\n",
                "        return combined(replace(config, capacity_factor=-1.0), x, routing, experts)\n",
            ),
            Edit(
                MOE, "import jax\nimport jax.numpy", "from dataclasses import replace\n\nimport jax\nimport jax.numpy"
            ),
        ),
        scenarios=(("moe", "limited-scan1"),),
    ),
    Fault(
        id="both_dispatch_unsorted",
        title="tokens sorted by expert come back in that order: both sides alike, parity cannot see it",
        source="C7",
        channel="loss",
        module="*",
        edits=(Edit(MATHS, "made[jnp.argsort(order)]", "made[order]"),),
        scenarios=(
            ("sparse_equals_dense", "mixtral,linen:gradients(overriding={'sparse_matmul': True})"),
            ("sparse_equals_dense", "mixtral,nnx:gradients(overriding={'sparse_matmul': True})"),
        ),
    ),
)

FAULTS: tuple[Fault, ...] = (*SOWN, *ROUTED)
