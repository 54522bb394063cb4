"""A third forward pass and its losses, from the formulae, in float64 NumPy: what both sides are held against.

Linen and NNX share `impl.math`, so a slip there moves both alike and no comparison of the two can see it. This package
shares nothing with it, nor the derived properties of `ModelConfig`: it reads the fields, spells the neutral names
itself, and goes through rows, positions, heads and pairs of coordinates one at a time. It is slow and small on purpose.

Sources: the decoder blocks, the head and the losses as MaxText documents them (its commit e591f30cb); scaled
dot-product attention (arXiv 1706.03762), grouped queries (2305.13245), rotary embedding (2104.09864), its slowed
frequencies (Llama 3.1's published rescaling; YaRN, 2309.00071), RMS norm (1910.07467), layer norm (1607.06450), gated
MLPs (2002.05202), GELU by tanh (1606.08415), the z-loss (2204.02311); for experts and latents see those modules.

Numbers are float64 whatever `dtype` and `weight_dtype` say. Dropout is off. Letters as in `impl.math`: rows B of T
positions; E wide; H query and K key heads of D coordinates; F inside the MLP; V tokens.
"""

from impl.reference.plain.decoder import logits
from impl.reference.plain.leaves import PlainError
from impl.reference.plain.losses import Losses, objective

__all__ = ["Losses", "PlainError", "logits", "objective"]
