"""A decoder language model twice, in native Flax Linen and native Flax NNX: the harness's first pair."""
