"""A conv net with batch normalisation and two unequal strides; its loss has a term on the activations."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for features, stride in ((6, 1), (10, 2)):
            x = nn.Conv(features, (3, 2), strides=stride)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(x))
        return nn.Dense(4)(x.mean(axis=(1, 2)))


class NnxBlock(nnx.Module):
    def __init__(self, shape, stride, rngs):
        self.conv = nnx.Conv(*shape, (3, 2), strides=stride, rngs=rngs)
        self.norm = nnx.BatchNorm(shape[1], momentum=0.8, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NnxBlock((3, 6), 1, rngs), NnxBlock((6, 10), 2, rngs)])
        self.head = nnx.Linear(10, 4, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


def inputs(rng):
    return {
        "image": rng.standard_normal((5, 9, 7, 3), dtype="float32"),
        "target": rng.standard_normal((5, 4), "float32"),
    }


def loss(output, batch):
    return {"square": jnp.mean((output - batch["target"]) ** 2), "size": 0.01 * jnp.mean(jnp.abs(output))}


PAIR = module_pair(
    "conv",
    linen=LinenModel(
        module=LinenNet(),
        train=lambda m, b: m(b["image"], train=True),
        evaluate=lambda m, b: m(b["image"], train=False),
    ),
    nnx=NnxModel(create=NnxNet, call=lambda m, b: m(b["image"])),
    task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.sgd, 0.1, momentum=0.9)),
    renames={
        "Conv_0": "blocks/0/conv",
        "Conv_1": "blocks/1/conv",
        "BatchNorm_0": "blocks/0/norm",
        "BatchNorm_1": "blocks/1/norm",
        "Dense_0": "head",
    },
)
