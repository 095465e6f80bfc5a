"""What `fit` and its like are given: arrays of numbers that the backend holds, refused by name where they are none."""

import warnings

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received

from keras_reg import inference, layers, losses, training

IMAGES = np.round(np.random.default_rng(0).random((8, 4, 4, 1)) * 256).astype("float32") / 256
IDS, WEIGHTS = np.arange(8) % 3, np.linspace(0.5, 2, 8, dtype="float32")


def model():
    keras.utils.set_random_seed(3)
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    made = training.RegularizedModel(network, layers.MixUp(1.0, seed=4))
    made.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def calls(of):
    """Each way to hand over a batch."""
    quiet = {"verbose": 0}
    validation = lambda *data: of.fit(IMAGES, IDS, validation_data=data, **quiet)  # noqa: E731
    return [
        lambda *data: of.fit(*data[:2], sample_weight=data[2], **quiet), of.train_on_batch, of.test_on_batch,
        lambda *data: of.evaluate(*data[:2], sample_weight=data[2], **quiet), of.augment, validation,
    ]  # fmt: skip


WRONG = {
    "complex": lambda array: array + 0j, "objects": lambda array: array.astype(object),
    "strings": lambda array: array.astype(str),
    "records": lambda array: array.astype([("value", "f4")]), "beyond": lambda array: array.astype("uint64") + 2**63,
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_array_of_numbers_is_refused_by_name(wrong):
    made = model()
    given = {"x": IMAGES, "y": IDS, "sample_weight": WEIGHTS}
    kept = made.get_weights()
    for name in given:
        data = {**given, name: WRONG[wrong](given[name])}.values()
        for call in calls(made):
            with pytest.raises(ValueError, match=rf"(?s)Received: .*\b{name}="):
                call(*data)
    for call in (made.predict, made.predict_on_batch):
        with raises_received("x="):
            call(WRONG[wrong](IMAGES))
    assert_close(made.get_weights(), kept, rtol=0, atol=0)


@pytest.mark.parametrize("form", [">", "longdouble", "uint64", "list"])
def test_the_same_numbers_in_any_form_train_alike(form):
    forms = {
        ">": lambda array: array.astype(array.dtype.newbyteorder(">")), "list": lambda array: array.tolist(),
        "longdouble": lambda array: array.astype("longdouble") if array.dtype.kind == "f" else array,
        "uint64": lambda array: array.astype("uint64") if array.dtype.kind == "i" else array,
    }  # fmt: skip
    data = [IMAGES, IDS, WEIGHTS]
    found = []
    for given in (data, list(map(forms[form], data))):
        made = model()
        made.fit(*given[:2], sample_weight=given[2], verbose=0)
        losses = made.train_on_batch(*given), made.test_on_batch(*given), made.predict_on_batch(given[0])
        found.append([*losses, made.evaluate(*given[:2], verbose=0), made.predict(given[0], verbose=0)])
    assert_close(found[1], found[0], rtol=1e-6)


def test_labels_and_weights_have_the_form_of_the_outputs():
    made = model()
    for y in ({"a": IDS}, [IDS, IDS], {}, []):
        with raises_received("y="):
            made.test_on_batch(IMAGES, y)
    for weights in ({"a": WEIGHTS}, [WEIGHTS, WEIGHTS], {}, [], [None] * 8):
        with raises_received("sample_weight="):
            made.test_on_batch(IMAGES, IDS, weights)
    one = [made.test_on_batch(IMAGES, *data) for data in ((IDS, WEIGHTS), ([IDS], WEIGHTS), (IDS, [WEIGHTS]))]
    assert_close(one, [one[0]] * 3, rtol=1e-6)
    for weights in (WEIGHTS[:1], WEIGHTS[0], 1.0):
        with raises_received("sample_weight="):
            made.test_on_batch(IMAGES, IDS, weights)


def with_two_outputs(form):
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(image)
    outputs = {"age": keras.layers.Dense(1, name="age")(flat), "kind": keras.layers.Dense(3, name="kind")(flat)}
    return keras.Model(image, outputs if form is dict else list(outputs.values()))


@pytest.mark.parametrize("form", [dict, list])
def test_class_ids_of_each_output_are_checked_before_training(form):
    """With the loss of each output, given by name or by position, or with one loss for all of them."""
    network = with_two_outputs(form)
    loss = losses.LabelSmoothingCrossentropy(from_logits=True)
    labels = {"age": WEIGHTS[:, None] / 2, "kind": IDS + 1}
    for given in ({"age": "mse", "kind": loss}, ["mse", loss], loss):
        made = training.RegularizedModel(network, layers.MixUp(1.0, seed=4))
        made.compile("sgd", given)
        for y in (labels, labels if form is dict else list(labels.values())):
            with pytest.raises(ValueError, match=r"class ids from 0 to 2.*Received: y_true=\[3"):
                made.fit(IMAGES, y, verbose=0)


# The losses of Keras raise an error of their own, if they see the labels before the metrics.
NAMED = r"(?s)`{}` must have labels for each output .* missing='age'|different structures.*kind"


@pytest.mark.parametrize("form", [dict, list])
def test_an_output_without_labels_is_named(form):
    network = with_two_outputs(form)
    arguments = {"loss": {"age": "mse", "kind": losses.LabelSmoothingCrossentropy(from_logits=True)}}
    arguments["metrics"] = {"age": ["mae"], "kind": ["accuracy"]}
    network.compile("sgd", **arguments)
    made = training.RegularizedModel(network, layers.MixUp(1.0, seed=4))
    made.compile("sgd", **arguments)
    for call in (made.fit, made.evaluate, made.train_on_batch):
        with pytest.raises(ValueError, match=NAMED.format("y")):
            call(IMAGES, {"kind": IDS})
    with pytest.raises(ValueError, match=NAMED.format("validation_data")):
        inference.soup([network, network], (IMAGES, {"kind": IDS}))


@pytest.mark.parametrize("weights", [np.arange(4) % 2, [0.0, 1, 1, 1]], ids=["array", "list"])
def test_samples_of_weight_0_that_are_mixed_are_warned_about(weights):
    x, y = np.ones((4, 6, 6, 1), "float32"), np.arange(4) % 3
    for augmentation, warns in ((layers.MixUp(), True), (layers.RandomFlip(), False), (None, False)):
        made = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
        model = training.RegularizedModel(made, augmentation)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x, y, sample_weight=np.asarray(weights), verbose=0)
            model.fit(x, y, sample_weight=np.ones(4), verbose=0)
        assert sum("Samples of weight 0" in str(one.message) for one in caught) == warns
