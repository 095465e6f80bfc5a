"""Faults that were reported in public, by the number of their thread: how it goes here."""

import collections
import contextlib

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, fewer, gradients, jit, map_in_tf_data, only, raises_received, to_numpy
from keras import ops
from layers.batches import MOVERS
from stochastic import STOCHASTIC

from keras_reg import layers
from keras_reg.callbacks import SmoothedEarlyStopping
from keras_reg.layers import CutMix, MixUp, Pipeline, RandomErasing
from keras_reg.losses import LabelSmoothingCrossentropy, label_smoothing_crossentropy
from keras_reg.surgery import exclude_from_weight_decay
from keras_reg.training import RegularizedModel
from keras_reg.transfer import Phase, TransferLearner, freeze, unfreeze


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


# The loss of a compiled model.


@keras.saving.register_keras_serializable(package="tests")
def smoothed(y_true, y_pred):
    return keras.losses.categorical_crossentropy(y_true, y_pred, label_smoothing=0.1)


def heads(names=("a", "b"), form=dict):
    keras.utils.set_random_seed(1)
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(image)
    found = [keras.layers.Dense(2, activation="softmax", name=name)(flat) for name in names]
    return keras.Model(image, form(zip(names, found, strict=True)) if form is dict else found)


def given_losses():
    both = collections.namedtuple("Both", ["a", "b"])
    loss = LabelSmoothingCrossentropy(0.2)
    return {
        "a name": "categorical_crossentropy", "a function": smoothed, "an object": loss, "a list": [loss, "mse"],
        "a dict": {"a": loss, "b": smoothed}, "a namedtuple": both(loss, "mse"), "none": None,
    }  # fmt: skip


@pytest.mark.parametrize("kind", fewer(given_losses(), ["a list", "a namedtuple"]))
def test_tensorflow_36735_a_model_gives_back_its_loss(kind, tmp_path):
    """`compile(loss=model.loss)` compiles this model, its network and another one as at first."""
    x, y = images(8, 4, 4, 1), np.eye(2, dtype="float32")[np.arange(8) % 2]
    loss = given_losses()[kind]
    several = isinstance(loss, (list, tuple, dict))
    labels = {"a": y, "b": y} if isinstance(loss, dict) else [y, y] if several else y
    net = heads(form=type(loss) if isinstance(loss, dict) else list) if several else heads(["a"], list)
    model = RegularizedModel(net, MixUp(1.0, seed=1))
    model.compile("sgd", loss)
    assert model.loss is loss
    if loss is None:
        return
    net.compile("sgd", loss)
    expected = net.evaluate(x, labels, return_dict=True, verbose=0)
    other = RegularizedModel(net, CutMix(seed=2))
    for each in (model, net, other):
        each.compile("sgd", loss=model.loss)
        assert_close(each.evaluate(x, labels, return_dict=True, verbose=0), expected, rtol=1e-6)
    config = model.get_compile_config()["loss"]
    assert config == keras.saving.serialize_keras_object(loss)
    if isinstance(loss, tuple):
        return  # which Keras itself cannot load: a namedtuple comes back as a tuple
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again.evaluate(x, labels, return_dict=True, verbose=0), expected, rtol=1e-6)
    again.compile("sgd", loss=again.loss)
    again.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    assert_close(again.evaluate(x, labels, return_dict=True, verbose=0), expected, rtol=1e-6)


# Models whose `call` takes no `training`.


def make_net(kind):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.BatchNormalization()]

        def run(self, x):
            for part in self.parts:
                x = part(x)
            return x

    class Without(Net):
        def call(self, x):
            return self.run(x)

    class Positional(Net):
        def call(self, x, training):
            return self.run(x)

    class KeywordOnly(Net):
        def call(self, x, *, training=None):
            return self.run(x)

    class Keywords(Net):
        def call(self, x, **kwargs):
            return self.run(x)

    class TrainsByDefault(Net):
        def call(self, x, training=True):
            return self.parts[2](self.parts[1](self.parts[0](x)), training=training)

    keras.utils.set_random_seed(2)
    return {
        "without": Without, "positional": Positional, "keyword only": KeywordOnly,
        "keywords": Keywords, "trains by default": TrainsByDefault,
    }[kind]()  # fmt: skip


