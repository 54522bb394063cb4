"""The claims of the program qk_clip: they hold of what should be, each is false of what should not, and its adamw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import optax
import pytest

from impl import clip_programs
from impl.clip_programs import Seen, Watch, adamw
from impl.config import ConfigError
from impl.latent import PEAKS
from impl.params import draw
from impl.stacks import places
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from tests.impl.math import clip_oracle
from tests.impl.test_clip import SETTINGS, clipped


def test_the_update_that_claims_calculate_is_optaxs():
    weights = {name: np.asarray(value) for name, value in (("a/kernel", [[0.4, -2.0]]), ("b/scale", [0.7]))}
    gradients = {"a/kernel": np.asarray([[3.0, 1e-5]]), "b/scale": np.asarray([-0.2])}
    tx = optimizer(SETTINGS)
    state, held, before = tx.init(weights), dict(weights), {}
    for _ in range(2):
        moments = {
            f"0/{slot}/{name}": np.asarray(getattr(state[0], slot)[name]) for slot in ("mu", "nu") for name in weights
        }
        before = {**held, **moments, "0/count": np.asarray(state[0].count)}
        share = 1.0 / float(np.sqrt(sum(np.sum(value**2) for value in gradients.values())))
        updates, state = tx.update({name: value * share for name, value in gradients.items()}, state, held)
        held = {name: np.asarray(value) for name, value in optax.apply_updates(held, updates).items()}
    found = adamw(SETTINGS, before, gradients)
    expected = {**held, **{f"0/mu/{name}": state[0].mu[name] for name in weights}}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


CONFIG = clipped("deepseek_mla", load_balance_loss_weight=0.0)


def step():
    """One step as it should be, of kernels alone."""
    weights = {
        name: value for name, value in draw(CONFIG, 3).items() if name.endswith(("query/kernel", "wkv_b/kernel"))
    }
    gradients = {name: 0.1 * value for name, value in draw(CONFIG, 4).items() if name in weights}
    weights["other"], gradients["other"] = np.asarray([0.3, -0.4]), np.asarray([0.1, 0.2])
    moments = {
        f"0/{slot}/{name}": np.full(value.shape, 1e-3) for slot in ("mu", "nu") for name, value in weights.items()
    }
    before = {**weights, **moments, "0/count": np.asarray(3)}
    largest = np.asarray([[4.0, 7.0, 3.0, 4.7], [6.0, 2.0, 5.0, -1.0], [4.6, 9.0, 4.5, 1.0]], np.float32)
    after = adamw(SETTINGS, before, gradients)
    for row, place in enumerate(places(CONFIG)):
        for leaf, rule in (("query", clip_oracle.queries), ("wkv_b", clip_oracle.keys_and_values)):
            name = f"{place.name}/self_attention/{leaf}/kernel"
            after[name] = rule(after[name], largest[row], 4.6, 7)
    return Seen(largest, np.float32(9.0), gradients, before, after, True)


def told(seen):
    return {name for name, held in clip_programs.claims(CONFIG, SETTINGS, [seen]).items() if not held}


def test_claims_hold_of_a_step_as_it_should_be():
    assert told(step()) == set()
    assert len(clip_programs.claims(CONFIG, SETTINGS, [step()])) == 6 + 2 * 3


KERNEL = "decoder/moe_layers/0/self_attention/wkv_b/kernel"
BY_HEAD = f"{KERNEL} is what the optimizer made of it, clipped by head"
BROKEN = {
    "some heads are beyond the threshold": lambda seen: seen._replace(largest=seen.largest * 0 + 4.6),
    "some heads are not beyond the threshold": lambda seen: seen._replace(largest=seen.largest * 0 + 4.7),
    "layers differ in which heads are beyond it": lambda seen: seen._replace(largest=seen.largest[:1].repeat(3, 0)),
    "the reported logit is the largest": lambda seen: seen._replace(reported=np.float32(9.001)),
    "the state keeps its leaves": lambda seen: seen._replace(kept=False),
    "everything else is what the optimizer made of it": lambda seen: seen._replace(
        after={**seen.after, "0/nu/other": seen.after["0/nu/other"] * 1.001}
    ),
    BY_HEAD: lambda seen: seen._replace(after={**seen.after, KERNEL: seen.after[KERNEL] * 1.0001}),
}


@pytest.mark.parametrize("claim", BROKEN)
def test_claims_are_false_of_a_step_as_it_should_not_be(claim):
    assert claim in told(BROKEN[claim](step()))


def test_a_state_that_gained_a_leaf_is_seen():
    tree = {"weight": np.ones(3)}
    trainer = SimpleNamespace(
        tree=lambda: dict(tree),
        weights=dict,
        slots=dict,
        gradients=lambda _: ({}, SimpleNamespace(aux={PEAKS: np.ones((1, 1))})),
    )
    watch = Watch(lambda _: trainer, {"train": SETTINGS}, ["one", "two"])
    watch.stepped({"learning/max_logits": np.float32(1.0)})
    tree["max_logits"] = np.ones((2, 4))
    watch.stepped({"learning/max_logits": np.float32(1.0)})
    assert [seen.kept for seen in watch.seen] == [True, False]


def test_another_optimizer_is_refused():
    with pytest.raises(ConfigError, match=r"opt_type='sgd': this program calculates the updates of adamw again"):
        Watch(lambda _: None, {"train": TrainSettings(opt_type="sgd")}, [])
