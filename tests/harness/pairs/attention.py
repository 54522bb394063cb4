"""An attention block with an embedding and a tied head; attention dropout in train mode."""

from functools import partial

import flax.linen as nn
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, tokens, train):
        embed = nn.Embed(13, 8)
        x = embed(tokens)
        attend = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.2, deterministic=not train)
        x = x + attend(nn.LayerNorm()(x), mask=nn.make_causal_mask(tokens))
        x = x + nn.Dropout(0.25, deterministic=not train)(nn.Dense(8)(x))
        self.sow("intermediates", "size", (x**2).mean())
        return embed.attend(nn.RMSNorm()(x))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(13, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(num_heads=2, in_features=8, dropout_rate=0.2, decode=False, rngs=rngs)
        self.dense = nnx.Linear(8, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.25, rngs=rngs)
        self.final = nnx.RMSNorm(8, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = x + self.attend(self.norm(x), mask=nnx.make_causal_mask(tokens))
        x = x + self.dropout(self.dense(x))
        self.sow(nnx.Intermediate, "size", (x**2).mean())
        return self.embed.attend(self.final(x))


def inputs(rng):
    return {"tokens": rng.integers(0, 13, (3, 6), dtype="int32"), "next": rng.integers(0, 13, (3, 6), dtype="int32")}


def loss(logits, batch):
    return {"entropy": optax.softmax_cross_entropy_with_integer_labels(logits, batch["next"]).mean()}


PAIR = module_pair(
    "attention",
    linen=LinenModel(
        module=LinenBlock(),
        train=lambda m, b: m(b["tokens"], train=True),
        evaluate=lambda m, b: m(b["tokens"], train=False),
    ),
    nnx=NnxModel(create=NnxBlock, call=lambda m, b: m(b["tokens"])),
    task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.adam, 3e-3)),
    renames={
        "Embed_0": "embed",
        "LayerNorm_0": "norm",
        "MultiHeadDotProductAttention_0": "attend",
        "Dense_0": "dense",
        "Dropout_0": "dropout",
        "RMSNorm_0": "final",
    },
)
