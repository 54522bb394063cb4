"""Train states of both sides: made by zero-argument callables, abstract without allocating, unchanged in structure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from impl.inputs import FIELDS, batches
from impl.linen.state import abstract_state as linen_abstract
from impl.linen.state import init_state_fn as linen_init
from impl.linen.transformer import Transformer as LinenTransformer
from impl.nnx.state import TrainStateNNX, logical_axes
from impl.nnx.state import abstract_state as nnx_abstract
from impl.nnx.state import init_state_fn as nnx_init
from impl.nnx.train import on_leaves, train_step
from impl.nnx.transformer import Transformer as NnxTransformer
from impl.tiny import family
from impl.training.objective import Batch
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from impl.trees import flat, flat_axes

TX = optimizer(TrainSettings())


class Speaking(nnx.Module):
    """A model so small that it runs uncompiled, which leaves an intermediate, counts its calls and draws dropout."""

    def __init__(self, config, *, rngs):
        self.config = config
        self.table = nnx.Param(jax.random.normal(rngs.params(), (config.vocab_size, 5)) * 0.3)
        self.head = nnx.Param(jax.random.normal(rngs.params(), (5, config.vocab_size)) * 0.4)
        self.calls = nnx.BatchStat(jnp.asarray(4, jnp.int32))
        self.dropout = nnx.Dropout(rate=0.25, rngs=rngs)

    def __call__(self, tokens, positions, segment_ids):
        hidden = self.dropout(self.table[...][tokens])
        self.hidden = nnx.Intermediate(hidden)  # what sow does outside of a capture
        self.calls[...] = self.calls[...] + 1
        return hidden @ self.head[...]


def one_batch():
    made = batches(rows=4, length=12, steps=1, seed=9)
    return Batch(*[jnp.asarray(made[f"step0/{field}"]) for field in FIELDS])


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "accumulated"])
def stepped(request):
    """A state before and after one step of the speaking model, as flat paths, and its split."""
    settings = TrainSettings(schedule="scalar", gradient_accumulation_steps=request.param)
    config = family("llama2", dropout_rate=0.25)
    graphdef, state = nnx.split(nnx_init(Speaking, optimizer(settings), config, 3)())
    before = {path: np.asarray(leaf) for path, leaf in flat(nnx.to_pure_dict(_words(state))).items()}
    after, metrics = train_step(config, settings, graphdef)(state, one_batch())
    return request.param, state, before, after, metrics


def _words(state):
    """The state with typed keys as their words, so that all of it is NumPy."""

    def words(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return jax.tree.map(words, state)


def test_intermediates_never_leave_the_step_and_the_structure_stays(stepped):
    _, state, _, after, _ = stepped
    assert jax.tree.structure(after) == jax.tree.structure(state)
    kinds = {type(variable) for _, variable in nnx.to_flat_state(after)}
    assert not any(issubclass(kind, nnx.Intermediate) for kind in kinds)
    assert nnx.BatchStat in kinds
    assert not [path for path in flat(nnx.to_pure_dict(after)) if "hidden" in path]


def test_intermediates_left_in_a_state_from_an_earlier_call_do_not_survive_a_step():
    settings, config = TrainSettings(schedule="scalar"), family("llama2", dropout_rate=0.25)
    state = nnx_init(Speaking, optimizer(settings), config, 3)()
    made = one_batch()
    state.model(made.tokens, made.positions, made.segment_ids)
    graphdef, before = nnx.split(state)
    after, _ = train_step(config, settings, graphdef)(before, made)
    left = {path for path, variable in nnx.to_flat_state(before) if isinstance(variable, nnx.Intermediate)}
    assert left == {("model", "hidden")}
    assert {path for path, _ in nnx.to_flat_state(before)} - {path for path, _ in nnx.to_flat_state(after)} == left


def test_a_step_moves_weights_slots_streams_and_statistics_once_a_microbatch(stepped):
    count, _, before, after, metrics = stepped
    now = {path: np.asarray(leaf) for path, leaf in flat(nnx.to_pure_dict(_words(after))).items()}
    moved = {path for path in now if not np.array_equal(now[path], before[path])}
    still = {path for path in now if path not in moved}
    assert all(path[-1] == "key" for path in still), still
    assert int(now["model", "calls"]) == 4 + count
    assert int(now["model", "dropout", "rngs", "count"]) == int(before["model", "dropout", "rngs", "count"]) + count
    assert int(now["optimizer", "step"]) == 1
    assert float(metrics["learning/loss"]) > 0


def test_a_state_without_optimizer_cannot_be_trained():
    config = family("llama2")
    model = Speaking(config, rngs=nnx.Rngs(params=3, dropout=4))
    before = np.asarray(model.head[...])
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    with pytest.raises(RuntimeError, match=r"no optimizer .* build it with one to train"):
        TrainStateNNX(model, None).apply_gradients(grads)
    np.testing.assert_array_equal(model.head[...], before)


def test_gradients_are_applied_in_place_and_extra_reaches_the_optimizer():
    seen = {}

    def update(grads, state, params=None, **extra):
        seen.update(extra)
        return jax.tree.map(lambda leaf: leaf * -0.5, grads), state

    model = Speaking(family("llama2"), rngs=nnx.Rngs(params=3, dropout=4))
    before = np.asarray(model.head[...])
    tx = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    state = TrainStateNNX(model, nnx.Optimizer(model, tx, wrt=nnx.Param))
    state.apply_gradients(jax.tree.map(lambda leaf: leaf * 3, nnx.state(model, nnx.Param)), loss=2.5)
    np.testing.assert_allclose(state.model.head[...], before * np.float32(-0.5), rtol=1e-6)
    assert seen == {"loss": 2.5}


def test_a_step_that_changes_the_structure_is_refused_while_tracing():
    leaves, structure = jax.tree.flatten({"w": jnp.asarray([2.5, 3.5]), "b": jnp.asarray([1.5])})

    def growing(state, batch):
        return {**state, "hidden": state["w"] * batch}, {"loss": batch}

    def turning(state, batch):
        return {"w": state["b"], "b": state["w"] * batch}, {"loss": batch}

    with pytest.raises(ValueError, match=r"changed the structure of the state: .*'hidden'.* instead of "):
        jax.eval_shape(on_leaves(growing, structure), leaves, jnp.float32(3.0))
    after, metrics = on_leaves(turning, structure)(leaves, jnp.float32(3.0))
    assert [leaf.tolist() for leaf in after] == [[7.5, 10.5], [1.5]]
    assert float(metrics["loss"]) == 3.0


ABSTRACT = {
    "unscanned": family("llama2"),
    "scan0": family("gpt3", scan_layers=True, param_scan_axis=0),
    "scan1": family("qwen3", scan_layers=True, weight_dtype="bfloat16"),
}


@pytest.mark.parametrize("config", ABSTRACT.values(), ids=ABSTRACT)
def test_abstract_states_allocate_nothing_and_carry_logical_axes(config):
    linen = linen_abstract(LinenTransformer(config), TX, config)
    both = {
        "linen": (linen, flat_axes(nn.get_partition_spec(linen.params["params"]))),
        "nnx": (nnx_abstract(NnxTransformer, TX, config), {}),
    }
    _, state = nnx.split(both["nnx"][0])
    both["nnx"] = (state, logical_axes(nnx.state(both["nnx"][0].model, nnx.Param)))
    for side, (made, axes) in both.items():
        leaves = jax.tree.leaves(made)
        assert {type(leaf) for leaf in leaves} == {jax.ShapeDtypeStruct}, side
        assert len(leaves) >= 3 * len(axes), "parameters and two moments"
        stacked = {path: names.index("layers") for path, names in axes.items() if "layers" in names}
        inside = [path for path in axes if path[:2] == ("decoder", "layers")]
        assert sorted(stacked) == (sorted(inside) if config.scan_layers else []), side
        assert set(stacked.values()) <= {config.param_scan_axis}, side
    assert bool(stacked) == config.scan_layers
    if config.scan_layers:
        assert both["linen"][1] == both["nnx"][1]


def test_axes_of_moments_are_those_of_their_weights():
    config = ABSTRACT["scan1"]
    linen = linen_abstract(LinenTransformer(config), TX, config)
    axes = flat_axes(nn.get_partition_spec(linen.opt_state[0].mu["params"]))
    state = nnx.state(nnx_abstract(NnxTransformer, TX, config))
    moments = {path[4:]: names for path, names in logical_axes(state).items() if path[3:4] == ("mu",)}
    assert moments == axes == flat_axes(nn.get_partition_spec(linen.params["params"]))
    assert axes["decoder", "layers", "self_attention", "key", "kernel"] == (
        "embed",
        "layers",
        "kv_heads",
        "kv_head_dim",
    )


def nnx_params(config):
    def make(seed):
        return nnx.to_pure_dict(nnx.state(nnx_init(NnxTransformer, TX, config, seed)().model, nnx.Param))

    return make


def linen_params(config):
    def make(seed):
        return nn.unbox(linen_init(LinenTransformer(config), TX, config, seed)().params["params"])

    return make


@pytest.mark.parametrize("make", [linen_params, nnx_params])
def test_a_seed_makes_the_same_state_each_time_and_another_makes_another(make):
    init = make(family("llama2", scan_layers=True))
    # Traced twice with the same seed: nothing outside the callable has a say.
    assert str(jax.make_jaxpr(lambda: init(3))()) == str(jax.make_jaxpr(lambda: init(3))())
    compiled = jax.jit(init)
    first, other = flat(compiled(3)), flat(compiled(4))
    assert len(first) == 12
    for path, leaf in first.items():
        drawn = path[-1] in ("kernel", "embedding")
        assert np.array_equal(leaf, other[path]) != drawn, path
    query = np.asarray(first["decoder", "layers", "self_attention", "query", "kernel"])
    assert not np.array_equal(query[:, 0], query[:, 1]), "layers drawn alike"


def test_fresh_states_stand_at_step_0_of_their_own_dtype():
    config = ABSTRACT["scan1"]
    linen = linen_abstract(LinenTransformer(config), TX, config)
    nnx_state = nnx_abstract(NnxTransformer, TX, config)
    assert (linen.step.dtype, linen.step.shape) == (jnp.int32, ())
    assert (nnx_state.optimizer.step.dtype, nnx_state.optimizer.step.shape) == (jnp.uint32, ())
