"""RegularizedModel answers as the network in it: what it logs, what it takes, what it shows, saves and exports."""

import collections

import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, fewer, only, raises_received, to_numpy

from keras_reg import inference, layers, training

BCE, CE = keras.losses.BinaryCrossentropy, keras.losses.SparseCategoricalCrossentropy
Heads = collections.namedtuple("Heads", ["a", "b"])


def batch(count=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 4, 4, 1), "float32"), rng.integers(0, 3, count).astype("int32")


def network(name=None):
    keras.utils.set_random_seed(1)
    parts = [keras.layers.Flatten(), keras.layers.Dense(3, name="head"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4, 4, 1), name="image"), *parts], name=name)


def two_heads(form=dict):
    keras.utils.set_random_seed(1)
    image = keras.Input((4, 4, 1), name="image")
    flat = keras.layers.Flatten()(image)
    a = keras.layers.Dense(3, activation="softmax", name="a")(flat)
    b = keras.layers.Dense(1, name="b")(flat)
    outputs = {"a": a, "b": b} if form is dict else form(a, b) if form is Heads else [a, b]
    return keras.Model(image, outputs)


def around(net, augmentation=None):
    return training.RegularizedModel(net, augmentation or layers.RandomErasing(rate=0.0))


# Logs.


@keras.saving.register_keras_serializable(package="tests")
def absolute(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


COMPILED = {
    "names of outputs": (dict, {"loss": {"a": "ce", "b": "mse"}, "metrics": {"a": ["accuracy"], "b": ["mae"]}}),
    "weighted metrics": (dict, {"loss": {"a": CE(), "b": "mae"}, "weighted_metrics": {"a": ["accuracy"]}}),
    "a list": (list, {"loss": [CE(), absolute], "metrics": [["accuracy"], ["mae", absolute]]}),
    "a list by names": (list, {"loss": {"a": CE(), "b": "mse"}, "metrics": {"b": ["mae"]}}),
    "a namedtuple": (Heads, {"loss": Heads(CE(), "mse"), "loss_weights": Heads(2.0, 0.5)}),
    "loss weights": (dict, {"loss": {"a": CE(), "b": "mse"}, "loss_weights": {"a": 0.2, "b": 3.0}}),
}


def logs_of(model, labels, weights, options):
    x, _ = batch()
    model.compile(keras.optimizers.SGD(0.1), **options)
    data = {"x": x, "y": labels, "sample_weight": weights, "verbose": 0}
    history = model.fit(**data, epochs=2, batch_size=4, shuffle=False, validation_data=(x, labels)).history
    return history, model.evaluate(**data, return_dict=True), model.evaluate(**data), model.metrics_names


@pytest.mark.parametrize("row", fewer(COMPILED, ["a list", "loss weights"]))
@pytest.mark.parametrize("weighted", [False, True])
def test_logs_are_those_of_the_plain_model(row, weighted):
    """With an augmentation that changes nothing: the same names in the same order, and the same numbers."""
    form, options = COMPILED[row]
    _, y = batch()
    one = np.linspace(0.5, 1.5, 8, dtype="float32")
    labels = {"a": y, "b": one[:, None]}
    weights = {"a": one, "b": one[::-1].copy()} if weighted else None
    if form is not dict:
        labels = form(*labels.values()) if form is Heads else list(labels.values())
        weights = weights and (form(*weights.values()) if form is Heads else list(weights.values()))
    plain = logs_of(two_heads(form), labels, weights, options)
    found = logs_of(around(two_heads(form)), labels, weights, options)
    assert list(found[0]) == list(plain[0]) and list(found[1]) == list(plain[1]) and found[3] == plain[3]
    assert_close(found[0], plain[0], rtol=0, atol=0)
    assert_close(found[1:3], plain[1:3], rtol=0, atol=0)
    assert "val_a_loss" in found[0]


class Pair(keras.Model):
    """Outputs in a nest, and no names for them."""

    def __init__(self):
        super().__init__()
        self.flat, self.a, self.b = keras.layers.Flatten(), keras.layers.Dense(2), keras.layers.Dense(2)

    def call(self, x):
        x = self.flat(x)
        return {"both": (self.a(x), self.b(x)), "one": self.a(x)}


def test_one_function_for_a_structure_of_outputs():
    """Keras gives the function the nest; where labels are mixed it sees each label in turn."""

    def pair_loss(y_true, y_pred):
        pairs = zip(y_true, y_pred, strict=True)
        return sum(keras.losses.sparse_categorical_crossentropy(t, p, from_logits=True) for t, p in pairs)

    x, y = batch()[0], np.arange(8) // 2 % 2
    labels = {"both": (y, 1 - y), "one": y}
    found = []
    for mixing in (False, True):
        keras.utils.set_random_seed(2)
        net = Pair()
        model = around(net, layers.MixUp(1.0, seed=1)) if mixing else around(net)
        model.compile("sgd", loss={"both": pair_loss, "one": CE(from_logits=True)})
        if mixing:
            mixed, mixture, _ = model.augment(x, labels)
            out, share = to_numpy(net(mixed)), to_numpy(mixture.weights)
            loss = model.compute_loss(mixed, mixture, net(mixed))
            expected = 0.0
            for k, term in enumerate(to_numpy(mixture.labels)):
                for p, t in zip([*out["both"], out["one"]], [*term["both"], term["one"]], strict=True):
                    log_p = p - np.log(np.exp(p).sum(-1, keepdims=True))
                    expected -= (share[:, k] * log_p[np.arange(8), t]).mean()
            assert_close(loss, expected, rtol=1e-5)
        else:
            net.compile("sgd", loss={"both": pair_loss, "one": CE(from_logits=True)})
            found = [m.evaluate(x, labels, return_dict=True, verbose=0) for m in (net, model)]
            assert_close(found[0], found[1])


def test_a_loss_that_has_taken_the_mean_already_is_refused_where_ids_are_mixed():
    """The weight of a label belongs to one sample; there would be nothing left to weigh."""
    x, y = batch()

    def mean_of_all(y_true, y_pred):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True))

    def squares(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred))

    model = around(network(), layers.MixUp(1.0, seed=1))
    model.compile("sgd", mean_of_all)
    with raises_received("mean_of_all", "shape=()"):
        model.train_on_batch(x, y)
    model.evaluate(x, y, verbose=0)
    model.compile("sgd", squares)  # floats are mixed themselves
    model.train_on_batch(x, np.eye(3, dtype="float32")[y])


