"""Faults in which the side that runs is not the one that the flag names."""

from harness.faults.record import ATTESTATION, Edit, Fault

__all__ = ["FAULTS"]

LAYERS = "impl/nnx/layers.py"

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="flag_selects_linen",
        title="the NNX flag quietly selects the Linen implementation",
        source="B33",
        channel=ATTESTATION,
        module="side nnx declares nnx, but train traced linen*",
        expect="refused",
        edits=(Edit("impl/sides.py", '"nnx": "impl.nnx"', '"nnx": "impl.linen"'),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="linen_norm_in_nnx",
        title="one module of the NNX side is still Linen, through the bridge",
        source="FM68",
        channel=ATTESTATION,
        module="side nnx declares nnx, but train traced linen and nnx*",
        expect="refused",
        edits=(
            Edit(LAYERS, "from flax import nnx\n", "from flax import linen, nnx\nfrom flax.nnx import bridge\n"),
            Edit(
                LAYERS,
                "self.normalise = nnx.RMSNorm(features, epsilon=epsilon, dtype=dtype, use_scale=False, rngs=rngs)",
                "norm = linen.RMSNorm(epsilon=epsilon, dtype=dtype, use_scale=False)\n"
                "        self.normalise = bridge.ToNNX(norm, rngs=rngs).lazy_init(jnp.zeros((1, features)))",
            ),
        ),
        scenarios=(("train_step", "llama2"),),
    ),
)
