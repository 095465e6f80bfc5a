"""The axis of the classes, Keras masks, and outputs of a regression, in all that reads what outputs mean."""

import keras
import numpy as np
import pytest
from harness import assert_close, fewer, raises_received, slow_on
from keras import layers, ops

from keras_reg import inference, losses, metrics, training
from keras_reg.layers import BatchAugmentation

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 3, 4, 5)).astype("float32")
MAPS = RNG.integers(0, 7, (6, 4, 5))
WORDS, LENGTH = 4, 20
TOKENS = np.pad(RNG.integers(1, 9, (24, WORDS)), [(0, 0), (0, LENGTH - WORDS)])
TAGS = RNG.integers(0, 4, (24, LENGTH))
SGD = "sgd"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy


def softmax(z, axis=-1):
    z = np.asarray(z, "float64")
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# The axis of the classes.


def classes_first(last=None):
    """A network with outputs (batch, 7, 4, 5)."""
    dense = layers.Dense(7, kernel_initializer=keras.initializers.RandomNormal(0, 0.3))
    parts = [layers.Permute((2, 3, 1)), dense, layers.Permute((3, 1, 2))]
    return keras.Sequential([keras.Input((3, 4, 5)), *parts, *([] if last is None else [last])])


def of_axis_1():
    """{how the axis is known: (network, its loss)}"""
    return {
        "ours": (classes_first(), losses.LabelSmoothingCrossentropy(0.0, from_logits=True, axis=1)),
        "Keras": (classes_first(), CROSSENTROPY(from_logits=True, axis=-3)),
        "layer": (classes_first(layers.Softmax(axis=1)), None),
    }


def probabilities(network, x):
    outputs = network.predict(x, verbose=0)
    is_softmax = isinstance(network.layers[-1], layers.Softmax)
    return outputs.astype("float64") if is_softmax else softmax(outputs, 1)


@pytest.mark.parametrize("known", of_axis_1())
def test_the_entropy_is_that_over_the_axis_of_the_classes(known):
    network, loss = of_axis_1()[known]
    y = MAPS
    if known == "Keras":  # whose sparse loss fails on JAX
        loss, y = keras.losses.CategoricalCrossentropy(True, axis=1), np.moveaxis(np.eye(7)[MAPS], -1, 1)
    p = probabilities(network, IMAGES)
    model = training.RegularizedModel(network, penalties=[training.ConfidencePenalty(1.0)])
    model.compile(SGD, loss or (lambda y_true, y_pred: ops.mean(y_pred)))
    logs = model.train_on_batch(IMAGES, y, return_dict=True)
    assert_close(logs["confidence_penalty"], (p * np.log(p)).sum(1).mean(), rtol=1e-5)


