"""The partly migrated sides, through flax.nnx.bridge: what a code base is while it is between Linen and NNX."""
