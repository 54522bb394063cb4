"""A stranger's pair: one MLP in Linen and in NNX. Run it with `harness run --pair examples.mlp:PAIR`."""

from functools import partial

import flax.linen as nn
import jax
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(24)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.3, deterministic=not train)(nn.relu(x))
        return nn.Dense(5)(x)


class NnxMLP(nnx.Module):
    def __init__(self, rngs):
        self.linear1 = nnx.Linear(7, 24, rngs=rngs)
        self.norm = nnx.BatchNorm(24, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.linear2 = nnx.Linear(24, 5, rngs=rngs)

    def __call__(self, x):
        return self.linear2(self.dropout(nnx.relu(self.norm(self.linear1(x)))))


def inputs(rng):
    return {"x": rng.standard_normal((11, 7), dtype="float32"), "label": rng.integers(0, 5, 11, dtype="int32")}


def loss(logits, batch):
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    return {"entropy": entropy, "z": 1e-3 * (jax.nn.logsumexp(logits, axis=-1) ** 2).mean()}


PAIR = module_pair(
    "mlp",
    linen=LinenModel(
        module=LinenMLP(), train=lambda m, b: m(b["x"], train=True), evaluate=lambda m, b: m(b["x"], train=False)
    ),
    nnx=NnxModel(create=NnxMLP, call=lambda m, b: m(b["x"])),
    task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.adamw, 1e-2)),
    renames={"Dense_0": "linear1", "BatchNorm_0": "norm", "Dropout_0": "dropout", "Dense_1": "linear2"},
)
