"""Faults in how layers are stacked, ordered, scanned, rematerialised and annotated on the NNX side."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

LAYERS, MODEL, STATE = "impl/nnx/layers.py", "impl/nnx/transformer.py", "impl/nnx/state.py"

LOOP = "            for layer in layers:\n                x = layer("
SCAN = "x, rest = jax.lax.scan(lambda carry, state: body(carry, positions, segment_ids, state), x, (params, rest))"
FILL = "    arrays = overlay("

ORDER = (
    Fault(
        id="layers_reversed",
        title="layers run from the last to the first",
        source="FM31",
        channel="loss",
        module="decoder/layers/0/pre_self_attention_layer_norm/normalise",
        edits=(Edit(MODEL, LOOP, LOOP.replace("in layers", "in reversed(list(layers))")),),
        scenarios=(("train_step", "llama2"),),
    ),
    Fault(
        id="scan_reversed",
        title="the scan runs over the stack from its end",
        source="FM31",
        channel="loss",
        module="decoder/layers/0/pre_self_attention_layer_norm/normalise",
        edits=(Edit(MODEL, SCAN, SCAN.replace("(params, rest))", "(params, rest), reverse=True)")),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="last_layer_skipped",
        title="the last layer is never run",
        source="S17",
        channel="loss",
        module="decoder",
        edits=(Edit(MODEL, LOOP, LOOP.replace("in layers", "in list(layers)[:-1]")),),
        scenarios=(("train_step", "llama2"),),
    ),
    Fault(
        id="weights_by_flatten_order",
        title="weights are paired by flatten order: layer 10 comes before layer 2",
        source="FM05",
        channel="loss",
        module="decoder/layers/2/pre_self_attention_layer_norm",
        edits=(
            Edit(
                STATE,
                FILL,
                "    def number(path):\n        return [key.zfill(9) if key.isdigit() else key for key in path]\n\n"
                "    counted = sorted(leaves, key=number)\n"
                "    leaves = dict(zip(counted, [leaves[path] for path in sorted(leaves)]))\n" + FILL,
            ),
        ),
        scenarios=(("train_step", "eleven-layers"),),
    ),
    Fault(
        id="scan_axis_wrong",
        title="weights are stacked at another axis than the one that the scan takes apart",
        source="FM31",
        channel="outputs",
        module="*decoder/layers/*expected float32*",
        expect="error",
        edits=(Edit(MODEL, "{nnx.Param: config.param_scan_axis, ...: 0}", "{nnx.Param: 0, ...: 0}"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="gate_weights_swapped",
        title="two weights of one shape change places on their way into the model",
        source="FM06",
        channel="loss",
        module="decoder/layers/0/mlp/wi_0",
        edits=(
            Edit(
                STATE,
                FILL,
                '    swap = {"wi_0": "wi_1", "wi_1": "wi_0"}\n'
                "    leaves = {path: leaves[tuple(swap.get(key, key) for key in path)] for path in leaves}\n" + FILL,
            ),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
)

ANNOTATION = (
    Fault(
        id="both_scan_backwards",
        title="both sides scan from the last layer to the first: parity cannot see it",
        source="FM31",
        channel="loss",
        module="*",
        edits=(
            Edit(
                "impl/linen/transformer.py",
                "            length=group.count,\n",
                "            length=group.count,\n            reverse=True,\n",
            ),
            Edit(MODEL, "state), x, (params, rest))", "state), x, (params, rest), reverse=True)"),
        ),
        scenarios=(
            ("scanned_equals_written_out", "llama2,linen:gradients(overriding={'scan_layers': True})"),
            ("scanned_equals_written_out", "llama2,nnx:gradients(overriding={'scan_layers': True})"),
        ),
    ),
    Fault(
        id="both_trace_frozen",
        title="a Python counter on both sides counts traces instead of layers once a scan is compiled",
        source="FM31",
        channel="loss",
        module="*",
        edits=(
            Edit(
                "impl/math/gates.py",
                "    for other in others:\n",
                "    gate.calls = getattr(gate, 'calls', 0) + 1\n    first = first * (1.0 + 0.01 * gate.calls)\n"
                "    for other in others:\n",
            ),
        ),
        scenarios=(
            ("eager_equals_compiled", "qwen3,linen:eager_gradients"),
            ("eager_equals_compiled", "qwen3,nnx:eager_gradients"),
        ),
    ),
    Fault(
        id="both_accumulate_mean_of_means",
        title="both sides add means of microbatches and divide by all tokens once more: parity cannot see it",
        source="FM31",
        channel="loss",
        module="*",
        edits=(
            Edit(
                "impl/training/objective.py",
                "        return terms.xent_sum, terms\n",
                "        return terms.xent_sum / (terms.weights + EPSILON), terms\n",
            ),
        ),
        scenarios=(
            ("accumulated_equals_whole", "llama2,linen:train(retrained={'gradient_accumulation_steps': 3})"),
            ("accumulated_equals_whole", "llama2,nnx:train(retrained={'gradient_accumulation_steps': 3})"),
        ),
    ),
    Fault(
        id="remat_applies_layers_twice",
        title="a rematerialised layer is applied to its own output",
        source="FM31",
        channel="loss",
        module="*",
        edits=(
            Edit(
                MODEL,
                "return jax.checkpoint(body, policy",
                "return jax.checkpoint(lambda x, p, s, state: body(body(x, p, s, state)[0], p, s, state), policy",
            ),
        ),
        scenarios=(("remat_equals_kept", "gpt3,nnx:gradients(overriding={'remat_policy': 'full'})"),),
    ),
    Fault(
        id="remat_lost",
        title="layers are no longer rematerialised: every value is the same, and memory is not",
        source="FM78",
        channel="graph",
        module="train/*",
        edits=(
            Edit(
                MODEL,
                'return jax.checkpoint(body, policy=remat.policy(name), prevent_cse=group.form != "scanned")',
                "return body",
            ),
        ),
        scenarios=(("train_step", "remat-full"),),
    ),
    Fault(
        id="logical_axes_swapped",
        title="the logical axes of a projection change places",
        source="FM71",
        channel="structure",
        module="decoder/layers/0/mlp/wo",
        edits=(Edit(LAYERS, '("mlp", "embed"), bias', '("embed", "mlp"), bias'),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="scan_axis_name_lost",
        title="stacked weights lose the name of their layer axis, so that it is sharded as something else",
        source="B02",
        channel="structure",
        module="decoder/layers/0/pre_self_attention_layer_norm",
        edits=(Edit(MODEL, "transform_metadata={nnx.PARTITION_NAME: group.name}", "transform_metadata={}"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="scan_axis_renamed",
        title="the layer axis has another name than every sharding rule expects",
        source="FM71",
        channel="structure",
        module="decoder/layers/0/pre_self_attention_norm",
        edits=(Edit(MODEL, "{nnx.PARTITION_NAME: group.name}", '{nnx.PARTITION_NAME: "blocks"}'),),
        scenarios=(("train_step", "gpt3-scan0"),),
    ),
    Fault(
        id="weight_dtype_ignored",
        title="norm scales are created in float32 whatever the configuration says",
        source="FM14",
        channel="outputs",
        module="*scale*bfloat16*float32*",
        expect="error",
        edits=(Edit(LAYERS, "jnp.full((features,), 1.0 - offset, dtype)", "jnp.full((features,), 1.0 - offset)"),),
        scenarios=(("train_step", "bf16-weights-scan1"),),
    ),
)

FAULTS: tuple[Fault, ...] = (*ORDER, *ANNOTATION)
