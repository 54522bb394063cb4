"""Faults in 8-bit training on the NNX side: what becomes of statistics, and the arithmetic of products.

Where claims hold on a side by itself (a kernel's amax is the kernel's), a wrong statistic is a broken claim.
"""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

DOT, MATHS, TRAIN = "impl/nnx/fp8.py", "impl/math/fp8.py", "impl/nnx/train.py"

METAS = "tuple(self._meta(tensor) for tensor in TENSORS)"
REPLACED = "    return grads, nnx.merge_state(rest, statistics)"
WRITTEN = "    nnx.update(model, rest)\n"
TURNED = "jnp.roll(history, shift=-1, axis=0).at[0].set(amax)"
CLIPPED = "grads = clipped(grads, raw_norm, settings)"

STATISTICS = (
    Fault(
        id="fp8_descended",
        title="statistics take a step against their gradient instead of being replaced by it",
        source="FM66",
        channel="claims",
        module="kernels' amaxes are those of the kernels",
        expect="claim",
        edits=(
            Edit(
                TRAIN,
                WRITTEN,
                "    older, newer = nnx.state(model, Overwritten), nnx.filter_state(rest, Overwritten)\n"
                f"{WRITTEN}    nnx.update(model, jax.tree.map(lambda old, new: old - 0.01 * new, older, newer))\n",
            ),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_stale",
        title="the new statistics are dropped and the old ones stay",
        source="FM66",
        channel="claims",
        module="every amax history moved",
        expect="claim",
        edits=(Edit(TRAIN, REPLACED, "    return grads, rest"),),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_clipped",
        title="statistics are scaled down together with the gradients",
        source="FM66",
        channel="claims",
        module="kernels' amaxes are those of the kernels",
        expect="claim",
        edits=(
            Edit(
                TRAIN,
                CLIPPED,
                "statistics = nnx.state(train_state.model, Overwritten)\n"
                f"        nnx.update(train_state.model, clipped(statistics, raw_norm, settings))\n        {CLIPPED}",
            ),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_in_norm",
        title="statistics count in the gradient's norm",
        source="S15",
        channel="loss",
        module="optimizer",
        edits=(
            Edit(
                TRAIN,
                "raw_norm = global_norm(grads)",
                "raw_norm = global_norm((grads, nnx.state(train_state.model, Overwritten)))",
            ),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_lost_in_accumulation",
        title="statistics found over microbatches are dropped",
        source="S5",
        channel="claims",
        module="every amax history moved",
        expect="claim",
        edits=(Edit(TRAIN, "total, rest = _apart(total, rest)", "total, _ = _apart(total, rest)"),),
        scenarios=(("fp8_scan", "nanoo-accumulated-scan0"),),
    ),
    Fault(
        id="fp8_last_microbatch",
        title="of the microbatches' statistics the last stay, not the largest",
        source="FM66",
        channel="loss",
        module="decoder/layers/*/dot_general",
        edits=(
            Edit(
                TRAIN,
                "jax.tree.map(accumulated, older, newer)",
                "jax.tree.map(lambda _, last: last, older, newer)",
            ),
        ),
        scenarios=(("fp8_scan", "nanoo-accumulated-scan0"),),
    ),
    Fault(
        id="fp8_shared_statistics",
        title="two products share their statistics",
        source="FM66",
        channel="outputs",
        module="*wi_1.dot_general.*",
        expect="error",
        edits=(
            Edit(
                "impl/nnx/layers.py",
                "        self.dropout = dropout(config, rngs)\n        self.wo",
                "        self.wi_1.dot_general = self.wi_0.dot_general\n"
                "        self.dropout = dropout(config, rngs)\n        self.wo",
            ),
        ),
        scenarios=(("fp8_scan", "gpu-bf16-remat"),),
    ),
    Fault(
        id="fp8_rule_misses",
        title="the rule that says what is quantised misses the MLPs",
        source="FM67",
        channel="outputs",
        module="*mlp.wi.dot_general.*",
        expect="error",
        edits=(Edit(DOT, "if quantised(config, axes)", 'if quantised(config, axes) and "mlp" not in axes'),),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_stale_tracer",
        title="a product keeps what it read of its statistics while it was traced",
        source="B08",
        channel="outputs",
        module="*UnexpectedTracerError*",
        expect="error",
        edits=(
            Edit(DOT, 'TENSORS = ("input"', 'KEPT: dict = {}\nTENSORS = ("input"'),
            Edit(DOT, METAS, f'KEPT.setdefault("metas", {METAS})'),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
)

ARITHMETIC = (
    Fault(
        id="fp8_history_not_turned",
        title="the newest amax overwrites the one before it",
        source="FM66",
        channel="claims",
        module="histories turn by one",
        expect="claim",
        edits=(Edit(MATHS, TURNED, "history.at[0].set(amax)"),),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_scale_of_this_step",
        title="a scale follows from the amax of its own step",
        source="FM66",
        channel="claims",
        module="scales follow from the histories before the step",
        expect="claim",
        edits=(
            Edit(
                MATHS,
                "return Meta(next_history(values, meta.history), next_scale(meta, form))",
                "history = next_history(values, meta.history)\n"
                "    return Meta(history, next_scale(Meta(history, meta.scale), form))",
            ),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_gradient_format",
        title="gradients are represented in the format of operands",
        source="B50",
        channel="claims",
        module="scales follow from the histories before the step",
        expect="claim",
        edits=(
            Edit(
                MATHS,
                '"fp8": Formats(jnp.dtype(jnp.float8_e4m3fn), jnp.dtype(jnp.float8_e5m2), False)',
                '"fp8": Formats(jnp.dtype(jnp.float8_e4m3fn), jnp.dtype(jnp.float8_e4m3fn), False)',
            ),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_kernel_not_rounded",
        title="the kernel is not rounded to 8 bits",
        source="B50",
        channel="loss",
        module="decoder/layers/0/self_attention/qkv_proj/dot_general",
        edits=(Edit(MATHS, "make(kernel, after[1].scale, formats.forward)", "kernel"),),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="fp8_gradient_not_rounded",
        title="the gradient of a product is not rounded to 8 bits",
        source="B50",
        channel="loss",
        module="decoder/layers/2/mlp/*",
        edits=(Edit(MATHS, "held = make(grad, new.scale, formats.backward)", "held = grad"),),
        scenarios=(("fp8_scan", "scan1"),),
    ),
    Fault(
        id="linen_statistics_in_norm",
        title="on the Linen side statistics count in the gradient's norm",
        source="S15",
        channel="loss",
        module="optimizer",
        edits=(
            Edit("impl/linen/train.py", 'raw_norm = global_norm(grads["params"])', "raw_norm = global_norm(grads)"),
        ),
        scenarios=(("fp8_scan", "scan1"),),
    ),
)

BRIDGED = (
    Fault(
        id="fp8_not_over_the_bridge",
        title="what Linen overwrites comes over the bridge as Variables of a type that nothing differentiates",
        source="FM66",
        channel="outputs",
        module="*dot_general*",
        expect="error",
        edits=(Edit(DOT, "nnx.register_variable_name(COLLECTION, Overwritten)", "del COLLECTION"),),
        scenarios=(("fp8_bridged", "written-out,linen:nnx_linen_dots"),),
    ),
)

FAULTS: tuple[Fault, ...] = (*STATISTICS, *ARITHMETIC, *BRIDGED)
