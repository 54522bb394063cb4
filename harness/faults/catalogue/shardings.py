"""Faults about devices: where weights, slots and activations lie, and what is lost on the way there or after a step."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

LINEN, NNX = "impl/linen/sharding.py", "impl/nnx/sharding.py"
ON_MESH, LINEN_ON_MESH = "impl/nnx/sharded.py", "impl/linen/sharded.py"
STACKED = "        return variable.replace(NamedSharding(mesh, spec))"
STEP = "            return super().step(jax.device_put(batch, self.batch_sharding))"
ROWS = 'field[[row % (len(field) // self.mesh.shape["data"]) for row in range(len(field))]]'
SHARED = f"            batch = Batch(*[{ROWS} for field in batch])\n{STEP}"

SCAN1, SCAN0 = ("shardings", "fsdp-tensor-scan1"), ("shardings", "transposed-scan0")
ZERO = ("shardings", "zero-accumulated")

FAULTS = (
    Fault(
        id="nnx_rules_last_wins",
        title="NNX is handed ordered rules as they are: of two for a name it keeps the last",
        source="FM71",
        channel="shardings",
        module="*",
        edits=(Edit(NNX, "tuple(assigned(names, rules.logical).items())", "rules.logical"),),
        scenarios=(SCAN0,),
    ),
    Fault(
        id="nnx_scan_axis_shifted",
        title="a stacked weight gets the spec of one layer, so that its layers are sharded by another axis' rule",
        source="B02",
        channel="outputs",
        module="*IndivisibleError*",
        expect="error",
        edits=(
            Edit(
                NNX,
                STACKED,
                "        spec = PartitionSpec(*(axes for name, axes in zip(names, spec) if name != 'layers'))\n"
                + STACKED,
            ),
        ),
        scenarios=(SCAN0,),
    ),
    Fault(
        id="nnx_slots_replicated",
        title="optimizer slots lose their names and are whole on every device",
        source="FM63",
        channel="shardings",
        module="*",
        edits=(
            Edit(
                NNX,
                STACKED,
                f"        if isinstance(variable, nnx.OptState):\n            spec = PartitionSpec()\n{STACKED}",
            ),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="nnx_weights_replicated",
        title="every stacked weight is whole on every device; only table and norm are sharded",
        source="FM70",
        channel="shardings",
        module="init/decoder/layers/*",
        edits=(
            Edit(
                NNX,
                STACKED,
                f"        if 'layers' in names:\n            spec = PartitionSpec()\n{STACKED}",
            ),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="nnx_logical_name_misspelt",
        title="the value projection's heads have a name that no rule knows, and are whole on every device",
        source="B57",
        channel="shardings",
        module="init/decoder/layers/*/self_attention/value",
        edits=(
            Edit(
                "impl/nnx/attention.py",
                "            self.value = dense(config, narrow, (keys, size), key_axes, bias, rngs)",
                "            key_axes = ('embed', 'kv_head', 'kv_head_dim')\n"
                "            self.value = dense(config, narrow, (keys, size), key_axes, bias, rngs)",
            ),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="linen_rules_ignored",
        title="Linen resolves its names without rules: everything is whole on every device",
        source="FM75",
        channel="shardings",
        module="*",
        edits=(Edit(LINEN, "mesh, rules.logical)", "mesh, ((rules.mesh_axes[0], ()),))"),),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="nnx_sharding_lost_after_step",
        title="a step hands stacked weights back whole on every device",
        source="FM71",
        channel="outputs",
        module="*does not match the sharding on the respective arg*",
        expect="error",
        edits=(
            Edit(
                ON_MESH,
                "out_shardings=(leaves, whole),",
                "out_shardings=([whole if x.ndim > 2 else s for s, x in zip(leaves, self._leaves)], whole),",
            ),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="nnx_zero_without_effect",
        title="ZeRO-1 is asked for and slots stay whole along the data axis",
        source="S14",
        channel="shardings",
        module="*",
        edits=(Edit(ON_MESH, "        if plan.zero:", "        if plan.zero > 1:"),),
        scenarios=(ZERO,),
    ),
    Fault(
        id="nnx_activations_unheld",
        title="the hidden state after each layer is held to no sharding",
        source="B53",
        channel="shardings",
        module="activations*",
        edits=(Edit("impl/nnx/transformer.py", "return constrained(x, HIDDEN), rest", "return x, rest"),),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="tiling_head_gathered_thrice",
        title="nothing gathers the head before the tiles: both passes' loops each ask for it themselves",
        source="B29",
        channel="claims",
        module="the head is gathered once",
        expect="claim",
        edits=(
            Edit(
                "impl/nnx/tiling.py",
                "jax.tree.map(_gathered, weights,",
                "jax.tree.map(lambda variable: variable, weights,",
            ),
        ),
        scenarios=(("collectives", "untied"), ("collectives", "accumulated")),
    ),
    Fault(
        id="explicit_axes_of_size_one",
        title="activations are brought to the rules as they are, axes of size 1 included: types do not go together",
        source="B32",
        channel="outputs",
        module="*ShardingTypeError*",
        expect="error",
        edits=(Edit("impl/nnx/activations.py", "if mesh.shape[axis] > 1)", "if mesh.shape[axis])"),),
        scenarios=(("sharded_train", "explicit"),),
    ),
    Fault(
        id="offload_misses_a_norm",
        title="parameters are on the host, and one norm does not fetch its scale",
        source="B52",
        channel="outputs",
        module="*memory_space of all inputs*",
        expect="error",
        edits=(
            Edit(
                "impl/nnx/blocks.py",
                "self.pre_self_attention_layer_norm = block_norm(config, epsilon, rngs)",
                "there = config.overriding({'parameter_memory_host_offload': False})\n"
                "        self.pre_self_attention_layer_norm = block_norm(there, epsilon, rngs)",
            ),
        ),
        scenarios=(("sharded_train", "offloaded"),),
    ),
    Fault(
        id="both_share_rows_twice",
        title="both sides hand every part of the data axis the rows of the first",
        source="C2",
        channel="loss",
        module="optimizer",
        edits=(Edit(ON_MESH, STEP, SHARED), Edit(LINEN_ON_MESH, STEP, SHARED)),
        scenarios=(("sharded_equals_single", "data"),),
    ),
    Fault(
        id="spread_accumulation_mean_of_means",
        title="on a mesh as off it, each microbatch weighs the same, however many tokens it has",
        source="FM65",
        channel="loss",
        module="optimizer",
        edits=(
            Edit(
                "impl/nnx/train.py",
                "grads, (terms, rest) = differentiate(params, rest, part)\n",
                "grads, (terms, rest) = differentiate(params, rest, part)\n"
                "        grads = scaled(grads, terms.weights * count)\n",
            ),
            Edit("impl/nnx/train.py", "return scaled(total, terms.weights), terms, rest", "return total, terms, rest"),
        ),
        scenarios=(("sharded_train", "zero-accumulated"),),
    ),
)
