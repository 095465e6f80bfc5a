"""Features that are computed once: the same result, and when it is not done."""

import warnings

import keras
import numpy as np
import pytest
from harness import assert_close, fewer, only, raises_received, to_numpy
from keras import layers
from transfer.networks import flat_backbone, images

import keras_reg
from keras_reg.transfer import Phase, TransferLearner

X, Y = images(22)
WEIGHTS = np.linspace(0.1, 1.0, 22).astype("float32")


def sgd():
    return keras.optimizers.SGD(0.1, momentum=0.9)


def scaled(backbone=None, **arguments):
    backbone = flat_backbone() if backbone is None else backbone
    return TransferLearner(backbone, 3, preprocess=layers.Rescaling(1 / 255), **{"run_eagerly": True, **arguments})


class Dataset(keras.utils.PyDataset):
    """Batches of 5, shuffled anew in each pass or not. `noise` is what changes: "images", "labels" or "weights"."""

    def __init__(self, shuffle=False, noise=None, size=5):
        super().__init__()
        self.shuffle, self.noise, self.size = shuffle, noise, size
        self.rng = np.random.default_rng(0)
        self.order = np.arange(len(X))
        self.seen = []

    def __len__(self):
        return -(-len(X) // self.size)

    def __getitem__(self, index):
        rows = self.order[self.size * index : self.size * (index + 1)]
        self.seen.append(rows)
        x, y, weights = X[rows], Y[rows], WEIGHTS[rows]
        if self.noise == "images":
            x = x ^ self.rng.integers(0, 2, x.shape, "uint8")
        if self.noise == "labels":
            y = np.where(self.rng.random(y.shape) < 0.5, (y + 1) % 3, y)
        if self.noise == "weights":
            weights = weights * self.rng.uniform(0.5, 1, weights.shape).astype(weights.dtype)
        return x, y, weights

    def on_epoch_end(self):
        if self.shuffle:
            self.order = self.rng.permutation(len(X))


def train(data, cache, start, epochs=3, validation=None, seed=5, **arguments):
    learner = scaled(**arguments)
    learner.model.set_weights(start)
    phases = [
        Phase("warm up", epochs, optimizer=sgd(), cache_features=cache),
        Phase("all", 1, unfreeze="all", optimizer=sgd()),
    ]
    learner.fit(data, validation_data=validation, phases=phases, batch_size=5, seed=seed, verbose=0)
    return learner


@pytest.fixture(scope="module")
def start():
    return scaled().model.get_weights()


def data_of(form):
    return (X, Y, WEIGHTS) if form == "arrays" else Dataset()


@pytest.fixture(scope="module")
def plain(start):
    """Warm-ups whose features were computed in every epoch, and what came after."""
    return {form: train(data_of(form), False, start, validation=(X[:9], Y[:9])) for form in ("arrays", "dataset")}


@pytest.mark.parametrize(("form", "where"), [("arrays", "memory"), ("arrays", "file"), ("dataset", "folder")])
def test_the_result_is_that_of_the_warm_up_without(form, where, start, plain, tmp_path, monkeypatch):
    """Weights, losses and metrics in the warm-up, and after going on in the second phase; shuffled arrays too."""
    if where == "file":
        monkeypatch.setattr(TransferLearner, "cache_memory", 100)
    place = tmp_path if where == "folder" else True
    cached = train(data_of(form), place, start, validation=(X[:9], Y[:9]))
    assert_close(cached.model.get_weights(), plain[form].model.get_weights(), rtol=1e-4, atol=1e-5)
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        one, other = (learner.joined_history().history[name] for learner in (cached, plain[form]))
        assert one == pytest.approx(other, rel=1e-3), name
    if where == "folder":
        stored = np.load(tmp_path / "train_features.npy")
        assert_close(stored, cached_features(start), rtol=1e-4, atol=1e-5)


def cached_features(start):
    learner = scaled()
    learner.model.set_weights(start)
    return learner.parts.extractor.predict(X, verbose=0)


def said_about(capsys, learner, data=(X, Y), callbacks=(), epochs=2, cache="auto", **arguments):
    phase = Phase("warm up", epochs, optimizer=sgd(), cache_features=cache, callbacks=callbacks)
    learner.fit(data, phases=[phase], verbose=2, **arguments)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Phase"))
    return line.split("; ")[2].removesuffix(".")


def backbone_with(layer):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layer(layers.Dense(4)(inputs))), name="backbone")


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.0),
        layers.GaussianNoise(0.0),
        keras_reg.layers.DropPath(0.0),
        keras_reg.layers.NoisyBatchNormalization(0.1),  # frozen: as in inference
        layers.ConvLSTM1D(4, 3, padding="same", return_sequences=True),
    ],
)
def test_rates_of_zero_and_frozen_normalizations_are_not_random(layer, capsys):
    assert said_about(capsys, scaled(backbone_with(layer))) == "features are computed once"


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dropout(0.1, name="one"),
        lambda: layers.RandomFlip(name="one"),
        lambda: keras_reg.layers.DropPath(0.1, name="one"),
        lambda: keras.Sequential([layers.SpatialDropout2D(0.1, name="one")], name="more"),
    ],
)
def test_random_layers_inside(layer, capsys):
    learner = scaled(backbone_with(layer()))
    assert said_about(capsys, learner) == "features are not computed once: one before the head is random"


