"""Views of images against NumPy: where crops lie, how outputs are merged, and what is refused."""

import keras
import numpy as np
import pytest
from harness import assert_close, only, raises_received, to_numpy

from keras_reg import inference, layers

RNG = np.random.default_rng(0)
X = RNG.random((5, 7, 10, 3), "float32")
Y = np.arange(5) % 4
CROP = (4, 5)


def network(shape=(*CROP, 3), activation=None, units=4):
    keras.utils.set_random_seed(1)
    parts = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(units, activation)]
    return keras.Sequential(parts)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def ten_crops(images):
    """As torchvision: int(round((side - crop) / 2)), which rounds 1.5 and 2.5 to 2."""
    height, width = CROP
    corners = [(0, 0), (0, 5), (3, 0), (3, 5), (2, 2)]
    return [each[:, y : y + height, x : x + width] for each in (images, images[:, :, ::-1]) for y, x in corners]


def linear(model, images):
    kernel, bias = (to_numpy(weight).astype("float64") for weight in model.weights)
    return images.reshape(len(images), -1) @ kernel + bias


MERGED = {
    "mean": lambda p: p.mean(0),
    "logits": lambda p: softmax(np.log(p).mean(0)),
    "vote": lambda p: np.eye(4)[p.argmax(-1)].mean(0),
    "max": lambda p: p.max(0) / p.max(0).sum(-1, keepdims=True),
}


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("merge", MERGED)
def test_ten_crops_are_those_of_torchvision_and_are_merged_as_probabilities(merge, activation):
    model = network(activation=activation)
    model.set_weights([5 * weight for weight in model.get_weights()])
    crops = np.stack([softmax(linear(model, crop)) for crop in ten_crops(X)])
    expected = MERGED[merge](crops)
    averaged = inference.TestTimeAugmentation(model, inference.ten_crop(CROP), merge, from_logits=activation is None)
    found = averaged(X)
    assert_close(softmax(to_numpy(found)) if activation is None else found, expected, rtol=1e-4, atol=1e-5)


def test_one_number_per_example_and_numbers_of_a_regression():
    binary = network(units=1)
    z = np.stack([linear(binary, crop) for crop in ten_crops(X)][:5])
    p = 1 / (1 + np.exp(-z))
    found = {
        merge: 1 / (1 + np.exp(-to_numpy(inference.TestTimeAugmentation(
            binary, inference.five_crop(CROP), merge, from_logits=True)(X)).astype("float64")))
        for merge in MERGED
    }  # fmt: skip
    assert_close(found["mean"], p.mean(0), rtol=1e-5)
    assert_close(found["logits"], 1 / (1 + np.exp(-z.mean(0))), rtol=1e-5)
    assert_close(found["vote"], (p > 0.5).mean(0), atol=1e-5)
    assert_close(found["max"], p.max(0), rtol=1e-5)
    binary.compile("sgd", "mse")
    assert_close(inference.TestTimeAugmentation(binary, inference.five_crop(CROP))(X), z.mean(0), rtol=1e-4)
    assert_close(inference.TestTimeAugmentation(binary, inference.five_crop(CROP), "max")(X), z.max(0), rtol=1e-4)
    with raises_received("regression", "merge='vote'"):
        inference.TestTimeAugmentation(binary, inference.five_crop(CROP), "vote")(X)


def test_evaluate_uses_the_loss_of_the_model_and_moves_nothing():
    keras.utils.set_random_seed(1)
    parts = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((7, 10, 3)), *parts, keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    model.fit(X, Y, batch_size=5, verbose=0)
    averaged = inference.TestTimeAugmentation(model, inference.flips())
    before = [np.array(to_numpy(variable)) for variable in model.variables]
    found = averaged.evaluate(X, Y, batch_size=2, verbose=0, return_dict=True)
    outputs = averaged.predict(X, batch_size=2, verbose=0)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, to_numpy(variable))
    p = np.mean([softmax(model.predict(x, verbose=0).astype("float64")) for x in (X, X[:, :, ::-1])], 0)
    assert_close(softmax(outputs), p, rtol=1e-5)
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(5), Y]).mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((p.argmax(-1) == Y).mean())


