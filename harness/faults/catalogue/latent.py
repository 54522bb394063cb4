"""Faults in latent attention: what is normed, what turns, by what dot products are multiplied."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

ATTENTION = "impl/nnx/mla.py"
FIRST = "decoder/dense_layers/0/self_attention"

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="latent_not_normed",
        title="keys and values are made of the latent as it was projected, and its norm is never called",
        source="C7",
        channel="loss",
        module=f"{FIRST}*",
        edits=(Edit(ATTENTION, "        latent = self.kv_norm(latent)\n", ""),),
        scenarios=(("mla", "lora-scan1"),),
    ),
    Fault(
        id="shared_key_not_turned",
        title="the part of the keys that all heads share is not turned by its position",
        source="C7",
        channel="loss",
        module=f"{FIRST}*",
        edits=(
            Edit(
                ATTENTION,
                "compressed(self.wkv_a(x), positions, rope)",
                "compressed(self.wkv_a(x), positions * 0, rope)",
            ),
        ),
        scenarios=(("mla", "lora-scan1"),),
    ),
    Fault(
        id="stretch_forgotten",
        title="attention in a stretched model is as sharp as in one that was not",
        source="C7",
        channel="loss",
        module=f"{FIRST}*",
        edits=(
            Edit(
                ATTENTION,
                "jnp.asarray(config.query_scale, config.dtype)",
                "jnp.asarray((config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5, config.dtype)",
            ),
        ),
        scenarios=(("mla", "lora-scan1"),),
    ),
    Fault(
        id="latents_of_others_seen",
        title="a decoding query attends to latents of padding, of empty slots and of an earlier request",
        source="FM52",
        channel="claims",
        module="a slot used again has forgotten",
        expect="claim",
        edits=(Edit(ATTENTION, "cached.positions, cached.valid,", "cached.positions, jnp.ones_like(cached.valid),"),),
        scenarios=(("mla_decode", "lora-scan1"),),
    ),
    Fault(
        id="latents_cached_before_norm",
        title="the cache keeps latents as they were projected, and what is read from it is not normed either",
        source="FM52",
        channel="outputs",
        module=f"{FIRST}*",
        edits=(
            Edit(ATTENTION, "        latent = self.kv_norm(latent)\n", ""),
            Edit(
                ATTENTION,
                "            mask = training_mask(",
                "            latent = self.kv_norm(latent)\n            mask = training_mask(",
            ),
        ),
        scenarios=(("mla_decode", "lora-scan1"),),
    ),
)