def test_one_may_insist_on_the_features_of_a_random_backbone(capsys):
    learner = scaled(backbone_with(layers.Dropout(0.5)))
    assert said_about(capsys, learner, cache=True) == "features are computed once"


@keras.saving.register_keras_serializable(package="tests_transfer")
class Doubled(layers.Layer):
    """Computes otherwise in training, though nothing of it can train."""

    def call(self, x, training=False):
        return 2 * x if training else x


def test_layers_that_compute_otherwise_in_training(capsys):
    said = said_about(capsys, scaled(backbone_with(Doubled())))
    assert said.startswith("features are not computed once: a frozen layer before the head computes something else")


def test_other_reasons(capsys, tmp_path):
    refused = "features are not computed once: "
    assert said_about(capsys, scaled(), cache=False) == refused + "cache_features=False"
    assert said_about(capsys, scaled(), epochs=1) == refused + "the phase has only one epoch"
    assert said_about(capsys, scaled(), data=Dataset(), steps_per_epoch=2).startswith(refused + "steps_per_epoch")
    augmented = scaled(augmentation=keras_reg.layers.RandomErasing(seed=1), run_eagerly=False)
    assert said_about(capsys, augmented).startswith(refused + "the augmentation")
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    assert said_about(capsys, scaled(), callbacks=[saving]).startswith(refused + "ModelCheckpoint")
    assert (tmp_path / "best.keras").exists()
    penalized = backbone_with(layers.Dense(4, activity_regularizer="l2"))
    assert said_about(capsys, scaled(penalized)) == refused + "the backbone adds to the loss"
    with raises_received("cache_features", "augmentation"):
        said_about(capsys, augmented, cache=True)


def test_penalties_on_frozen_weights_are_no_reason(capsys):
    penalized = backbone_with(layers.Dense(4, kernel_regularizer="l2"))
    assert said_about(capsys, scaled(penalized)) == "features are computed once"


# Datasets.


def test_a_dataset_is_gone_through_once_and_a_bit(capsys):
    data = Dataset()
    assert said_about(capsys, scaled(), data=data, epochs=6) == "features are computed once"
    # One pass for features, and a few batches to see that they come again.
    assert len(np.concatenate(data.seen)) < 4 * len(X)


def test_a_shuffled_dataset_is_shuffled_anew(start, monkeypatch):
    """Its own orders are not known, but all is there in each epoch, in batches of its size."""
    seen = []

    class See(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

    learner = scaled()
    learner.model.set_weights(start)
    phase = Phase("warm up", 3, optimizer=keras.optimizers.SGD(0.0), cache_features=True, callbacks=[See()])
    learner.fit(Dataset(shuffle=True), phases=[phase], verbose=0)
    assert seen == [0, 1, 2, 3, 4] * 3
    logits = learner.model.predict(X, verbose=0)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(Y, logits, WEIGHTS)
    losses = learner.history["warm up"].history["loss"]
    assert losses == pytest.approx([float(to_numpy(expected))] * 3, rel=2e-2)


@pytest.mark.parametrize("noise", fewer(["images", "labels", "weights"], ["labels"]))
def test_a_dataset_with_augmentation(capsys, noise):
    """Also of the labels, which are kept with the features."""
    refused = "features are not computed once: the data contain other images or labels in every pass"
    for shuffle in (False, True):
        assert said_about(capsys, scaled(), data=Dataset(shuffle, noise)).startswith(refused)
    with raises_received("cache_features"):
        said_about(capsys, scaled(), data=Dataset(noise=noise), cache=True)


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_a_generator_can_be_gone_through_only_once(capsys):
    batches = ((X[:4], Y[:4]) for _ in range(8))
    said = said_about(capsys, scaled(), data=batches, epochs=2)
    assert said == "features are not computed once: the data can be iterated only once"


@only("tensorflow", "jax", why="The data come from TensorFlow, which the oldest environment may lack.")
@pytest.mark.parametrize("form", ["plain", "shuffled", "augmented", "endless"])
def test_tf_data(form, capsys):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y))
    data = data.shuffle(22) if form in ("shuffled", "augmented") else data
    if form == "augmented":
        data = data.map(lambda x, y: (tf.cast(x, tf.float32) + tf.random.uniform(x.shape), y))
    data = data.batch(5)
    said = said_about(capsys, scaled(run_eagerly=False), data=data.repeat() if form == "endless" else data, **(
        {"steps_per_epoch": 2} if form == "endless" else {}))  # fmt: skip
    assert said.startswith("features are computed once") is (form in ("plain", "shuffled"))