@pytest.mark.parametrize("form", [lambda x: [x], lambda x: {"image": x}], ids=["list", "dict"])
def test_the_images_may_be_in_a_list_or_a_dict(form):
    plain, images = network((7, 10, 3), "softmax"), keras.Input((7, 10, 3), name="image")
    model = keras.Model(form(images), plain(images))
    model.compile("sgd", "sparse_categorical_crossentropy")
    averaged = inference.TestTimeAugmentation(model, inference.flips())
    expected = (to_numpy(plain(X)) + to_numpy(plain(X[:, :, ::-1]))) / 2
    assert_close(averaged(form(X)), expected, rtol=1e-5)
    loss = averaged.evaluate(form(X), Y, verbose=0)
    assert loss == pytest.approx(-np.log(expected[np.arange(5), Y]).mean(), rel=1e-5)
    with raises_received("one array", "inputs=2"):
        averaged([X, X])


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_flips_are_undone_on_maps(data_format):
    """A network that moves an image one pixel down and right: averaged over flips, it moves in all four directions."""
    axes, images = (1, 2), X
    if data_format == "channels_first":
        axes, images = (2, 3), np.moveaxis(X, -1, 1)
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            keras.layers.ZeroPadding2D(((1, 0), (1, 0)), data_format=data_format),
            keras.layers.Cropping2D(((0, 1), (0, 1)), data_format=data_format),
        ]
    )
    views = inference.flips("horizontal_and_vertical")
    averaged = inference.TestTimeAugmentation(model, views, from_logits=False, data_format=data_format)
    padded = np.pad(images, [(0, 0), *((1, 1) if axis in axes else (0, 0) for axis in (1, 2, 3))])
    ends = {1: slice(2, None), -1: slice(None, -2)}
    expected = 0
    for down in (1, -1):
        for right in (1, -1):
            cut = [slice(None)] * 4
            cut[axes[0]], cut[axes[1]] = ends[down], ends[right]
            expected = expected + padded[tuple(cut)] / 4
    assert_close(averaged(images), expected)
    for refused in (inference.ten_crop(3), inference.multi_scale([4]), layers.RandomFlip()):
        with raises_received("positions", "output_shape"):
            samples = 2 if refused.__class__ is layers.RandomFlip else None
            inference.TestTimeAugmentation(model, refused, samples=samples, data_format=data_format)


def test_outputs_of_one_pixel_have_no_positions():
    plain, views = network(activation="softmax"), inference.five_crop(CROP)
    pixel = keras.Sequential([plain, keras.layers.Reshape((1, 1, 4))])
    expected, found = (inference.TestTimeAugmentation(m, views, from_logits=False)(X) for m in (plain, pixel))
    assert_close(to_numpy(found)[:, 0, 0], expected, rtol=1e-6)


def test_sizes_are_those_of_the_shorter_side_or_given():
    """The sum of the pixels of a white image is its area."""
    total = keras.layers.Lambda(lambda x: keras.ops.sum(x, (1, 2)), output_shape=(3,))
    model = keras.Sequential([keras.Input((None, None, 3)), total])
    scaled = inference.TestTimeAugmentation(model, inference.multi_scale([14, (3, 5)]), from_logits=False)
    assert_close(scaled(np.ones((2, 7, 10, 3))), np.full((2, 3), (14 * 20 + 3 * 5) / 2), rtol=1e-5)
    assert_close(scaled(np.ones((2, 7, 10, 3), "uint8")), np.full((2, 3), (14 * 20 + 3 * 5) / 2), rtol=1e-5)
    views = inference.multi_scale([8, 14], inference.ten_crop(4))
    cropped = inference.TestTimeAugmentation(model, views, from_logits=False)
    assert_close(cropped(np.ones((2, 7, 10, 3))), np.full((2, 3), 16.0), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(views))
    assert again == views