@pytest.mark.parametrize("kind", ["without", "positional", "keyword only", "keywords", "trains by default"])
def test_keras_20577_training_is_handed_on_as_without_the_wrapper(kind):
    """Bit for bit: the statistics of an inner BatchNormalization move where those of the plain model do."""
    x, y = images(8, 4, 4, 1), np.arange(8) % 4
    plain, net = make_net(kind), make_net(kind)
    model = RegularizedModel(net, RandomErasing(rate=0.0))
    found = []
    for each in (plain, model):
        each.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses = [float(each.train_on_batch(x, y)) for _ in range(3)]
        losses += [float(each.test_on_batch(x, y))]
        outputs = [each.predict(x, verbose=0)] + ([] if kind == "positional" else [to_numpy(each(x))])
        weights = (plain if each is plain else net).get_weights()
        found.append((losses, outputs, weights))
    for a, b in zip(keras.tree.flatten(found[0]), keras.tree.flatten(found[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    # On JAX Keras tells `call` alone, so that layers inside hear of it only where they are told.
    moved = kind == "trains by default" or (kind in ("positional", "keyword only") and BACKEND != "jax")
    assert (found[0][2][-1] != 1).any() == moved


# Transfer.


def test_keras_19208_lora_stays_frozen():
    """`trainable = True` trains the pretrained kernel again; `unfreeze` and the phases of a transfer do not."""
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, "tanh", name="dense")
    backbone = keras.Model(inputs, layer(inputs), name="net")
    layer.enable_lora(2)
    backbone.trainable = True
    kernel = next(weight for weight in layer.weights if weight.name == "kernel")
    before = to_numpy(kernel).copy()
    freeze(backbone)
    unfreeze(backbone)
    assert {weight.name for weight in layer.trainable_weights} == {"bias", "lora_kernel_a", "lora_kernel_b"}
    learner = TransferLearner(backbone, 2, run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 4))
    phases = [Phase("warm up", 1), Phase("all", 2, "all", keras.optimizers.SGD(0.1))]
    learner.fit(x, np.arange(8) % 2, phases=phases, verbose=0)
    np.testing.assert_array_equal(to_numpy(kernel), before)
    assert np.abs(to_numpy(layer.lora_kernel_b)).max() > 0


# Augmentation.


def test_kornia_2684_and_keras_cv_518_keypoints_are_not_left_behind():
    """Behind any layer in a chain, in a tf.data graph too: they move, or are refused beside a layer of Keras."""
    data = {"images": images(6, 8, 6, 3), "keypoints": np.full((6, 5, 2), 2.3, "float32")}
    for name, mover in MOVERS.items():
        layer = Pipeline([RandomErasing(), mover()])
        if not name.startswith("a "):  # all layers are of this package
            moved = np.concatenate([batch["keypoints"] for batch in map_in_tf_data(layer, data, batch_size=2)])
            assert (moved != data["keypoints"]).any()
        else:
            with raises_received("keys=['keypoints']"):
                map_in_tf_data(layer, data, batch_size=2)
    found = to_numpy(Pipeline([RandomErasing(), keras.layers.RandomBrightness(0.1)])(data))
    np.testing.assert_array_equal(found["keypoints"], data["keypoints"])


class Augmenting(keras.Model):
    """As the guides write it: the layers stand in `call`, and `training` is handed on."""

    def __init__(self):
        super().__init__()
        self.erase, self.net = erasing(), served_network()

    def call(self, x, training=None):
        return self.net(self.erase(x, training=training), training=training)


def served_network():
    parts = [keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4, 4, 1)), *parts])


def erasing():
    return Pipeline([RandomErasing(1.0, scale=(0.5, 0.5)), keras.layers.RandomFlip(seed=1)], seed=1)


