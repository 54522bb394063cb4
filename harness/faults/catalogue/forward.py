"""Faults inside one layer's forward pass on the NNX side: norms, attention, MLP, embedding, head."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

ATTENTION, BLOCKS, LAYERS = "impl/nnx/attention.py", "impl/nnx/blocks.py", "impl/nnx/layers.py"
MODEL = "impl/nnx/transformer.py"

FIRST = "decoder/layers/0"
MIXED = f"{FIRST}/self_attention/out"
"""Positions, masks and the mixing itself are no modules: the first one that shows them is the output projection."""

NORMS = (
    Fault(
        id="norm_epsilon",
        title="RMSNorm built without its epsilon keyword: the framework's default takes its place",
        source="B04",
        channel="loss",
        module=f"{FIRST}/pre_self_attention_layer_norm/normalise",
        edits=(Edit(LAYERS, "nnx.RMSNorm(features, epsilon=epsilon, dtype", "nnx.RMSNorm(features, dtype"),),
        scenarios=(("train_step", "llama2"),),
    ),
    Fault(
        id="norm_offset_lost",
        title="gpt3 stores scale - 1, and the 1 is not added back",
        source="FM09",
        channel="loss",
        module=f"{FIRST}/pre_self_attention_norm",
        edits=(Edit(LAYERS, "offset=config.norm_offset,", "offset=0.0,"),),
        scenarios=(("train_step", "gpt3-scan1"),),
    ),
    Fault(
        id="wrong_norm_called",
        title="the MLP's input goes through the norm that belongs before attention",
        source="FM11",
        channel="loss",
        module=f"{FIRST}/post_self_attention_layer_norm*",
        edits=(Edit(BLOCKS, "normed = self.post_self_attention", "normed = self.pre_self_attention"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="norm_bias_unused",
        title="LayerNorm keeps its bias but no longer adds it",
        source="FM08",
        channel="loss",
        module=f"{FIRST}/pre_self_attention_norm",
        edits=(Edit(LAYERS, "return scaled + self.fetch(self.bias[...]).astype(self.dtype)", "return scaled"),),
        scenarios=(("train_step", "gpt3-scan0"),),
    ),
    Fault(
        id="qk_norm_missing",
        title="queries and keys are no longer normed; their norms' weights are still there",
        source="FM11",
        channel="loss",
        module=f"{FIRST}/self_attention/query_norm*",
        edits=(
            Edit(
                ATTENTION, "query, key = self._normed(self.query_norm, query), self._normed(self.key_norm, key)", "pass"
            ),
        ),
        scenarios=(("train_step", "qwen3-scan1"),),
    ),
    Fault(
        id="qk_norm_epsilon",
        title="the norms of queries and keys use an epsilon of their own",
        source="B04",
        channel="loss",
        module=f"{FIRST}/self_attention/query_norm/normalise",
        edits=(Edit(ATTENTION, "epsilon=config.normalization_layer_epsilon,", "epsilon=1e-5,"),),
        scenarios=(("train_step", "qwen3-scan1"),),
    ),
)

ATTENDING = (
    Fault(
        id="rope_halves",
        title="rotary pairs are neighbours where they should be halves",
        source="FM07",
        channel="loss",
        module=MIXED,
        edits=(
            Edit(ATTENTION, "import jax\n", "from dataclasses import replace\n\nimport jax\n"),
            Edit(
                ATTENTION,
                "rope = config.rope_of(self.kind)",
                "rope = replace(config.rope_of(self.kind), interleave=not config.rope_interleave)",
            ),
        ),
        scenarios=(("train_step", "mistral-scan1"),),
    ),
    Fault(
        id="positions_ignored",
        title="rotary positions count rows from 0 instead of following the packed segments",
        source="FM52",
        channel="loss",
        module=MIXED,
        edits=(
            Edit(
                ATTENTION,
                "if not config.trainable_position_size:\n",
                "if not config.trainable_position_size:\n"
                "            positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])\n",
            ),
        ),
        scenarios=(("train_trajectory", "adamw"),),
    ),
    Fault(
        id="query_scale_missing",
        title="queries are not scaled where the forward pass has to do it",
        source="FM09",
        channel="loss",
        module=MIXED,
        edits=(Edit(ATTENTION, "if config.query_scale != 1.0:", "if config.query_scale == 0.0:"),),
        scenarios=(("train_step", "qwen3-scan1"),),
    ),
    Fault(
        id="key_value_swapped",
        title="two tensors of one shape change places: keys and values",
        source="FM06",
        channel="loss",
        module=MIXED,
        edits=(
            Edit(ATTENTION, "self.query(x), self.key(x), self.value(x)", "self.query(x), self.value(x), self.key(x)"),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="soft_cap_missing",
        title="attention logits are not capped",
        source="FM09",
        channel="loss",
        module=f"{FIRST}/self_attention_local/out",
        edits=(Edit(ATTENTION, "soft_cap=config.attn_logits_soft_cap", "soft_cap=0.0"),),
        scenarios=(("train_step", "gemma2-scan1"),),
    ),
    Fault(
        id="window_off_by_one",
        title="the sliding window is one token wider",
        source="FM10",
        channel="loss",
        module=f"{FIRST}/self_attention_local/out",
        edits=(Edit(BLOCKS, '("local", config.sliding_window_size)', '("local", config.sliding_window_size + 1)'),),
        scenarios=(("train_step", "gemma2-scan1"),),
    ),
    Fault(
        id="segments_ignored",
        title="packed documents attend to each other",
        source="FM49",
        channel="loss",
        module=MIXED,
        edits=(Edit(ATTENTION, "training_mask(segment_ids,", "training_mask(jnp.ones_like(segment_ids),"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
)

FEEDING = (
    Fault(
        id="gate_up_swapped",
        title="two tensors of one shape change places: gate and up projection",
        source="FM06",
        channel="loss",
        module=f"{FIRST}/mlp/dropout",
        edits=(
            Edit(
                LAYERS, "gate(config.mlp_activations, projections)", "gate(config.mlp_activations, projections[::-1])"
            ),
        ),
        scenarios=(("train_step", "llama2"),),
    ),
    Fault(
        id="gelu_exact",
        title="the exact GELU instead of its approximation by tanh",
        source="FM10",
        channel="loss",
        module=f"{FIRST}/mlp_local/dropout",
        edits=(
            Edit(
                LAYERS,
                "gate(config.mlp_activations, projections)",
                "jax.nn.gelu(projections[0], approximate=False) * projections[1]",
            ),
        ),
        scenarios=(("train_step", "gemma2-scan1"),),
    ),
    Fault(
        id="mlp_bias_missing",
        title="a projection is built without its bias: the weight has nowhere to go",
        source="FM08",
        channel="outputs",
        module="*wo*bias*belongs nowhere*",
        expect="error",
        edits=(Edit(LAYERS, '("mlp", "embed"), bias, rngs)', '("mlp", "embed"), False, rngs)'),),
        scenarios=(("train_step", "fused"),),
    ),
    Fault(
        id="embedding_dtype",
        title="embeddings are looked up in the weights' dtype instead of the computation's",
        source="FM09",
        channel="loss",
        module="token_embedder",
        edits=(
            Edit(
                MODEL,
                "dtype=jnp.dtype(config.dtype),\n        param_dtype",
                "dtype=jnp.dtype(config.weight_dtype),\n        param_dtype",
            ),
        ),
        scenarios=(("train_step", "bf16"),),
    ),
    Fault(
        id="tied_head_divides_twice",
        title="tied logits are divided by sqrt(E) once more",
        source="FM13",
        channel="loss",
        module="model",
        edits=(
            Edit(
                MODEL,
                "return logits(self.config, self.token_embedder, x)",
                "x = x / jnp.sqrt(jnp.float32(self.config.emb_dim))\n"
                "            return logits(self.config, self.token_embedder, x)",
            ),
        ),
        scenarios=(("train_step", "gemma2-scan1"),),
    ),
    Fault(
        id="tied_table_untied",
        title="the head no longer sends a gradient to the table that it shares with the embedding",
        source="FM56",
        channel="loss",
        module="token_embedder",
        edits=(
            Edit(
                MODEL,
                "else embedder.attend(x)",
                "else x @ jax.lax.stop_gradient(embedder.embedding[...]).T",
            ),
        ),
        scenarios=(("train_step", "qwen3-scan1"),),
    ),
)

FAULTS: tuple[Fault, ...] = (*NORMS, *ATTENDING, *FEEDING)
