import contextlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import HANGS_AFTER, assert_close, fewer, raises_received, slow_on, to_numpy
from keras import layers
from transfer.networks import Block, flat_backbone, images, nested_backbone

import keras_reg
from keras_reg.transfer import Phase, TransferLearner, freeze

X, Y = images(12)


def sgd(rate=1e-3):
    return keras.optimizers.SGD(rate, momentum=0.9)


def scaled(backbone=None, head=3, **arguments):
    """A learner of images 0 to 255; not compiled where that says nothing, since compiling is what takes its time."""
    backbone = flat_backbone() if backbone is None else backbone
    arguments = {"run_eagerly": True, **arguments}
    return TransferLearner(backbone, head, preprocess=layers.Rescaling(1 / 255), **arguments)


QUICK = [Phase("warm up", 2, optimizer=sgd()), Phase("all", 1, unfreeze="all", optimizer=sgd())]


# The parts.


def test_a_number_of_classes_is_a_pooled_linear_head_with_logits():
    learner = TransferLearner(flat_backbone(pooling=False), 3)
    assert learner.model.output_shape == (None, 3)
    names = [layer.name for layer in learner.model.layers]
    assert names[1:] == ["flat", "global_pooling", "head"]
    features = to_numpy(learner.backbone(X.astype("float32"))).mean((1, 2))
    kernel, bias = to_numpy(learner.model.get_layer("head").weights)
    assert_close(learner.model(X.astype("float32")), features @ kernel + bias, rtol=1e-4, atol=1e-3)
    assert isinstance(learner.loss, keras.losses.SparseCategoricalCrossentropy)
    assert learner.loss.get_config()["from_logits"] and learner.metrics == ["accuracy"]


def test_pooling_is_said(capsys):
    TransferLearner(flat_backbone(pooling=False), 3).summary()
    assert "flat ends in (4, 4, 6), averaged over all positions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("head", "pooled"),
    [
        (lambda: layers.Dense(3), True),
        (lambda: [layers.Dropout(0.1), layers.Dense(5, "relu"), layers.Dense(3)], True),
        (lambda: keras.Sequential([keras.Input((6,)), layers.Dense(3)]), True),
        (lambda: [layers.Flatten(), layers.Dense(3)], False),
        (lambda: [layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), layers.Dense(3)], False),
    ],
)
def test_heads_of_layers_are_pooled_where_they_take_vectors(head, pooled):
    learner = TransferLearner(flat_backbone(pooling=False), head(), loss="mse")
    assert any(layer.name == "global_pooling" for layer in learner.model.layers) is pooled
    assert learner.model.output_shape == (None, 3)


def test_pooling_of_sequences_and_of_channels_first():
    backbone = keras.Sequential([keras.Input((7, 4)), layers.Dense(5)])
    assert TransferLearner(backbone, 3).parts.extractor.output_shape == (None, 5)
    # No convolution: the CPU kernels of TensorFlow have none for channels first.
    inputs = keras.Input((3, 6, 8))
    backbone = keras.Model(inputs, layers.MaxPooling2D(1, data_format="channels_first")(inputs))
    assert TransferLearner(backbone, 3).parts.extractor.output_shape == (None, 3)


def test_the_output_of_a_text_model_that_is_pooled():
    inputs = {
        "ids": keras.Input((5,), dtype="int32", name="ids"),
        "mask": keras.Input((5,), dtype="int32", name="mask"),
    }
    sequence = layers.Embedding(9, 4)(inputs["ids"]) * keras.ops.cast(inputs["mask"], "float32")[..., None]
    outputs = {"sequence_output": sequence, "pooled_output": keras.ops.mean(sequence, 1)}
    learner = TransferLearner(keras.Model(inputs, outputs, name="text"), 2)
    x = {"ids": np.arange(20).reshape(4, 5) % 9, "mask": np.ones((4, 5), "int32")}
    history = learner.fit((x, np.array([0, 1, 0, 1])), phases=QUICK, verbose=0)
    assert len(history.epoch) == 3 and learner.model.output_shape == (None, 2)


@keras.saving.register_keras_serializable(package="tests_transfer")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)
        self.pool = layers.GlobalAveragePooling2D()

    def call(self, x):
        return self.pool(self.conv(x))


def test_a_subclassed_backbone():
    backbone = Subclassed()
    with raises_received("backbone"):
        TransferLearner(backbone, 3)
    backbone(X.astype("float32"))
    before = backbone.conv.kernel.numpy() if hasattr(backbone.conv.kernel, "numpy") else None
    before = to_numpy(backbone.conv.kernel).copy()
    scaled(backbone).fit((X, Y), phases=QUICK, verbose=0)
    assert not np.array_equal(before, to_numpy(backbone.conv.kernel))