@only("tensorflow", "jax", why="a SavedModel from PyTorch needs torch_xla")
@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_keras_19108_what_is_served_is_what_predict_gives(kind, tmp_path):
    """A model with augmentation inside exports, and its signature does not augment."""
    tf = pytest.importorskip("tensorflow")
    x, y = images(8, 4, 4, 1), np.arange(8) % 3
    image = keras.Input((4, 4, 1))
    model = Augmenting() if kind == "subclassed" else keras.Model(image, served_network()(erasing()(image)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    artifact = tf.saved_model.load(str(tmp_path / "served"))  # its variables live as long as it does
    assert_close(artifact.serve(tf.constant(x)), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


# Rematerialization.


@pytest.mark.parametrize("name", STOCHASTIC)
def test_keras_18404_rematerialization_has_the_same_gradients(name):
    """keras#18404 and keras#20724. The oracle is the layer with the same seed, made outside of the scope."""
    plain = STOCHASTIC[name]()
    with keras.RematScope(mode="full"):
        again = STOCHASTIC[name]()
    found = []
    for layer in (plain, again):
        x = keras.Variable(np.random.default_rng(0).integers(1, 9, (4, 6, 5, 3)).astype("float32"))
        layer.build(x.shape)
        found.append(gradients(lambda: ops.sum(ops.sin(layer(x * 1.0, training=True))), [x])[0])  # noqa: B023
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-5)
    assert np.abs(found[0]).max() > 1e-3


@pytest.mark.parametrize("scope", [{"mode": "full"}, {"mode": "list_of_layers", "layer_names": ["rich"]}], ids=str)
def test_keras_20724_augmented_training_with_rematerialized_layers(scope):
    """Two epochs end with the weights of the same training without rematerialization."""
    x, y = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype("float32"), (np.arange(8) % 3).astype("int32")
    found = []
    for each in (contextlib.nullcontext(), keras.RematScope(**scope)):
        keras.utils.set_random_seed(1)
        with each:
            parts = [keras.layers.Dense(8, activation="tanh", name="rich"), layers.DropPath(0.5, seed=3)]
        head = [keras.layers.Flatten(), keras.layers.Dense(3)]
        model = RegularizedModel(keras.Sequential([keras.Input((4, 4, 1)), *parts, *head]), MixUp(seed=2))
        eager = BACKEND == "tensorflow"  # in whose graphs Keras cannot rematerialize what has a `training`
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=eager)
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# Losses and optimizers.

IMPOSSIBLE = [
    {"label_smoothing": 0.0},
    {"label_smoothing": 0.2, "prior": [0.25, 0.0, 0.5, 0.25]},
    {"label_smoothing": 0.2, "class_weight": [1.0, 0.0, 3.0, 0.5]},
    {"label_smoothing": 0.2, "class_weight": {1: 0.0, 2: 3.0}, "prior": [0.2, 0.2, 0.4, 0.2]},
]


def without_class(options, gone=1):
    """The same loss when the class `gone` does not exist, as (weights, shares of the smoothing) of the others."""
    weight = options.get("class_weight", [1.0] * 4)
    weight = [weight.get(k, 1.0) for k in range(4)] if isinstance(weight, dict) else weight
    prior = options.get("prior", [0.25] * 4)
    return np.delete(weight, gone), np.delete(prior, gone)


def impossible_cases():
    for kind in ("ids", "one-hot", "soft", "ids with an ignored one"):
        for options in IMPOSSIBLE:
            yield pytest.param(options, kind, "float32", False, id=f"{kind}, {options}")
        yield pytest.param(IMPOSSIBLE[-1], kind, "float32", True, id=f"{kind}, compiled")
        yield pytest.param(IMPOSSIBLE[-1], kind, "float16", False, id=f"{kind}, float16")
        yield pytest.param(IMPOSSIBLE[-1], kind, "bfloat16", False, id=f"{kind}, bfloat16")


@pytest.mark.parametrize(("options", "kind", "dtype", "compiled"), list(impossible_cases()))
def test_optax_896_logits_of_minus_infinity(options, kind, dtype, compiled):
    """An impossible class without a share costs nothing and moves nothing: as if it were not there."""
    logits = np.array([[1, -np.inf, 2, 0], [0, -np.inf, -1, 3], [2, -np.inf, 1, 1]], "float32")
    ids = np.array([0, 3, 2])
    soft = np.array([[0.5, 0, 0.5, 0], [0, 0, 0.25, 0.75], [1, 0, 0, 0]], "float32")
    targets = {"one-hot": np.eye(4, dtype="float32")[ids], "soft": soft}.get(kind, ids)
    rest = {key: value for key, value in options.items() if key != "label_smoothing"}
    counts = np.ones(3)
    if "ignored" in kind:
        rest["ignore_class"], targets, counts = 255, np.array([0, 255, 2]), np.array([1, 0, 1])
    weight, prior = without_class(options)
    y = soft if kind == "soft" else np.eye(4)[ids]
    y = weight * ((1 - options["label_smoothing"]) * np.delete(y, 1, -1) + options["label_smoothing"] * prior)
    shown = np.delete(logits, 1, -1).astype("float64")
    logs = shown - np.log(np.exp(shown).sum(-1, keepdims=True))
    expected = counts * -(y * logs).sum(-1)
    gradient = np.insert(counts[:, None] * (y.sum(-1, keepdims=True) * np.exp(logs) - y), 1, 0, -1)

    def loss(z):
        z = ops.cast(z, dtype)
        return label_smoothing_crossentropy(targets, z, options["label_smoothing"], from_logits=True, **rest)

    loss, z = jit(loss) if compiled else loss, keras.Variable(logits)
    found = to_numpy(loss(ops.convert_to_tensor(logits))), gradients(lambda: ops.sum(loss(z * 1.0)), [z])[0]
    assert_close(
        found, (expected, gradient), rtol=1e-2 if dtype == "bfloat16" else 1e-3 if dtype == "float16" else 1e-5
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_addons_2619_a_loaded_training_goes_on_as_if_it_had_not_been_saved(tmp_path, wrapped):
    """Also keras#16201. Keras' file does not keep what is excluded: excluded again, both go the same way to the bit."""
    x, y = np.random.default_rng(0).normal(size=(2, 8, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, bias_initializer="ones")])
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer
    model.compile(exclude_from_weight_decay(optimizer, model), "mse")
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    exclude_from_weight_decay(loaded.optimizer, loaded)
    for each in (model, loaded):
        each.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# Callbacks.


def two_outputs(**metrics):
    x = keras.Input((2,))
    outputs = {name: keras.layers.Dense(1, "sigmoid", name=name)(x) for name in ("a", "second_one")}
    model = keras.Model(x, outputs)
    model.compile("sgd", {name: "binary_crossentropy" for name in outputs}, metrics=metrics)
    return model


class Begun(keras.callbacks.Callback):
    epochs = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs += 1


def fit_two(model, monitor, **arguments):
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    y = {"a": np.arange(8)[:, None] % 2, "second_one": np.arange(8)[:, None] // 4}
    stop, begun = SmoothedEarlyStopping(monitor, smoothing=None, patience=9, **arguments), Begun()
    try:
        history = model.fit(x, y, validation_data=(x, y), epochs=3, callbacks=[begun, stop], verbose=0)
    except ValueError as error:
        return begun.epochs, error
    return stop, history.history


@pytest.mark.parametrize(
    ("monitor", "best"),
    [
        ("val_a_accuracy", max),
        ("val_a_auc", max),
        ("val_second_one_mine", max),
        ("val_second_one_mean_absolute_error", min),
        ("a_accuracy", max),
    ],
)
def test_keras_18798_metrics_of_several_outputs_have_a_direction(monitor, best):
    auc, mine = keras.metrics.AUC(name="auc"), keras.metrics.BinaryAccuracy(name="mine")
    metrics = {"a": ["accuracy", auc], "second_one": [mine, keras.metrics.MeanAbsoluteError()]}
    stop, history = fit_two(two_outputs(**metrics), monitor)
    assert stop.best == best(history[monitor])


def spread(y_true, y_pred):
    return keras.ops.std(y_pred)


@pytest.mark.parametrize("monitor", ["val_a_spread", "val_a_accurcy", "val_b_score"])
def test_keras_18798_an_unknown_direction_is_told_before_the_first_epoch(monitor):
    begun, error = fit_two(two_outputs(a=["accuracy", spread]), monitor)
    assert begun == 0 and "`mode`" in str(error) and f"monitor={monitor!r}" in str(error)


def test_keras_18798_with_a_mode_nobody_is_asked():
    stop, history = fit_two(two_outputs(a=[spread]), "val_a_spread", mode="min")
    assert stop.best == min(history["val_a_spread"])
