"""enable_nnx and pure_nnx_decoder, not pure_nnx: the whole NNX Transformer as a Linen module (ToLinen)."""

from __future__ import annotations

from collections.abc import Callable

from flax import linen as nn
from flax import nnx
from flax.nnx import bridge

from impl.config import ModelConfig
from impl.linen import trainer
from impl.nnx.transformer import Transformer

__all__ = ["Trainer", "in_mode", "to_linen"]


def in_mode(build: Callable[..., nnx.Module]) -> Callable[..., nnx.Module]:
    """`build` followed by eval() or train(): a Linen module has no mode to switch later."""

    def made(config: ModelConfig, deterministic: bool, *, rngs: nnx.Rngs) -> nnx.Module:
        model = build(config, rngs=rngs)
        if deterministic:
            model.eval()
        else:
            model.train()
        return model

    return made


def to_linen(build: Callable[..., nnx.Module]) -> Callable[..., nn.Module]:
    """A Linen module class, (config, deterministic=True) -> module, around `build`."""
    made = in_mode(build)

    def wrapped(config: ModelConfig, *, deterministic: bool = True) -> nn.Module:
        return bridge.to_linen(made, config, deterministic)

    return wrapped


class Trainer(trainer.Trainer):
    """Trains the bridged model as a Linen model. Parameters keep NNX's names; list indices stay integers."""

    model = staticmethod(to_linen(Transformer))
    layout = "layers/{i}"

    def structure(self) -> dict[str, str]:
        """As a Linen model's. Asked for its axes, NNXMeta makes a Variable anew and would place it on a mesh."""
        with nnx.use_eager_sharding(False):
            return super().structure()