def test_an_axis_of_one_class_is_that_of_independent_probabilities():
    """As with the classes last: a sigmoid for each position."""
    dense = layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(0, 0.3))
    parts = [keras.Input((3, 4, 5)), layers.Permute((2, 3, 1)), dense, layers.Permute((3, 1, 2))]
    members = [keras.Sequential(parts), keras.Sequential(parts)]
    for member in members:
        member.compile(SGD, losses.LabelSmoothingCrossentropy(0.0, from_logits=True, axis=1))
    found, expected = (each.predict(IMAGES, verbose=0) for each in (inference.ensemble(members), members[0]))
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("combine", fewer(["mean", "logits", "vote", "median"], ["vote"]))
@pytest.mark.parametrize("known", of_axis_1())
def test_an_ensemble_combines_over_the_axis_of_the_classes(known, combine):
    members = []
    for _ in range(3):
        network, loss = of_axis_1()[known]
        if loss:
            network.compile(SGD, loss)
        members.append(network)
    p = np.stack([probabilities(member, IMAGES) for member in members])
    expected = {
        "mean": p.mean(0),
        "logits": softmax(np.log(p).mean(0), 1),
        "vote": np.moveaxis(np.eye(7)[p.argmax(2)].mean(0), -1, 1),
        "median": np.median(p, 0) / np.median(p, 0).sum(1, keepdims=True),
    }
    found = inference.ensemble(members, combine).predict(IMAGES, verbose=0)
    found = found if known == "layer" else softmax(found, 1)
    assert_close(found, expected[combine], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("known", of_axis_1())
def test_temperature_and_error_are_those_with_the_classes_last(known):
    network, loss = of_axis_1()[known]
    if loss:
        network.compile(SGD, loss)
    is_softmax = loss is None
    last = keras.Sequential([keras.Input((3, 4, 5)), network, layers.Permute((2, 3, 1))])
    found = inference.calibrate(network, (IMAGES, MAPS))
    expected = inference.calibrate(last, (IMAGES, MAPS), from_logits=not is_softmax)
    assert_close(found.get_layer("temperature").scale, expected.get_layer("temperature").scale, rtol=1e-4)
    outputs = np.moveaxis(found.predict(IMAGES, verbose=0), 1, -1)
    assert_close(outputs, expected.predict(IMAGES, verbose=0), rtol=1e-4, atol=1e-5)


def test_the_uncertainty_is_that_over_the_axis_of_the_classes():
    inputs = keras.Input((3, 4, 5))
    network = keras.Model(inputs, layers.Softmax(axis=1)(classes_first()(layers.Dropout(0.5)(inputs))))
    found = inference.MonteCarlo(network, samples=4, seed=0).predict(IMAGES, verbose=0)
    assert_close(found["mean"].sum(1), np.ones((6, 4, 5)), rtol=1e-5)
    assert_close(found["entropy"], -(found["mean"] * np.log(found["mean"])).sum(1), rtol=1e-4, atol=1e-5)
    symbolic = inference.MonteCarlo(network, samples=4)(keras.Input((3, 4, 5)))
    assert {name: x.shape[1:] for name, x in symbolic.items()} == {name: x.shape[1:] for name, x in found.items()}
    assert (found["mutual_information"] >= 0).all() and found["mutual_information"].max() > 1e-3


# Masks: a padded batch gives what its words alone give.


def tagger(activation=None, dropout=0.0):
    keras.utils.set_random_seed(0)
    embedding = layers.Embedding(9, 6, mask_zero=True, embeddings_initializer=keras.initializers.RandomNormal(0, 1))
    parts = [embedding, layers.Dropout(dropout, seed=1), layers.Dense(4, activation)]
    return compiled(keras.Sequential([keras.Input((None,), dtype="int32"), *parts]), activation)


def compiled(network, activation):
    """Not with an accuracy: that of Keras 3.10 is wrong for masks on PyTorch."""
    error = metrics.ExpectedCalibrationError(from_logits=activation is None)
    network.compile(SGD, CROSSENTROPY(from_logits=activation is None), weighted_metrics=[error])
    return network


PADDED, WORDS_ALONE = (TOKENS, TAGS), (TOKENS[:, :WORDS], TAGS[:, :WORDS])


@keras.saving.register_keras_serializable(package="tests_training")
class Scaled(layers.Layer):
    """Multiplies by one random number, which does not depend on the padding."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)
        self.supports_masking = True

    def call(self, inputs, training=False):
        return inputs * (1 + keras.random.uniform((), seed=self.seed_generator)) if training else inputs


class Doubled(BatchAugmentation):
    kinds, moves_pixels = ("signal",), False
    transform_images = lambda self, images, transformation, batch: 2 * images  # noqa: E731


FEATURES = np.pad(RNG.normal(size=(24, WORDS, 3)), [(0, 0), (0, LENGTH - WORDS), (0, 0)]).astype("float32")
MASKED_PENALTIES = {
    "ConfidencePenalty": lambda: training.ConfidencePenalty(1.0, name="term"),
    "ConsistentDropout": lambda: training.ConsistentDropout(1.0, name="term"),
    "JensenShannonConsistency": lambda: training.JensenShannonConsistency(Doubled(kind="signal"), name="term"),
}


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("name", MASKED_PENALTIES)
def test_penalties_leave_out_masked_positions(name, activation):
    def term(x, y):
        keras.utils.set_random_seed(0)
        dense = layers.Dense(4, activation, bias_initializer=keras.initializers.RandomNormal(0, 1))
        network = keras.Sequential([keras.Input((None, 3)), layers.Masking(0.0), Scaled(), dense])
        model = training.RegularizedModel(network, penalties=[MASKED_PENALTIES[name]()])
        model.compile(SGD, CROSSENTROPY(from_logits=activation is None))
        return model.train_on_batch(x, y, return_dict=True)["term"]

    padded, alone = term(FEATURES, TAGS), term(FEATURES[:, :WORDS], TAGS[:, :WORDS])
    assert abs(alone) > 1e-3
    assert_close(padded, alone, rtol=1e-4)


@slow_on("torch")
@pytest.mark.filterwarnings("ignore:Dynamo", "ignore:The .grad attribute")  # of Keras' own code
def test_a_compiled_step_leaves_out_masked_positions():
    """On PyTorch, the step of `fit` is eager unless one asks for more."""

    def term(data, jit_compile):
        penalties = [training.ConfidencePenalty(1.0)]
        model = training.RegularizedModel(tagger(), penalties=penalties)
        model.compile(SGD, CROSSENTROPY(from_logits=True), jit_compile=jit_compile)
        return model.train_on_batch(*data, return_dict=True)["confidence_penalty"]

    assert_close(term(PADDED, True), term(WORDS_ALONE, False), rtol=1e-5)


def test_the_adversarial_change_unmasks_nothing():
    """The outputs of the words are certain, and those of the padding are not: they change with the inputs."""
    x = np.pad(100 * np.eye(3)[RNG.integers(0, 3, (8, WORDS))], [(0, 0), (0, LENGTH - WORDS), (0, 0)])
    dense = layers.Dense(3, use_bias=False, kernel_initializer=keras.initializers.Identity(5.0))
    terms = {}
    for masking in (layers.Masking(0.0), layers.Identity()):
        network = keras.Sequential([keras.Input((LENGTH, 3)), masking, dense])
        model = training.RegularizedModel(network, penalties=[training.VirtualAdversarial(1.0, seed=0)])
        model.compile(keras.optimizers.SGD(0.0), CROSSENTROPY(from_logits=True))
        logs = model.train_on_batch(x.astype("float32"), np.zeros((8, LENGTH), int), return_dict=True)
        terms[type(masking).__name__] = logs["virtual_adversarial"]
    assert terms["Masking"] < 1e-6 and terms["Identity"] > 1e-3


def in_another(network, activation):
    """The same network inside another one, which shows the mask only when it runs."""
    return compiled(keras.Sequential([keras.Input((None,), dtype="int32"), network]), activation)


@pytest.mark.parametrize("wrap", fewer([lambda network, activation: network, in_another], [in_another]))
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_evaluation_leaves_out_masked_positions(activation, wrap, tmp_path):
    networks = [tagger(activation), tagger(activation)]
    networks[1].layers[0].set_weights([networks[1].layers[0].get_weights()[0] * 2])
    networks = [wrap(network, activation) for network in networks]
    made = {
        "network": networks[0],
        "ensemble": inference.ensemble(networks),
        "calibrated": inference.calibrate(networks[0], PADDED),
    }
    made["ensemble"].save(tmp_path / "ensemble.keras")
    made["loaded"] = keras.saving.load_model(tmp_path / "ensemble.keras")
    shares = []
    for model in made.values():
        padded, alone = (model.evaluate(*data, verbose=0, return_dict=True) for data in (PADDED, WORDS_ALONE))
        # Keras divides the sum of the losses by the number of all positions, or of those that count.
        shares.append(padded.pop("loss") / alone.pop("loss"))
        assert_close(padded, alone, rtol=1e-5)
    np.testing.assert_allclose(shares, shares[0], rtol=1e-4)
    scales = [inference.calibrate(networks[0], data).get_layer("temperature").scale for data in (PADDED, WORDS_ALONE)]
    assert_close(scales[0], scales[1], rtol=1e-5)


def test_a_position_of_an_ensemble_counts_if_it_does_for_a_member():
    def member(value):
        parts = [keras.Input((None, 1)), layers.Masking(value), layers.Dense(2, "softmax")]
        return keras.Sequential(parts)

    x = np.array([[[0.0], [1.0], [2.0]]], "float32")
    combined = inference.ensemble([member(0.0), member(1.0)])
    combined.compile(SGD, CROSSENTROPY(), weighted_metrics=[Count()])
    assert combined.evaluate(x, np.zeros((1, 3), int), verbose=0, return_dict=True)["count"] == 3
    alone = inference.ensemble([member(0.0), member(0.0)])
    alone.compile(SGD, CROSSENTROPY(), weighted_metrics=[Count()])
    assert alone.evaluate(x, np.zeros((1, 3), int), verbose=0, return_dict=True)["count"] == 2


class Count(metrics.ExpectedCalibrationError):
    """The number of positions that count."""

    def __init__(self):
        super().__init__(name="count")

    def result(self):
        return ops.sum(self.counts)


def test_the_mean_of_monte_carlo_has_the_mask():
    model = inference.MonteCarlo(tagger(dropout=1e-7), samples=3)  # all passes are equal
    found, expected = (each.evaluate(*PADDED, verbose=0, return_dict=True) for each in (model, tagger()))
    assert_close(found, expected, rtol=1e-5)


# Outputs that are not those of a classifier, and losses with names.


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_outputs_of_a_regression_are_left_out(activation):
    inputs = keras.Input((3,))
    heads = {"c": layers.Dense(4, name="c")(inputs), "r": layers.Dense(1, activation, name="r")(inputs)}
    x, y = RNG.normal(size=(8, 3)).astype("float32"), {"c": np.arange(8) % 4, "r": np.zeros((8, 1))}
    network = keras.Model(inputs, heads)
    for from_logits in (None, True):
        p = softmax(network.predict(x, verbose=0)["c"])
        penalties = [training.ConfidencePenalty(1.0, from_logits=from_logits)]
        model = training.RegularizedModel(network, penalties=penalties)
        model.compile(SGD, {"c": CROSSENTROPY(from_logits=True), "r": "mse"})
        logs = model.train_on_batch(x, y, return_dict=True)
        assert_close(logs["confidence_penalty"], (p * np.log(p)).sum(-1).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", ["crossentropy", "ce"])
def test_the_names_with_which_keras_chooses_a_crossentropy(name):
    network = keras.Sequential([keras.Input((3,)), layers.Dense(4, "softmax")])
    x = RNG.normal(size=(8, 3)).astype("float32")
    p = network.predict(x, verbose=0).astype("float64")
    model = training.RegularizedModel(network, penalties=[training.ConfidencePenalty(1.0)])
    model.compile(SGD, name)
    logs = model.train_on_batch(x, np.arange(8) % 4, return_dict=True)
    assert_close(logs["confidence_penalty"], (p * np.log(p)).sum(-1).mean(), rtol=1e-5)
    network.compile(SGD, name)
    both = inference.ensemble([network, network])
    assert_close(both.predict(x, verbose=0), network.predict(x, verbose=0), rtol=1e-5)


def test_a_penalty_that_is_no_scalar_is_refused():
    class OfEachExample(training.Penalty):
        def compute(self, step, x, y, y_pred, sample_weight):
            return ops.sum(ops.square(y_pred), axis=-1)

    model = training.RegularizedModel(
        keras.Sequential([keras.Input((3,)), layers.Dense(4)]), penalties=[OfEachExample()]
    )
    model.compile(SGD, "mse")
    with raises_received("`compute` must return a scalar", "shape=(8,)"):
        model.train_on_batch(np.ones((8, 3), "float32"), np.ones((8, 4), "float32"))


def test_the_log_is_the_mean_over_examples():
    class MeanInput(training.Penalty):
        def compute(self, step, x, y, y_pred, sample_weight):
            return ops.mean(x)

    model = training.RegularizedModel(keras.Sequential([keras.Input((1,)), layers.Dense(1)]), penalties=[MeanInput()])
    model.compile(SGD, "mse")
    x = np.array([0.0] * 8 + [9.0], "float32")[:, None]
    logs = model.fit(x, x, batch_size=8, shuffle=False, verbose=0).history
    assert_close(logs["mean_input"], [1.0], rtol=1e-6)  # and not (0 + 9) / 2


def test_layers_that_preprocess_are_no_augmentation():
    """They would act in training only."""
    network = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)])
    for layer in (
        layers.Rescaling(1 / 255),
        layers.Normalization(mean=0.0, variance=1.0),
        layers.Discretization([0.5]),
    ):
        for augmentation in (layer, keras.Sequential([layer, layers.RandomFlip()])):
            with raises_received("must not preprocess", f"layers=['{layer.name}']"):
                training.RegularizedModel(network, augmentation)
    there_and_back = [layers.Rescaling(255.0), layers.RandomFlip(), layers.Rescaling(1 / 255)]
    training.RegularizedModel(network, keras.Sequential(there_and_back))


def test_one_logit_per_position_on_axis_1():
    """Each position is one separate probability: its entropy is log 2 at a logit of 0."""
    inputs = keras.Input((1, 4, 5))
    made = keras.Model(inputs, layers.Dropout(0.5)(layers.Conv2D(1, 1, data_format="channels_first")(inputs)))
    made.set_weights([0 * weight for weight in made.get_weights()])
    loss = losses.LabelSmoothingCrossentropy(0.0, from_logits=True, axis=1)
    model = training.RegularizedModel(made, penalties=[training.ConfidencePenalty(0.0)])
    model.compile(keras.optimizers.SGD(0.0), loss)
    x, y = np.zeros((6, 1, 4, 5), "float32"), MAPS % 2
    logs = model.train_on_batch(x, y, return_dict=True)
    assert_close(logs["confidence_penalty"], -np.log(2), rtol=1e-5)
    made.compile(SGD, loss)
    passes = inference.MonteCarlo(made, samples=2)
    found, spec = passes.predict(x, verbose=0), passes.compute_output_spec(keras.KerasTensor((6, 1, 4, 5)))
    for name, value in found.items():
        assert value.shape == tuple(spec[name].shape) == ((6, 1, 4, 5) if name in ("mean", "variance") else (6, 4, 5))
    assert_close(found["mean"], np.full_like(x, 0.5))
    assert inference.reliability(made, (x, y)).get_xlabel() == "confidence"