# Training.


def test_default_phases_and_what_is_said(capsys):
    learner = scaled(run_eagerly=False)
    history = learner.fit((X, Y), validation_data=(X, Y), verbose=2)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Phase")]
    assert said == [
        "Phase 1 of 2, 'warm up': 10 epochs, 21 of 129 parameters train: the head at 0.001; flat is frozen; "
        "features are computed once.",
        "Phase 2 of 2, 'fine-tune': 10 epochs, 73 of 129 parameters train: the head and 3 layers of flat "
        "(block1_conv to block3_conv) at 0.0001; 3 batch normalizations stay in inference mode.",
    ]
    assert list(learner.history) == ["warm up", "fine-tune"]
    assert [len(learner.history[name].epoch) for name in learner.history] == [10, 10]
    assert history.epoch == list(range(20)) and len(history.history["val_loss"]) == 20
    assert history.history["loss"][10:] == learner.history["fine-tune"].history["loss"]


def test_it_learns():
    x, y = images(60)
    learner = scaled(run_eagerly=False)
    phases = [
        Phase("warm up", 20, optimizer=keras.optimizers.Adam(0.1)),
        Phase("all", 30, unfreeze="all", optimizer=keras.optimizers.Adam(0.02)),
    ]
    learner.fit((x, y), phases=phases, batch_size=20, seed=1, verbose=0)
    loss, accuracy = learner.model.evaluate(x, y, verbose=0)
    first, last = (learner.history[name].history["loss"] for name in learner.history)
    # A head alone on random features learns little; all of it learns the data by heart.
    assert last[-1] < first[-1] < first[0] and loss < 0.7 and accuracy > 0.6


@pytest.mark.parametrize("failure", fewer([KeyboardInterrupt, RuntimeError, None], [RuntimeError]))
def test_what_trains_is_put_back(failure):
    backbone = flat_backbone()
    backbone.get_layer("block2_conv").trainable = False
    backbone.get_layer("block3_bn").trainable = False
    learner = scaled(backbone, run_eagerly=False)
    before = [layer.trainable for layer in backbone.layers], [weight.trainable for weight in learner.model.weights]
    kernel = to_numpy(backbone.get_layer("block1_conv").kernel).copy()

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if failure and len(learner.history) == 1 and batch == 1:
                raise failure

    phases = [Phase("warm up", 1, optimizer=sgd()), Phase("all", 2, unfreeze="all", optimizer=sgd())]
    with pytest.raises(failure) if failure else contextlib.nullcontext():
        learner.fit((X, Y), phases=phases, batch_size=4, callbacks=[Fail()], verbose=0)
    after = [layer.trainable for layer in backbone.layers], [weight.trainable for weight in learner.model.weights]
    assert after == before
    # The weights are there, with what was learnt until then, and the model can be used.
    assert not np.array_equal(kernel, to_numpy(backbone.get_layer("block1_conv").kernel))
    assert np.isfinite(learner.model.evaluate(X, Y, verbose=0)).all()
    learner.fit((X, Y), phases=[Phase("again", 1, unfreeze="all", optimizer=sgd())], verbose=0)


def test_an_error_before_the_first_epoch_leaves_a_history():
    class Fail(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise RuntimeError

    learner = scaled(flat_backbone())
    with pytest.raises(RuntimeError):
        learner.fit((X, Y), phases=[Phase("warm up", 1)], callbacks=[Fail()], verbose=0)
    assert learner.joined_history().epoch == [] and learner.joined_history().history == {}
    learner.summary(lambda text: None)


def test_nested_models_and_layers_in_layers():
    backbone = nested_backbone()
    block, inner = backbone.get_layer("block"), backbone.get_layer("inner")
    x = np.random.default_rng(0).normal(size=(8, 3, 5)).astype("float32")
    learner = TransferLearner(backbone, 3)
    before = [
        to_numpy(w).copy() for w in (block.others[0].moving_mean, inner.layers[1].moving_mean, block.first.kernel)
    ]
    learner.fit((x, Y[:8]), phases=[Phase("block", 2, unfreeze="block", optimizer=sgd(0.1))], verbose=0)
    after = [to_numpy(w) for w in (block.others[0].moving_mean, inner.layers[1].moving_mean, block.first.kernel)]
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False]
    assert isinstance(block, Block) and block.others[0].trainable


