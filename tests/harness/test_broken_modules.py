"""Every broken twin is caught: by a difference, by a claim of its own side, or by the name map."""

import pytest

from harness.names import NameMapError
from tests.harness.pairs import attention, broken
from tests.harness.pairs.run import found, results


@pytest.mark.parametrize("program", ["structure", "forward", "state"])
def test_the_faults_are_what_breaks_the_twins(program):
    assert found(broken.SOUND, program) == []


CAUGHT = {
    broken.ExactGelu: ("forward", "outputs/output"),
    broken.Epsilon: ("forward", "outputs/output"),
    broken.Swapped: ("forward", "outputs/output"),
    broken.TrainInEval: ("state", "claims/an eval call changes nothing"),
    broken.StatsFrozen: ("state", "claims/a train call moves every batch statistic"),
    broken.IdleDropout: ("state", "claims/dropout: no two train calls draw the same mask"),
    broken.OnePattern: ("state", "claims/dropout: no two train calls draw the same mask"),
    broken.DropsInEval: ("state", "claims/dropout: two eval calls agree"),
    broken.OtherRate: ("structure", "structure/dropout/rates"),
}


@pytest.mark.parametrize("kind", CAUGHT, ids=lambda kind: kind.__name__)
def test_broken_twins_are_caught(kind):
    program, name = CAUGHT[kind]
    assert name in found(broken.twin(kind), program)


UNBOUND = {
    broken.NoBias: ("linen params/Dense_1/bias float32[12]: nnx has no params/second/bias",),
    broken.Transposed: ("linen params/Dense_0/kernel is float32[7, 12], nnx params/first/kernel is float32[12, 7]",),
    broken.OtherName: ("linen params/Dense_0/kernel", 'cure: renames={"Dense_0/kernel": "first/weight"}'),
    broken.FrozenLayer: ("linen params/Dense_2/kernel", "nnx variable/third/kernel"),
}


@pytest.mark.parametrize("kind", UNBOUND, ids=lambda kind: kind.__name__)
def test_twins_that_do_not_fit_are_refused(kind):
    with pytest.raises(NameMapError) as caught:
        broken.twin(kind).prepare({}, 0)
    assert all(text in str(caught.value) for text in UNBOUND[kind])


def test_an_idle_loss_term_is_caught():
    assert "claims/loss auxiliary is not trivially zero" in found(broken.ZERO_TERM, "grad")


def test_taps_place_a_difference_at_a_module():
    assert found(broken.twin(broken.Epsilon), "taps") == [
        "intermediates/.",
        "intermediates/BatchNorm_0",
        "intermediates/Dense_1",
        "intermediates/Dense_2",
        "intermediates/Dropout_0",
    ]
    names = list(results(attention.PAIR, "taps")[0]["intermediates"])
    assert names[0] == "Embed_0"
    assert names[-2:] == [".:size", "."]


def test_frozen_statistics_are_seen_in_training_too():
    wrong = found(broken.twin(broken.StatsFrozen), "train")
    assert "state/step 1/batch_stats/BatchNorm_0/mean" in wrong