def test_progress_is_shown(capsys):
    scaled().fit((X, Y), phases=[Phase("warm up", 2)], batch_size=5, verbose=1)
    said = capsys.readouterr().out
    assert "Computing the features of the training data" in said and "5/5" in said


def test_features_serve_all_frozen_phases(capsys):
    phases = [Phase("one", 2), Phase("two", 2), Phase("three", 1, unfreeze="all"), Phase("four", 2)]
    scaled().fit((X, Y), phases=phases, verbose=2)
    assert capsys.readouterr().out.count("Computing the features") == 2


@pytest.mark.parametrize("policy", fewer(["mixed_float16", "mixed_bfloat16"], ["mixed_float16"]))
def test_half_precision(policy, set_dtype_policy, tmp_path):
    set_dtype_policy(policy)
    start = scaled().model.get_weights()
    plain = train((X, Y), False, start, run_eagerly=False)
    cached = train((X, Y), tmp_path, start, run_eagerly=False)
    assert_close(cached.model.get_weights(), plain.model.get_weights(), atol=0.02)


def test_features_with_a_mask_are_not_computed_once(capsys):
    """The head needs the mask: the warm-up gives the loss of `evaluate`."""
    tokens = np.pad(np.random.default_rng(0).integers(1, 4, (22, 3)), [(0, 0), (0, 3)])
    inputs = keras.Input((6,), dtype="int32")
    backbone = keras.Model(inputs, layers.Embedding(10, 4, mask_zero=True)(inputs), name="backbone")
    head = [layers.GlobalAveragePooling1D(), layers.Dense(3)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner = TransferLearner(backbone, head, loss=loss)
    phase = Phase("warm up", 2, optimizer=keras.optimizers.SGD(0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns that the `Sequential` of the head has no mask itself
        history = learner.fit(tokens, Y, phases=[phase], verbose=2).history
        found = learner.evaluate(tokens, Y, verbose=0)
    assert "features are not computed once: the features have a Keras mask" in capsys.readouterr().out
    assert history["loss"] == pytest.approx([found, found], rel=1e-5)


class Growing(keras.utils.PyDataset):
    """Batches of images of different sizes."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        side = 8 + 2 * index
        return np.random.default_rng(index).normal(size=(4, side, side, 3)).astype("float32"), np.arange(4) % 3


@pytest.mark.parametrize("limit", [100, 10**9])
def test_features_of_different_shapes_are_not_computed_once(limit, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(TransferLearner, "cache_memory", limit)
    inputs = keras.Input((None, None, 3))
    backbone = keras.Model(inputs, layers.Conv2D(4, 3)(inputs), name="backbone")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head = [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()]
    learner = TransferLearner(backbone, head, loss=loss)
    phase = Phase("warm up", 2, optimizer=keras.optimizers.SGD(0.0))
    history = learner.fit(Growing(), phases=[phase], verbose=2).history
    assert "not computed once: they have different shapes, such as (6, 6, 4)" in capsys.readouterr().out
    assert history["loss"] == pytest.approx([learner.evaluate(Growing(), verbose=0)] * 2, rel=1e-5)
    for cache in (True, tmp_path):
        with raises_received("cannot be computed once", "cache_features="):
            learner.fit(Growing(), phases=[Phase("warm up", 2, cache_features=cache)], verbose=0)
    assert not list(tmp_path.iterdir())