def test_augmentation_is_in_training_only():
    learner = scaled(run_eagerly=False, augmentation=keras_reg.layers.CutMix(seed=1))
    history = learner.fit((X, Y), validation_data=(X, Y), phases=QUICK, verbose=0)
    assert len(history.history["val_loss"]) == 3
    assert type(learner.model).__module__.startswith("keras.")
    assert_close(learner.model.predict(X, verbose=0), learner.model(X.astype("float32"), training=False), atol=1e-4)


def test_data_in_every_form():
    weights = np.linspace(0, 1, 12).astype("float32")
    phases = [Phase("warm up", 1, optimizer=sgd()), Phase("all", 1, unfreeze="all", optimizer=sgd())]

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4], weights[4 * i : 4 * i + 4]

    results = []
    start = None
    for data in ((X, Y, weights), (X, Y.tolist(), weights), Data()):
        learner = scaled()
        start = learner.model.get_weights() if start is None else start
        learner.model.set_weights(start)
        learner.fit(data, phases=phases, batch_size=4, shuffle=False, verbose=0)
        results.append(learner.model.get_weights())
    assert_close(results[1], results[0], atol=1e-6)
    assert_close(results[2], results[0], atol=1e-6)


def test_metrics_that_are_objects_and_class_weights():
    """The same metric counts in the model of features and in the whole one."""
    metric = keras.metrics.SparseCategoricalAccuracy(name="right")
    learner = scaled(metrics=[metric])
    phases = [Phase("warm up", 2, optimizer=sgd(0.0)), Phase("all", 2, unfreeze="all", optimizer=sgd(0.0))]
    history = learner.fit((X, Y), phases=phases, class_weight={0: 1.0, 1: 3.0, 2: 0.0}, verbose=0).history
    logits = learner.model.predict(X, verbose=0)
    assert history["right"] == pytest.approx([np.mean(logits.argmax(-1) == Y)] * 4)
    # Weights of 1, 3 and 0, each a third of the time, and a mean over all examples.
    losses = -np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[np.arange(12), Y]
    weighted = losses * np.array([1.0, 3.0, 0.0])[Y]
    possible = [weighted.mean(), weighted.sum() / np.array([1.0, 3.0, 0.0])[Y].sum()]
    assert any(history["loss"] == pytest.approx([value] * 4, rel=1e-4) for value in possible)


def test_seeds_make_orders():
    results = []
    start = None
    for seed in (3, 3, 4):
        learner = scaled()
        start = learner.model.get_weights() if start is None else start
        learner.model.set_weights(start)
        learner.fit((X, Y), phases=QUICK[:1], batch_size=4, seed=seed, verbose=0)
        results.append(learner.model.get_weights()[-2])
    assert_close(results[1], results[0])
    assert np.abs(results[2] - results[0]).max() > 1e-6


# Afterwards.


@slow_on("tensorflow", "jax")
def test_the_model_loads_without_this_package(tmp_path):
    learner = TransferLearner(flat_backbone((8, 8, 3), pooling=False), 3, keras.applications.vgg16.preprocess_input)
    learner.fit((X, Y), phases=QUICK, verbose=0)
    learner.model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    code = (
        "import keras, numpy, sys; model = keras.models.load_model('model.keras');"
        "numpy.save('y.npy', model.predict(numpy.load('x.npy'), verbose=0));"
        "assert not any(name.split('.')[0] == 'keras_reg' for name in sys.modules)"
    )
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=HANGS_AFTER)
    assert_close(np.load(tmp_path / "y.npy"), learner.model.predict(X, verbose=0), rtol=1e-4, atol=1e-3)


def test_plot_marks_the_borders(monkeypatch):
    learner = scaled()
    with raises_received("metrics"):
        learner.plot()
    learner.fit((X, Y), validation_data=(X, Y), phases=[*QUICK, Phase("top", 1, unfreeze="block3_*")], verbose=0)
    figure = learner.plot()
    assert sorted(axis.get_ylabel() for axis in figure.axes) == ["accuracy", "loss"]
    for axis in figure.axes:
        curves = [line for line in axis.lines if len(line.get_xdata()) == 4]
        borders = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2]
        assert len(curves) == 2 and borders == [2.5, 3.5]
        assert [text.get_text() for text in axis.texts] == ["warm up", "all", "top"]
    assert figure._repr_png_().startswith(b"\x89PNG")  # a notebook shows it, whether or not pyplot was imported
    assert len(learner.plot("loss").axes) == 1
    with raises_received("metrics"):
        learner.plot("auc")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        learner.plot()


