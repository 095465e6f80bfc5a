"""A layer goes on with the next draw: after `.keras`, and after `persist` (tests/callbacks/test_resume.py)."""

import keras
import numpy as np
import pytest
from harness import to_numpy

from keras_reg import layers
from keras_reg.training import RegularizedModel

X = np.random.default_rng(0).random((4, 6, 5, 2), "float32")

STOCHASTIC = {
    "DropPath": lambda seed: layers.DropPath(0.5, seed=seed),
    "DropBlock2D": lambda seed: layers.DropBlock2D(0.5, 2, seed=seed),
    "DropConnect": lambda seed: layers.DropConnect(keras.layers.Dense(3), 0.5, seed=seed),
    "WeightNoise": lambda seed: layers.WeightNoise(keras.layers.Dense(3), 0.5, seed=seed),
    "NoisyBatchNormalization": lambda seed: layers.NoisyBatchNormalization(0.5, seed=seed),
    "FractionalMaxPooling2D": lambda seed: layers.FractionalMaxPooling2D((1.5, 1.4), seed=seed),
    "RandomErasing": lambda seed: layers.RandomErasing(1.0, seed=seed),
    "Pipeline": lambda seed: layers.Pipeline([layers.RandomErasing(1.0, seed=seed)]),
}


def draw(model, calls=2):
    return [to_numpy(model(X, training=True)) for _ in range(calls)]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_saved_layer_goes_on_with_its_next_draw(tmp_path, name):
    model = keras.Sequential([keras.Input(X.shape[1:]), STOCHASTIC[name](5)])
    first = draw(model)
    model.save(tmp_path / "model.keras")
    following = draw(model)
    assert not same(first, following)
    assert same(draw(keras.models.load_model(tmp_path / "model.keras")), following)


def test_the_position_is_no_weight(tmp_path):
    """Lists and files of weights are what they were, so that a plain layer takes them."""
    noisy, plain, other = (
        keras.Sequential([keras.Input((3,)), layer])
        for layer in (
            layers.NoisyBatchNormalization(0.5, seed=1),
            keras.layers.BatchNormalization(),
            layers.NoisyBatchNormalization(0.5, seed=1),
        )
    )
    x = np.arange(12, dtype="float32").reshape(4, 3)
    noisy(x, training=True)
    plain.set_weights(noisy.get_weights())
    noisy.save_weights(tmp_path / "noisy.weights.h5")
    other.load_weights(tmp_path / "noisy.weights.h5")
    assert same(other.get_weights(), plain.get_weights())
    first = layers.NoisyBatchNormalization(0.5, seed=1)
    assert same([to_numpy(other(x, training=True))], [to_numpy(first(x, training=True))])


def test_a_file_without_positions_is_loaded(tmp_path, monkeypatch):
    """Files of earlier versions."""
    model = keras.Sequential([keras.Input(X.shape[1:]), layers.DropPath(0.5, seed=5)])
    with monkeypatch.context() as earlier:
        owner = next(cls for cls in layers.DropPath.__mro__ if "save_assets" in vars(cls))
        earlier.delattr(owner, "save_assets")
        draw(model)
        model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fresh = keras.Sequential([keras.Input(X.shape[1:]), layers.DropPath(0.5, seed=5)])
    assert same(draw(loaded), draw(fresh))


def test_an_unseeded_layer_starts_another_stream_after_loading(tmp_path):
    model = keras.Sequential([keras.Input(X.shape[1:]), layers.RandomErasing(1.0)])
    first = draw(model, 4)
    model.save(tmp_path / "model.keras")
    following = draw(model, 4)
    loaded = draw(keras.models.load_model(tmp_path / "model.keras"), 4)
    assert not same(loaded, first) and not same(loaded, following)


def small(seed):
    net = keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(4)])
    net.layers[-1].kernel.assign(np.linspace(-1, 1, 240).reshape(60, 4))
    model = RegularizedModel(net, layers.Pipeline([layers.RandomErasing(1.0), layers.MixUp(1.0)], seed=seed))
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_a_saved_regularized_model_goes_on_training_with_its_next_draw(tmp_path):
    y = np.arange(4)
    model = small(3)
    for _ in range(3):
        model.train_on_batch(X, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.reset_metrics()  # as those of the loaded model are
    losses = [[m.train_on_batch(X, y) for _ in range(3)] for m in (model, loaded)]
    assert losses[0] == losses[1]
    assert same(model.get_weights(), loaded.get_weights())