def test_a_loss_with_one_value_for_each_sequence():
    """Its values are (batch,), though the outputs are (batch, steps, classes)."""

    class OfSequence(keras.losses.Loss):
        def call(self, y_true, y_pred):
            steps = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
            return keras.ops.max(steps, axis=-1)

    x, _ = batch(6)
    y = np.arange(6 * 6).reshape(6, 6).astype("int32") % 4
    net = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(24)])
    net.add(keras.layers.Reshape((6, 4)))
    model = around(net, layers.MixUp(1.0, seed=1))
    model.compile("sgd", OfSequence())
    mixed, mixture, _ = model.augment(x, y)
    logits = to_numpy(net(mixed))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    share, expected = to_numpy(mixture.weights), 0.0
    for k, term in enumerate(to_numpy(mixture.labels)):
        expected += share[:, k] * -np.take_along_axis(log_p, term[..., None], 2)[..., 0].min(1)
    assert_close(model.compute_loss(mixed, mixture, net(mixed)), expected.mean(), rtol=1e-5)


def test_everything_at_once_with_nested_data():
    """Dicts in and out, sample weights, steps_per_execution; and one output with class_weight."""
    x, y = batch()
    heads, image = two_heads(), keras.Input((4, 4, 1), name="image")
    net = keras.Model({"image": image}, heads(image))
    if keras.__version__.startswith("3.10."):  # which names the outputs of a nested model after it
        net = keras.Model({"image": heads.inputs[0]}, {name: heads.get_layer(name).output for name in "ab"})
    model = around(net, layers.CutMix(1.0, seed=1))
    options = {"steps_per_execution": 1 if BACKEND == "torch" else 2, "metrics": {"a": ["accuracy"]}}
    model.compile(keras.optimizers.SGD(0.05), {"a": CE(), "b": "mse"}, {"a": 1.0, "b": 0.1}, **options)
    labels, weights = {"a": y, "b": x.mean((1, 2))}, {"a": np.ones(8, "float32"), "b": np.full(8, 2, "float32")}
    history = model.fit({"image": x}, labels, sample_weight=weights, epochs=3, batch_size=2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and "a_accuracy" in history
    one = around(network(), layers.MixUp(1.0, seed=1))
    one.compile("sgd", CE(from_logits=True))
    one.fit(x, y, class_weight={0: 1.0, 1: 2.0, 2: 0.5}, verbose=0)


# What can be read and saved.


def test_it_has_the_names_and_shapes_of_the_network():
    net = two_heads()
    model = around(net)
    for name in ("inputs", "outputs", "output_names", "input_shape", "output_shape"):
        assert getattr(model, name) == getattr(net, name), name
    assert not hasattr(around(Pair()), "output_names")
    assert model.get_layer("a") is net.get_layer("a") and model.get_layer(net.name) is net
    assert model.count_params() == net.count_params()
    lines = []
    model.summary(print_fn=lines.append)
    assert "a (Dense)" in "".join(lines) and "random_erasing" in "".join(lines)
    features = keras.Model(model.inputs[0], model.get_layer("a").output)
    assert features(batch()[0]).shape == (8, 3)


def test_the_augmentation_stands_once_among_the_layers():
    model = around(network(), keras.layers.RandomFlip(seed=1))
    assert len(model.layers) == 2 and isinstance(model.augmentation, layers.Pipeline)


def trained(seed=0, name=None, penalties=0):
    terms = [training.ConfidencePenalty(0.1), training.ConfidencePenalty(0.1, name="again")][:penalties]
    model = training.RegularizedModel(network(name), layers.MixUp(0.4, seed=seed), penalties=terms)
    model.compile(keras.optimizers.Adam(0.01), CE(from_logits=True))
    model.fit(*batch(), verbose=0)
    return model


def test_inputs_and_the_loss_have_the_precision_of_the_network():
    """A cast to float16 would make 4096 of 4097, and infinity of 70000."""
    keras.config.set_dtype_policy("mixed_float16")
    parts = [keras.layers.Rescaling(1e-4, dtype="float32"), keras.layers.Dropout(1e-9, dtype="float32")]
    net = keras.Sequential([keras.Input((1,)), *parts, keras.layers.Dense(1, "linear", False, "ones", dtype="float32")])
    keras.config.set_dtype_policy("float32")
    x = np.array([[4097.0], [70000.0]], "float32")
    model = training.RegularizedModel(net)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    assert model.dtype_policy == net.dtype_policy and type(model.optimizer) is keras.optimizers.LossScaleOptimizer
    assert_close(model.predict(x, verbose=0), x / 10000, rtol=1e-6)
    assert_close(model(x), x / 10000, rtol=1e-6)
    assert_close(inference.MonteCarlo(net, 2).predict(x, verbose=0)["mean"], x / 10000, rtol=1e-6)
    assert model.fit(x, x / 10000, verbose=0).history["loss"][0] < 1e-9


@pytest.mark.parametrize("penalties", [0, 2])
@pytest.mark.parametrize("name", [None, "backbone", "layers", "confidence_penalty"])
def test_weights_go_from_the_model_to_the_network_and_back(tmp_path, name, penalties):
    path, own = str(tmp_path / "all.weights.h5"), str(tmp_path / "network.weights.h5")
    model = trained(name=name, penalties=penalties)
    model.save_weights(path)
    plain = network(name)
    plain.load_weights(path)
    assert_close(plain.get_weights(), model.model.get_weights(), rtol=0, atol=0)
    again = trained(seed=5, name=name, penalties=penalties)
    again.load_weights(path)
    assert_close(again.get_weights(), model.get_weights(), rtol=0, atol=0)
    for found, saved in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        assert_close(found, saved, rtol=0, atol=0)
    plain.set_weights([w + 1 for w in plain.get_weights()])
    plain.save_weights(own)
    again.load_weights(own)
    assert_close(again.model.get_weights(), plain.get_weights(), rtol=0, atol=0)


def test_weights_of_a_network_that_holds_others_and_its_own(tmp_path):
    """Names that stand in the file already: a Sequential in a Sequential, attributes, weights of the network itself."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.model = self.augmentation = keras.Sequential([keras.Input((4, 4, 1)), network()])
            self.scale = self.add_weight(shape=(3,), initializer="ones")

        def call(self, x):
            return self.model(x) * self.scale

    nets = [Own(), Own()]
    for net in nets:
        net(batch()[0])
        net.scale.assign(np.random.rand(3))
    model = around(nets[0])
    model.compile("adam", CE(from_logits=True))
    path = str(tmp_path / "all.weights.h5")
    model.save_weights(path)
    nets[1].load_weights(path)
    assert_close(nets[1].get_weights(), nets[0].get_weights(), rtol=0, atol=0)
    kept = nets[0].get_weights()
    nets[0].set_weights([w + 1 for w in kept])
    model.load_weights(path)
    assert_close(nets[0].get_weights(), kept, rtol=0, atol=0)
    nets[1].save_weights(path)
    nets[0].set_weights([w + 1 for w in kept])
    model.load_weights(path)
    assert_close(nets[0].get_weights(), kept, rtol=0, atol=0)


def served(path, x):
    import tensorflow as tf

    artifact = tf.saved_model.load(str(path))
    return to_numpy(artifact.serve(tf.constant(x)))


@only("tensorflow", "jax", why="a SavedModel from PyTorch needs torch_xla")
@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed", "with parts"])
def test_export_of_the_model_is_that_of_the_network(kind, tmp_path):
    x, _ = batch()

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = network()

        def call(self, x):
            return self.net(x)

    net = {"functional": two_heads, "sequential": network, "subclassed": Subclassed, "with parts": network}[kind]()
    parts = {"penalties": [training.VirtualAdversarial(0.5)], "sharpness": training.SharpnessAware(), "mix_at": "head"}
    model = training.RegularizedModel(net, layers.MixUp(seed=1), **parts if kind == "with parts" else {})
    model.predict(x, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    assert_close(served(tmp_path / "served", x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@only("torch", why="an exported program is PyTorch's")
def test_export_as_a_program_of_torch(tmp_path):
    import torch

    if not hasattr(keras.export, "ExportArchive") or keras.version() < "3.15":
        pytest.skip("this Keras exports no program of PyTorch")
    x, _ = batch(1)
    model = around(network(), layers.CutMix(seed=1))
    model.export(str(tmp_path / "served.pt2"), format="torch", verbose=False)
    found = torch.export.load(str(tmp_path / "served.pt2")).module()(torch.from_numpy(x))
    assert_close(found, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


# One network, used from several sides.


def test_the_model_and_its_network_train_in_turns():
    """What one has trained the other goes on with, and a copy of either keeps what it had (JAX donates buffers)."""
    x, y = batch()
    model = trained()
    net = model.model
    copies = [keras.models.clone_model(net), keras.models.clone_model(model)]
    for copy, original in zip(copies, (net, model), strict=True):
        copy.set_weights(original.get_weights())
    kept = net.get_weights()
    net.compile(keras.optimizers.Adam(0.01), CE(from_logits=True))
    other = around(net, layers.CutMix(seed=2))
    other.compile("adam", CE(from_logits=True))
    for _ in range(2):
        for each in (model, net, other):
            before = net.get_weights()
            each.fit(x, y, verbose=0)
            assert_close(each.predict(x, verbose=0), net(x), rtol=1e-5, atol=1e-6)
            assert np.abs(before[0] - net.get_weights()[0]).max() > 1e-5
    for copy in copies:
        assert_close(copy.get_weights(), kept, rtol=0, atol=0)
        copy.compile("sgd", CE(from_logits=True))
        copy.fit(x, y, verbose=0)
    kept = model.get_weights()
    copies[1].fit(x, y, verbose=0)
    assert_close(model.get_weights(), kept, rtol=0, atol=0)


# Ids on the host.


def test_ids_that_the_tensors_cannot_hold():
    """Under JAX 2**32 + 1 would be class 1; elsewhere the tensor holds it."""
    x, y = batch()
    far = y.astype("int64") + 2**32
    model = around(network())
    model.compile("sgd", CE(from_logits=True))
    held = int(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(far))[0]) == far[0]
    if held:
        assert int(to_numpy(model.augment(x, far)[1])[0]) == far[0]
        return
    calls = [model.fit, model.evaluate, model.train_on_batch, model.test_on_batch, model.augment]
    for call in calls:
        with raises_received("most=42949672"):
            call(x, far)
    model.fit(x, y.astype("int64"), verbose=0)


# Binary classification with one logit.


def one_logit(augmentation):
    keras.utils.set_random_seed(3)
    net = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model = around(net, augmentation)
    model.compile(keras.optimizers.SGD(0.0), BCE(from_logits=True), metrics=["accuracy"])
    return model


@pytest.mark.parametrize(
    ("make", "num_classes", "column"),
    [(layers.MixUp, None, False), (layers.MixUp, 1, True), (layers.CutMix, None, True), (layers.CutMix, 1, False)],
)
def test_one_logit_takes_numbers_of_every_kind(make, num_classes, column):
    """Integers and floats, (batch,) and (batch, 1): the same loss, that of the mixed target."""
    x, y = batch()[0], np.arange(8) // 2 % 2
    found = []
    for dtype in ("int32", "float32", "uint8", "bool"):
        labels = y.astype(dtype)[:, None] if column else y.astype(dtype)
        model = one_logit(make(1.0, num_classes=num_classes, seed=4))
        mixed, mixture, _ = model.augment(x, labels)
        found.append(to_numpy(model.compute_loss(mixed, mixture, model(mixed))))
        assert to_numpy(model.compute_metrics(mixed, mixture, model(mixed))["accuracy"]) in np.arange(9) / 8
    model.train_on_batch(x, labels)
    mixer = make(1.0, num_classes=1, seed=4)
    images, targets = to_numpy(mixer(x, y))
    assert targets.shape == (8, 1) and targets.dtype == "float32" and not np.isin(targets, [0, 1]).all()
    z = to_numpy(one_logit(mixer)(images))
    expected = (np.logaddexp(0, z) - targets * z).mean()
    assert_close(found, [expected] * 4, rtol=1e-5)


def test_one_class_is_not_two():
    x, y = batch()
    with raises_received("most=2"):
        layers.MixUp(num_classes=1)(x, y)
    masks = (x > 0.5).astype("int32")
    mixed = layers.MixUp(1.0, num_classes=1, seed=1)({"images": x, "segmentation_masks": masks})
    same = layers.MixUp(1.0, seed=1)({"images": x, "segmentation_masks": masks.astype("float32")})
    assert_close(mixed["segmentation_masks"], same["segmentation_masks"])