def test_images_of_unknown_size():
    """Ten crops within a larger model: offsets are computed when the size is known."""
    model, images = network(), keras.Input((None, None, 3))
    averaged = inference.TestTimeAugmentation(model, inference.ten_crop(CROP), "logits", from_logits=True)
    whole = keras.Model(images, averaged(images))
    expected = np.mean([linear(model, crop) for crop in ten_crops(X)], 0)
    assert_close(whole.predict(X, batch_size=2, verbose=0), expected, rtol=1e-4, atol=1e-5)
    with raises_received("pairs", "sizes=8"):
        inference.TestTimeAugmentation(model, inference.multi_scale([8]), from_logits=True)(images)


def test_draws_of_a_layer():
    model = network((7, 10, 3), "softmax")
    mirrored = inference.TestTimeAugmentation(model, layers.RandomFlip(rate=1.0), samples=2)
    assert_close(mirrored(X), model(X[:, :, ::-1]), rtol=1e-5)
    drawn = inference.TestTimeAugmentation(model, keras.layers.RandomBrightness(0.5, (0, 1), seed=1), samples=3)
    first, second = (drawn.predict(X, verbose=0) for _ in range(2))
    assert abs(first - second).max() > 1e-4
    assert_close(first.sum(-1), np.ones(5), rtol=1e-5)


def test_the_network_keeps_its_weights_if_a_prediction_is_refused():
    """On JAX, Keras loses the weights of a model if an error is raised within the step of `predict` or `evaluate`."""
    model = network()
    before = model.get_weights()
    unclear = inference.TestTimeAugmentation(model, inference.flips())
    for method in (unclear.predict, unclear.predict_on_batch):
        with raises_received("from_logits", "loss=None"):
            method(X[:, :4, :5])
    assert_close(model.get_weights(), before, rtol=0, atol=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert unclear.predict(X[:, :4, :5], verbose=0).shape == (5, 4)
    with raises_received("larger", "shape"):
        inference.TestTimeAugmentation(model, inference.ten_crop(6))


def test_what_is_refused():
    views = inference.ten_crop(CROP)
    with raises_received("larger", "shape"):
        inference.TestTimeAugmentation(network(), views, from_logits=True)(X[:, :3])
    with raises_received("from_logits", "loss=None"):
        inference.TestTimeAugmentation(network(), views)(X)
    inputs = [keras.Input((3,)), keras.Input((3,))]
    with raises_received("only input", "inputs=2"):
        inference.TestTimeAugmentation(keras.Model(inputs, keras.layers.Add()(inputs)), views)
    with raises_received("one output", "outputs=2"):
        inference.TestTimeAugmentation(keras.Model(inputs[0], [keras.layers.Dense(2)(inputs[0]) for _ in "ab"]), views)
    for function in (inference.five_crop, inference.ten_crop):
        for size in (0, 1.5, (3,), "large", None):
            with raises_received("`size`", "size="):
                function(size)
    for sizes in (3, [], [0], [(3, 3.5)], None):
        with raises_received("`sizes`", "sizes="):
            inference.multi_scale(sizes)
    with raises_received("`views`", "views="):
        inference.multi_scale([3], layers.RandomFlip())
    with raises_received("`mode`", "mode="):
        inference.flips("diagonal")


@only("tensorflow", "jax")
def test_an_export_has_the_inputs_of_the_network(tmp_path):
    tf = pytest.importorskip("tensorflow")
    made = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    image = keras.Input((4, 4, 1))
    images = np.random.default_rng(0).random((5, 4, 4, 1), "float32")
    for number, network in enumerate((made, keras.Model(image, made(image)))):
        model, path = (
            inference.TestTimeAugmentation(network, inference.flips(), from_logits=True),
            str(tmp_path / str(number)),
        )
        model.export(path, verbose=False)
        loaded = tf.saved_model.load(path)
        assert_close(to_numpy(loaded.serve(images)), model.predict(images, verbose=0), rtol=1e-5)
