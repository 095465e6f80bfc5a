import keras
import numpy as np
import pytest
from harness import raises_received

from keras_reg import Strength
from keras_reg.callbacks import StrengthSchedule
from keras_reg.layers import DropPath
from keras_reg.transfer import Phase, TransferLearner, suggest_phases


def rates(phases):
    return [float(phase.optimizer.learning_rate) for phase in phases]


@pytest.mark.parametrize(
    ("num_examples", "similarity", "unfreeze"),
    [
        (1, "similar", [None]),
        (1000, "similar", [None]),
        (1000, "different", [None]),
        (1001, "similar", [None, 20]),
        (100_000, "different", [None, "all"]),
    ],
)
def test_the_four_cases(num_examples, similarity, unfreeze):
    phases = suggest_phases(num_examples, similarity)
    assert [phase.unfreeze for phase in phases] == unfreeze
    assert [phase.epochs for phase in phases] == [10] * len(phases)
    assert rates(phases) == pytest.approx([1e-3, 1e-4][: len(phases)])
    assert all(phase.optimizer.momentum == 0.9 for phase in phases)


def test_few_and_different_says_what_is_different():
    assert "earlier stage" in suggest_phases(10, "different")[0].name


@pytest.mark.parametrize("value", [0, -5, 1.5, "many", None])
def test_bad_size(value):
    with raises_received("num_examples"):
        suggest_phases(value, "similar")


@pytest.mark.parametrize("value", ["same", None, 0.5])
def test_bad_similarity(value):
    with raises_received("similarity"):
        suggest_phases(100, value)


def test_an_optimizer_by_name():
    assert isinstance(Phase("warm up", 1, optimizer="adamw").optimizer, keras.optimizers.AdamW)


def test_layer_decay_needs_a_keras_that_has_several_optimizers(monkeypatch):
    monkeypatch.delattr(keras.optimizers, "MultiOptimizer", raising=False)
    with raises_received("layer_decay", keras.__version__):
        Phase("all", 1, unfreeze="all", layer_decay=0.75)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="This Keras has no MultiOptimizer.")
def test_an_optimizer_of_optimizers():
    several = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD()))
    with raises_received("optimizer"):
        Phase("all", 1, optimizer=several)


def test_a_schedule_of_strengths_counts_from_the_start_of_its_phase():
    seen = []
    schedule = StrengthSchedule(lambda epoch: seen.append(epoch) or 1.0)
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    head = keras.Sequential([DropPath(Strength(0.5)), keras.layers.Dense(2)])
    learner = TransferLearner(backbone, head, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    phases = [Phase("one", 2), Phase("two", 2, unfreeze="all", callbacks=schedule)]
    learner.fit((np.ones((4, 4), "float32"), np.array([0, 1, 0, 1])), phases=phases, verbose=0)
    assert seen == [0, 1]
