"""Faults in layers that norm what they add (olmo3's), and in norms that store how far their scale is from 1."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

BLOCKS, ATTENTION, LAYERS = "impl/nnx/blocks.py", "impl/nnx/attention.py", "impl/nnx/layers.py"

OLMO = "        return self.dropout(x + self.post_mlp_layer_norm(self.mlp(x)))\n"
MIXED = "x + self.post_self_attention_layer_norm(self.attention(x, positions, segment_ids, mode))"
WINDOW = "self.attention = Attention(config, rngs=rngs, window=config.window(kind), "
OFFSET = "            epsilon=config.normalization_layer_epsilon,\n            offset=config.norm_offset,\n"
EPSILON = "        epsilon=epsilon,\n        offset=config.norm_offset,\n"

SCAN1, CENTRED = ("olmo3", "scan1"), ("olmo3", "zero_centred-scan1")

FAULTS = (
    Fault(
        id="olmo3_dropout_built_in_the_call",
        title="dropout is built where it is called, with a stream of its own that begins anew each time",
        source="B03",
        channel="claims",
        module="the draws of both sides can be paired*",
        expect="claim",
        edits=(
            Edit(
                BLOCKS,
                OLMO,
                "        drop = nnx.Dropout(self.dropout.rate, broadcast_dims=(-2,), rngs=nnx.Rngs(7))\n"
                "        return drop(x + self.post_mlp_layer_norm(self.mlp(x)))\n",
            ),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="olmo3_norms_the_sum",
        title="the norm takes the stream with what attention adds, and not the addition alone",
        source="FM31",
        channel="loss",
        module="decoder/layers/layers/0",
        edits=(
            Edit(
                BLOCKS,
                MIXED,
                "self.post_self_attention_layer_norm(x + self.attention(x, positions, segment_ids, mode))",
            ),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="olmo3_global_layers_see_a_window",
        title="every layer gets the window, the global ones too",
        source="FM31",
        channel="loss",
        module="decoder/layers/layers/1/attention",
        edits=(
            Edit(BLOCKS, WINDOW, "self.attention = Attention(config, rngs=rngs, window=config.sliding_window_size, "),
        ),
        scenarios=(SCAN1,),
    ),
    Fault(
        id="centred_norm_without_offset",
        title="the norms of queries and keys multiply by what is stored, which is scale - 1",
        source="FM31",
        channel="loss",
        module="decoder/layers/0/self_attention/*_norm",
        edits=(Edit(ATTENTION, OFFSET, "            epsilon=config.normalization_layer_epsilon,\n"),),
        scenarios=(CENTRED,),
    ),
    Fault(
        id="centred_norm_without_epsilon",
        title="the factory of norms passes no epsilon on: the default of the class stands",
        source="FM31",
        channel="loss",
        module="decoder/layers/0/pre_self_attention_layer_norm*",
        edits=(Edit(LAYERS, EPSILON, "        offset=config.norm_offset,\n"),),
        scenarios=(CENTRED,),
    ),
)
