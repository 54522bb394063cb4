"""Changes that mean nothing: other words for the same program, other seeds, sizes and settings. No alarm is due."""

from typing import Any

from harness.faults.catalogue.grid import GRID
from harness.faults.record import Edit, Variation

__all__ = ["VARIATIONS"]

NNX, LINEN = "impl/nnx", "impl/linen"


def _worded(name: str, title: str, *edits: Edit, cell: str = "llama2-scan1") -> Variation:
    return Variation(id=name, title=title, scenario="train_step", cell=cell, edits=edits)


def _set(name: str, title: str, cell: str, seed: int = 0, **settings: Any) -> Variation:
    """`settings` of the model; "__" stands for a dot of the path, and a leading one for a setting beside the model."""
    paths = {key[2:].replace("__", ".") if key.startswith("__") else f"config.{key}": settings[key] for key in settings}
    return Variation(id=name, title=title, scenario="train_step", cell=cell, settings=paths, seed=seed)


_NORM = "        self.post_self_attention_layer_norm = block_norm(config, epsilon, rngs)\n"
_SECOND = "        setattr(self, self.names[1], (mixture if self.sparse else Mlp)(config, rngs=rngs))\n"

WORDED = (
    _worded(
        "nnx_attributes_reordered",
        "two norms are constructed in another order: weights are transplanted, so nothing may change",
        Edit(
            f"{NNX}/blocks.py",
            f'{_NORM}        mixture = SharedMoe if config.decoder_block == "deepseek" else RoutedMoe\n{_SECOND}',
            f'        mixture = SharedMoe if config.decoder_block == "deepseek" else RoutedMoe\n{_SECOND}{_NORM}',
        ),
    ),
    _worded(
        "nnx_projections_named",
        "the projections have names before they are returned (not another order: that sums cotangents otherwise)",
        Edit(
            f"{NNX}/attention.py",
            "            return self.query(x), self.key(x), self.value(x)\n",
            "            query = self.query(x)\n            key, value = self.key(x), self.value(x)\n"
            "            return query, key, value\n",
        ),
    ),
    _worded(
        "nnx_local_renamed",
        "the final norm is a local variable before it is called",
        Edit(
            f"{NNX}/transformer.py",
            "        return self.decoder_norm(self.residual(",
            "        norm = self.decoder_norm\n        return norm(self.residual(",
        ),
    ),
    _worded(
        "nnx_residual_commuted",
        "the residual is added from the other side",
        Edit(
            f"{NNX}/blocks.py",
            "x + (feed_forward(normed, mode) if self.sparse else feed_forward(normed))",
            "(feed_forward(normed, mode) if self.sparse else feed_forward(normed)) + x",
        ),
    ),
    _worded(
        "nnx_projections_as_list",
        "the MLP's projections are collected in a loop",
        Edit(
            f"{NNX}/layers.py",
            "        projections = tuple(getattr(self, name)(x) for name in input_projections(config))\n",
            "        found = []\n        for name in input_projections(config):\n"
            "            found.append(getattr(self, name)(x))\n        projections = tuple(found)\n",
        ),
        cell="gemma2-scan1",
    ),
    _worded(
        "nnx_loop_by_index",
        "layers are looked up by index",
        Edit(
            f"{NNX}/transformer.py",
            "            for layer in layers:\n                x = layer(x,",
            "            for index in range(len(layers)):\n                x = layers[index](x,",
        ),
        cell="llama2",
    ),
    _worded(
        "nnx_extra_method",
        "a module has a method that nobody calls",
        Edit(
            f"{NNX}/layers.py",
            "    def __call__(self, x: jax.Array) -> jax.Array:\n        config = self.config\n",
            "    def width(self) -> int:\n        return self.config.mlp_dim\n\n"
            "    def __call__(self, x: jax.Array) -> jax.Array:\n        config = self.config\n",
        ),
        cell="gpt3-scan0",
    ),
    _worded(
        "nnx_norm_before_metrics",
        "the parameters' norm is taken through another name",
        Edit(
            f"{NNX}/train.py",
            "        params = nnx.state(train_state.model, nnx.Param)\n",
            "        model = train_state.model\n        params = nnx.state(model, nnx.Param)\n",
        ),
    ),
    _worded(
        "linen_locals_renamed",
        "Linen's MLP calls its hidden value otherwise",
        Edit(
            f"{LINEN}/layers.py",
            'hidden = dropout(config, "dropout")(hidden, deterministic=self.deterministic)\n',
            'kept = dropout(config, "dropout")(hidden, deterministic=self.deterministic)\n        hidden = kept\n',
        ),
    ),
    _worded(
        "maths_square_as_product",
        "log Z is squared by a product instead of jnp.square, on both sides",
        Edit("impl/math/loss.py", "z = z_loss * jnp.square(log_z)", "z = z_loss * (log_z * log_z)"),
    ),
)

SET = (
    _set("seed_1", "other weights and batches", "llama2-scan1", seed=1),
    _set("seed_2", "other weights and batches", "gemma2-scan1", seed=2),
    _set("seed_3", "other weights and batches", "gpt3-scan0", seed=3),
    _set("wider", "other widths", "llama2-scan1", emb_dim=28, mlp_dim=52),
    _set(
        "more_heads",
        "six query heads, three key heads, wider heads",
        "qwen3-scan1",
        num_query_heads=6,
        num_kv_heads=3,
        head_dim=8,
    ),
    _set("vocabulary", "another vocabulary", "qwen3-scan1", vocab_size=301),
    _set("two_layers", "two layers", "llama2", num_decoder_layers=2),
    _set("five_layers", "five layers, scanned", "gemma2-scan1", num_decoder_layers=5),
    _set("longer", "longer rows", "llama3.1-scan1", max_target_length=40),
    _set("more_rows", "another number of rows", "llama2-scan1", __rows=5),
    _set("bfloat16", "bfloat16 in computation", "mistral-scan1", dtype="bfloat16"),
    _set("rematerialised", "another remat policy", "fused-scan1", remat_policy="minimal"),
    _set("wide_window", "another sliding window", "gemma2-scan1", sliding_window_size=9),
    _set("scan_axis_0", "stacked at axis 0", "fused-scan1", param_scan_axis=0),
)

VARIATIONS: tuple[Variation, ...] = (*WORDED, *SET, *GRID)
