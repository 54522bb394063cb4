"""The training loop: when it saves, what it takes up, what it reports. The trainer is a fake; the disk is real."""

from __future__ import annotations

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, load_tree
from impl.training.loop import Checkpoints, fit, newest


class Counting:
    """A Trains whose state is what it has seen: `total` gathers the batches, `seen` their order."""

    def __init__(self, total=0.5):
        self.steps_done, self.total, self.seen, self.restored = 0, total, [], []

    def step(self, batch):
        self.seen.append(batch)
        self.steps_done += 1
        self.total = self.total * 1.5 + batch
        return {"loss": np.float32(self.total)}

    def tree(self):
        return {"total": np.float32(self.total), "step": np.int32(self.steps_done)}

    def restore(self, tree):
        self.restored.append(int(tree["step"]))
        self.steps_done, self.total = int(tree["step"]), float(tree["total"])


def batch(step):
    return step * 10 + 3


def saved(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_a_checkpoint_is_written_after_every_k_updates_and_after_the_last(tmp_path):
    trainer = Counting()
    metrics = fit(trainer, batch, 7, Checkpoints(tmp_path / "run", 3))
    assert saved(tmp_path / "run") == [3, 6, 7]
    assert list(metrics) == list(range(7))
    assert trainer.seen == [3, 13, 23, 33, 43, 53, 63]
    assert trainer.restored == []
    third = Counting()
    fit(third, batch, 3, Checkpoints(tmp_path / "other", 50))
    assert saved(tmp_path / "other") == [3]
    assert load_tree(tmp_path / "run" / "3") == load_tree(tmp_path / "other" / "3") == third.tree()


def test_the_last_is_written_once_when_it_is_also_a_kth(tmp_path):
    fit(Counting(), batch, 4, Checkpoints(tmp_path, 2))
    assert saved(tmp_path) == [2, 4]


def test_the_newest_checkpoint_is_taken_up_and_training_goes_on_where_it_ended(tmp_path):
    straight = Counting()
    expected = fit(straight, batch, 11, Checkpoints(tmp_path / "straight", 4))
    fit(Counting(), batch, 10, Checkpoints(tmp_path / "broken", 4))
    resumed = Counting(total=-77.0)
    metrics = fit(resumed, batch, 11, Checkpoints(tmp_path / "broken", 4))
    # Ten is newer than eight and, as text, older.
    assert resumed.restored == [10]
    assert resumed.seen == [103]
    assert list(metrics) == [10]
    assert metrics[10]["loss"] == expected[10]["loss"]
    assert saved(tmp_path / "broken") == [4, 8, 10, 11]


def test_nothing_is_trained_or_written_when_the_steps_are_done(tmp_path):
    fit(Counting(), batch, 5, Checkpoints(tmp_path, 2))
    resumed = Counting()
    assert fit(resumed, batch, 5, Checkpoints(tmp_path, 2)) == {}
    assert fit(resumed, batch, 4, Checkpoints(tmp_path, 2)) == {}
    assert resumed.seen == []
    assert saved(tmp_path) == [2, 4, 5]


def test_unfinished_checkpoints_and_other_folders_are_not_steps(tmp_path):
    fit(Counting(), batch, 4, Checkpoints(tmp_path, 4))
    for name in ("9.orbax-checkpoint-tmp-1234", "tmp-12", "-13", "14_old", "best"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path) == 4
    resumed = Counting()
    fit(resumed, batch, 5, Checkpoints(tmp_path, 4))
    assert resumed.restored == [4]
    assert resumed.seen == [43]


def test_a_write_that_fails_leaves_no_step_behind(tmp_path):
    class Broken(Counting):
        def tree(self):
            return {"total": object()}

    with pytest.raises(CheckpointError, match="total: a object, expected an array"):
        fit(Broken(), batch, 2, Checkpoints(tmp_path, 2))
    assert newest(tmp_path) == -1


def test_no_folder_and_an_empty_folder_have_no_newest(tmp_path):
    assert newest(tmp_path / "nothing") == -1
    assert newest(tmp_path) == -1
