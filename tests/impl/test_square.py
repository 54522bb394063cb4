"""Either side's checkpoint, taken up by either side: training goes on to the bit as if nothing had happened."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, convert, load_tree, save_tree
from impl.inputs import batches
from impl.names import BridgeError
from impl.params import draw
from impl.programs import batch
from impl.sides import side
from impl.tiny import family
from impl.training.settings import TrainSettings

SIDES = ("linen", "nnx")
LAYOUTS = {"unscanned": {}, "scanned": {"scan_layers": True, "param_scan_axis": 1}}
SAVED, LAST = 2, 4
INPUTS = batches(rows=3, length=24, steps=LAST + 1, seed=6)
TRAIN = TrainSettings(warmup_steps=3, schedule_steps=9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(side, layout): the trainer, its checkpoint of step 2 on disk, and what the uninterrupted run became."""

    @cache
    def run(name, layout):
        config = family("llama2", **LAYOUTS[layout])
        trainer = side(name).Trainer(config, TRAIN, draw(config, 6), 5)
        losses = [trainer.step(batch(INPUTS, step)) for step in range(SAVED)]
        folder = tmp_path_factory.mktemp(f"{name}-{layout}")
        save_tree(folder / "own", trainer.tree())
        at_break = observed(trainer)
        losses += [trainer.step(batch(INPUTS, step)) for step in range(SAVED, LAST)]
        return trainer, folder, at_break, observed(trainer), losses

    return run


def observed(trainer):
    return {**trainer.weights(), **trainer.slots()}


def disturbed(trainer):
    """The trainer after a step on another batch: whatever a checkpoint does not bring back stays visibly wrong."""
    trainer.step(batch(INPUTS, LAST))
    return trainer


def same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loads", SIDES)
@pytest.mark.parametrize("saves", SIDES)
def test_training_goes_on_bit_equal_whoever_saved_and_whoever_loads(trained, tmp_path, saves, loads, layout):
    _, folder, at_break, after, losses = trained(saves, layout)
    taking = disturbed(trained(loads, layout)[0])
    assert taking.steps_done != SAVED
    source = folder / "own"
    if saves != loads:
        report = convert(source, tmp_path / "converted", to=loads, layout="keep", scan_axis=1)
        assert [row.path for row in report.dropped if row.path.startswith(("params", "model", "step"))] == []
        source = tmp_path / "converted"
    taking.restore(load_tree(source))
    assert taking.steps_done == SAVED
    same(observed(taking), at_break)
    for step in range(SAVED, LAST):
        same(taking.step(batch(INPUTS, step)), losses[step])
    same(observed(taking), after)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory):
    """{side: a trainer with dropout whose weights stay, its checkpoint of step 2, what it was then, its losses}."""
    config = family("llama2", dropout_rate=0.3, **LAYOUTS["scanned"])
    still = TrainSettings(opt_type="adam_pax", learning_rate=0.0, schedule="scalar", adam_weight_decay=0.0)
    found = {}
    for name in SIDES:
        trainer = side(name).Trainer(config, still, draw(config, 8), 5)
        losses = [float(trainer.step(batch(INPUTS, step))["learning/loss"]) for step in range(SAVED)]
        folder, at_break = tmp_path_factory.mktemp(f"{name}-dropping") / "own", observed(trainer)
        save_tree(folder, trainer.tree())
        losses += [float(trainer.step(batch(INPUTS, step))["learning/loss"]) for step in range(SAVED, LAST)]
        found[name] = trainer, folder, at_break, losses
    return found


@pytest.mark.parametrize("loads", SIDES)
@pytest.mark.parametrize("saves", SIDES)
def test_whoever_saved_masks_go_on_where_the_one_that_loads_would_be(dropping, tmp_path, saves, loads):
    """Weights do not move here, so that a side's losses depend on its masks alone, and those on seed and step."""
    _, source, at_break, _ = dropping[saves]
    taking, _, _, losses = dropping[loads]
    if saves != loads:
        convert(source, tmp_path / "converted", to={"linen": "D1", "nnx": "D3"}[loads], layout="keep", scan_axis=1)
        source = tmp_path / "converted"
    taking.adopt(load_tree(source))
    same(observed(taking), at_break)
    assert [float(taking.step(batch(INPUTS, step))["learning/loss"]) for step in range(SAVED, LAST)] == losses[SAVED:]
    assert len(set(losses)) == LAST


def test_streams_that_a_tree_has_in_part_are_not_made_up(dropping):
    taking, source, _, _ = dropping["nnx"]
    tree = load_tree(source)
    del tree["model"]["decoder"]["dropout"]["rngs"]["count"]
    with pytest.raises(BridgeError, match="model/decoder/dropout/rngs/count is missing"):
        taking.adopt(tree)


def test_the_run_that_is_resumed_is_one_that_moves(trained):
    """Without this, bit-equality above could be that of nothing."""
    for name in SIDES:
        _, _, at_break, after, losses = trained(name, "scanned")
        assert [key for key, value in at_break.items() if np.array_equal(value, after[key])] == []
        assert len({float(metrics["learning/loss"]) for metrics in losses}) == LAST
        assert int(after["step"]) == LAST


@pytest.mark.parametrize("loads", SIDES)
@pytest.mark.parametrize("saves", SIDES)
def test_a_scanned_checkpoint_goes_into_an_unscanned_model(trained, tmp_path, saves, loads):
    _, folder, at_break, _, losses = trained(saves, "scanned")
    convert(folder / "own", tmp_path / "apart", to=loads, layout="unscanned", scan_axis=1)
    taking = disturbed(trained(loads, "unscanned")[0])
    taking.restore(load_tree(tmp_path / "apart"))
    same(observed(taking), at_break)
    metrics = taking.step(batch(INPUTS, SAVED))
    # Scanned and unscanned layers are two programs, which XLA fuses differently: some roundings of float32.
    assert float(metrics["learning/loss"]) == pytest.approx(float(losses[SAVED]["learning/loss"]), rel=2e-6)


@pytest.mark.parametrize("saves", SIDES)
def test_both_sides_go_on_alike_from_one_relaid_checkpoint(trained, tmp_path, saves):
    after = {}
    for loads in SIDES:
        convert(trained(saves, "scanned")[1] / "own", tmp_path / loads, to=loads, layout="unscanned", scan_axis=1)
        taking = disturbed(trained(loads, "unscanned")[0])
        taking.restore(load_tree(tmp_path / loads))
        taking.step(batch(INPUTS, SAVED))
        after[loads] = observed(taking)
    same(after["nnx"], after["linen"])


@pytest.mark.parametrize("name", SIDES)
def test_without_conversion_another_format_or_layout_is_refused_and_nothing_changes(trained, name):
    other = SIDES[1 - SIDES.index(name)]
    taking = disturbed(trained(name, "unscanned")[0])
    before = observed(taking)
    for source in (trained(other, "unscanned")[1], trained(name, "scanned")[1]):
        with pytest.raises(BridgeError, match="is missing; nearest: "):
            taking.restore(load_tree(source / "own"))
    same(observed(taking), before)


def test_a_checkpoint_is_not_written_over(trained):
    trainer, folder, *_ = trained("linen", "unscanned")
    with pytest.raises(CheckpointError, match="the target exists, expected nothing"):
        save_tree(folder / "own", trainer.tree())