def test_what_is_not_logged_in_an_epoch_is_none():
    learner = scaled()
    phases = [Phase("warm up", 4, optimizer=sgd()), Phase("all", 3, unfreeze="all", optimizer=sgd())]
    history = learner.fit((X, Y), validation_data=(X, Y), phases=phases, validation_freq=2, verbose=0)
    known = [value is not None for value in history.history["val_loss"]]
    assert known == [False, True, False, True, False, True, False]
    assert len(history.history["loss"]) == 7
    curve = next(line for line in learner.plot("loss").axes[0].lines if line.get_label() == "validation")
    assert list(curve.get_xdata()) == [2, 4, 6]


def test_summary_says_what_was_reached(capsys):
    learner = scaled()
    learner.fit((X, Y), phases=QUICK, verbose=0)
    assert capsys.readouterr().out == ""
    learner.summary()
    said = capsys.readouterr().out
    assert "backbone: flat, 108 parameters" in said and "'all', 1 epoch: accuracy" in said


# What is refused.


def test_a_head_that_does_not_fit():
    with raises_received("features", "(None, 6)"):
        TransferLearner(flat_backbone(), [layers.Conv2D(3, 3)], loss="mse")
    with raises_received("features"):
        TransferLearner(flat_backbone(), keras.Sequential([keras.Input((7,)), layers.Dense(3)]), loss="mse")


@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 0, 1]])
def test_labels_out_of_range(labels):
    y = np.resize(labels, 12)
    learner = scaled()
    before = learner.model.get_weights()
    with raises_received("train", "labels"):
        learner.fit((X, y), phases=QUICK, verbose=0)
    with raises_received("validation_data", "labels"):
        learner.fit((X, Y), validation_data=(X, y), phases=QUICK, verbose=0)
    with raises_received("train", "labels"):
        learner.fit(BadDataset(y), phases=QUICK, verbose=0)
    assert_close(learner.model.get_weights(), before, atol=0)


class BadDataset(keras.utils.PyDataset):
    def __init__(self, y):
        super().__init__()
        self.y = y

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return X, self.y


class InBatches(keras.utils.PyDataset):
    def __init__(self, y):
        super().__init__()
        self.y = y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return X[part], self.y[part]


@pytest.mark.parametrize("cache", ["auto", False])
@pytest.mark.parametrize("wrong", ["train", "validation_data"])
def test_a_label_out_of_range_in_the_last_batch_of_a_dataset(wrong, cache):
    """Found before anything has been trained: while the features are computed, or in a pass of its own."""
    late = Y.copy()
    late[-1] = 3
    data = {"train": InBatches(Y), "validation_data": InBatches(Y)} | {wrong: InBatches(late)}
    learner = scaled()
    before = learner.model.get_weights()
    with raises_received(wrong, "labels=[3]"):
        learner.fit(**data, phases=[Phase("warm up", 1, cache_features=cache)], verbose=0)
    assert_close(learner.model.get_weights(), before, atol=0)
    assert learner.history == {}


def test_one_hot_labels_are_left_to_the_loss():
    loss = keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
    learner = scaled(loss=loss)
    learner.fit((X, np.eye(3, dtype="float32")[Y]), phases=QUICK[:1], verbose=0)
    with raises_received("labels"):
        learner.fit((X, Y + 1), phases=QUICK[:1], verbose=0)


def test_a_pattern_that_names_nothing_is_found_before_anything_is_trained():
    learner = scaled()
    with raises_received("layers"):
        learner.fit((X, Y), phases=[QUICK[0], Phase("top", 1, unfreeze="block9_*")], verbose=0)
    assert learner.history == {}


@pytest.mark.parametrize(
    "arguments",
    [
        {"phases": []},
        {"phases": [QUICK[0], QUICK[0]]},
        {"phases": "all"},
        {"phases": [1]},
        {"batch_size": 0},
        {"seed": -1},
        {"callbacks": [1]},
        {"epochs": 3},
        {"train": X},
        {"train": (X,)},
        {"train": (X, Y[:5])},
        {"train": (X[:0], Y[:0])},
    ],
)
def test_bad_arguments_of_fit(arguments):
    with raises_received():
        scaled().fit(**{"train": (X, Y), "phases": QUICK, "verbose": 0, **arguments})


def test_nothing_to_train():
    head = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    freeze(head)
    with raises_received("phase"):
        scaled(head=head, loss="mse").fit((X, np.eye(3)[Y]), phases=QUICK[:1], verbose=0)
