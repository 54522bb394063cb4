"""Faults in serving: the cache of keys and values, its mask, its axes, and what both sides share of it."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

ATTENTION = "impl/nnx/attention.py"

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="cache_not_written_back",
        title="new keys and values are computed but never stored",
        source="FM52",
        channel="claims",
        module="step * slots differ",
        expect="claim",
        edits=(Edit(ATTENTION, "            variable[...] = leaves[name]\n", "            pass\n"),),
        scenarios=(("prefill_decode", "llama2"),),
    ),
    Fault(
        id="cache_validity_ignored",
        title="a decoding query attends to padding, to empty slots and to what an earlier request left",
        source="FM52",
        channel="claims",
        module="a slot used again has forgotten",
        expect="claim",
        edits=(Edit(ATTENTION, "cached.positions, cached.valid,", "cached.positions, jnp.ones_like(cached.valid),"),),
        scenarios=(("prefill_decode", "llama2-scan"),),
    ),
    Fault(
        id="decode_window_ignored",
        title="decoding has no sliding window, training has one",
        source="B24",
        channel="outputs",
        module="decoder/layers/0/self_attention_*",
        edits=(Edit(ATTENTION, "cached.valid, window=self.window)", "cached.valid)"),),
        scenarios=(("prefill_decode", "gemma2-scan"),),
    ),
    Fault(
        id="cache_axis_renamed",
        title="the cache's slots have a name by which insert does not look for them",
        source="B55",
        channel="outputs",
        module="*none is called 'cache_batch'*",
        expect="error",
        edits=(
            Edit(
                ATTENTION,
                "**partitioned(leaf.axes)))",
                '**partitioned(("cache_batch_prefill", *leaf.axes[1:]))))',
            ),
        ),
        scenarios=(("prefill_decode", "llama2"),),
    ),
    Fault(
        id="both_decode_without_window",
        title="the mask of the cache, shared by both sides, forgets the window: parity cannot see it",
        source="FM52",
        channel="outputs",
        module="model",
        edits=(
            Edit(
                "impl/math/masks.py",
                "key_valid[:, None, :] & _reaches(distance, window)",
                "key_valid[:, None, :] & _reaches(distance, -1)",
            ),
        ),
        scenarios=(("decode_equals_forward", "gemma2,linen:full"), ("decode_equals_forward", "gemma2,nnx:full")),
    ),
    Fault(
        id="both_keep_padding",
        title="the padding of a prompt counts as text in the cache that both sides share",
        source="FM52",
        channel="outputs",
        module="model",
        edits=(
            Edit(
                "impl/serving/kv.py",
                "return Cached(key, value, positions, segments != 0)",
                "return Cached(key, value, positions, segments >= 0)",
            ),
        ),
        scenarios=(("decode_equals_forward", "llama2,nnx:full"),),
    ),
)
