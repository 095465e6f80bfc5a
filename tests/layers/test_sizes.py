"""One image or a batch, with channels or without them, first or last: what is taken, what is refused, what is said."""

import functools
import warnings

import keras
import numpy as np
import pytest
from harness import map_in_tf_data, raises_received, to_numpy
from layers import batches
from layers.batches import assert_same_bits

from keras_reg.layers import (
    AugMix,
    AutoAugment,
    BatchAugmentation,
    ColorJitter,
    CutMix,
    LabelNoise,
    MixUp,
    PCAColorJitter,
    Pipeline,
    RandAugment,
    RandomAffine,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomGrayscale,
    RandomPadCrop,
    RandomResizedCrop,
    RandomSharpness,
    TrivialAugmentWide,
)
from keras_reg.training import JensenShannonConsistency, RegularizedModel

GREY = np.zeros((10, 28, 28), "float32")
SINGLE = {
    "RandomErasing": lambda **k: RandomErasing(1.0, **k),
    "RandomAffine": lambda **k: RandomAffine(10, **k),
    "RandomFlip": lambda **k: RandomFlip(**k),
    "RandomPadCrop": lambda **k: RandomPadCrop(2, **k),
    "RandomResizedCrop": lambda **k: RandomResizedCrop(4, **k),
    "Pipeline": lambda **k: Pipeline([RandomErasing(**k), RandomPadCrop(1, **k)]),
}
MIXERS = {name: functools.partial(make, num_classes=4) for name, make in batches.MIXERS.items()} | {
    "Pipeline": lambda: Pipeline([RandomErasing(1.0), MixUp(num_classes=4)]),
}


@pytest.mark.parametrize("name", SINGLE)
def test_grey_images_without_an_axis_of_channels_are_not_one_image(name):
    layer = SINGLE[name]()
    for data in (GREY, {"images": GREY}, (GREY, np.zeros(10, "float32")), keras.Input((28, 28))):
        with raises_received("images[None]", "images[..., None]", "28)"):
            layer(data)
    with raises_received("images[..., None]"):
        map_in_tf_data(layer, GREY, batch_size=5)


@pytest.mark.parametrize("name", SINGLE)
def test_signals_of_a_model_are_not_one_image(name):
    """The axis of the batch is unknown."""
    with raises_received("signal", "(None, 128, 3)"):
        SINGLE[name]()(keras.Input((128, 3)))


@pytest.mark.parametrize("name", SINGLE)
def test_what_shows_that_it_is_one_image_is_believed(name):
    """A channel axis of 1 to 4, a label without an axis of the batch or of another size, a mask of rank 2."""
    layer = SINGLE[name]()
    many = keras.KerasTensor((9, 8, 13))
    for channels in (1, 2, 3, 4):
        assert len(layer(keras.KerasTensor((9, 8, channels))).shape) == 3
    for label in (keras.KerasTensor((), "int32"), keras.KerasTensor((5,)), keras.KerasTensor((4,), "int32")):
        assert layer(many, label)[0].shape[-1] == 13
    masks = keras.KerasTensor((9, 8), "int32")
    assert layer({"images": many, "segmentation_masks": masks})["images"].shape[-1] == 13
    first = SINGLE[name](data_format="channels_first")
    assert first(keras.KerasTensor((3, 9, 8))).shape[0] == 3
    with raises_received("channels_first"):
        first(keras.KerasTensor((9, 8, 3)))


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "MixUp"])
def test_mixers_and_models_name_the_missing_axis(name):
    for data in (GREY, (GREY, np.zeros(10, "int32")), keras.Input((28, 28))):
        with raises_received("images[..., None]", "28)"):
            MIXERS[name]()(data)
    network = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(4)])
    with raises_received("images[..., None]", "(10, 28, 28)"):
        RegularizedModel(network, MIXERS[name]()).augment(GREY, np.zeros(10, "int32"))
    with raises_received("images[..., None]"):
        RegularizedModel(network, RandomErasing(1.0)).augment(GREY, np.zeros(10, "int32"))


def test_images_without_channels_are_blended_as_they_are():
    """A blend does not care where the channels are."""
    images = np.random.default_rng(0).random(GREY.shape).astype("float32")
    ids = np.arange(10, dtype="int32") % 4
    found, labels = to_numpy(MixUp(1.0, num_classes=4, seed=1)(images, ids))
    other = to_numpy(MixUp(1.0, num_classes=4, seed=1)(images[..., None], ids))
    assert_same_bits(found, other[0][..., 0])
    assert_same_bits(labels, other[1])


@pytest.mark.parametrize("name", MIXERS)
def test_in_inference_a_mixer_is_the_identity_on_anything(name):
    """One image, ids without `num_classes`, a dict that it could not mix."""
    rng = np.random.default_rng(0)
    image, images = rng.random((8, 6, 3), "float32"), rng.random((4, 8, 6, 3), "float32")
    layer = MIXERS[name]()
    assert_same_bits(to_numpy(layer(image, training=False)), image)
    found, label = layer(image, np.int32(3), training=False)
    assert_same_bits(to_numpy(found), image)
    assert to_numpy(label) == 3
    ids = np.arange(4, dtype="int32")
    for mixer in (layer, MixUp(), CutMix()):
        found = to_numpy(mixer({"images": images, "labels": ids, "depth": images[..., 0]}, training=False))
        assert_same_bits(found["images"], images)
        np.testing.assert_array_equal(found["labels"], ids)
    spec = layer.compute_output_spec(keras.KerasTensor((8, 6, 3)), training=False)
    assert tuple(spec.shape) == (8, 6, 3)
    ((mapped, _),) = map_in_tf_data(lambda data: layer(data, training=False), (image[None], ids[:1]))
    assert_same_bits(mapped, image)


def test_label_noise_needs_no_labels_in_inference():
    images = np.zeros((2, 4, 4, 3), "float32")
    assert LabelNoise(0.5, 4)(images, training=False).shape == images.shape
    assert Pipeline([RandomErasing(), LabelNoise(0.5, 4)])(images, training=False).shape == images.shape


def test_a_pipeline_says_what_it_makes_of_shapes_in_inference():
    layer = Pipeline([RandomErasing(), RandomResizedCrop((5, 7)), keras.layers.Rescaling(2.0)])
    images = keras.KerasTensor((None, 8, 6, 3))
    for training in (True, False):
        assert tuple(layer.compute_output_spec(images, training=training).shape) == (None, 5, 7, 3)


# Layouts.


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


@pytest.mark.parametrize(
    "make", [RandomErasing, MixUp, CutMix, PCAColorJitter, lambda **k: Pipeline([RandomPadCrop(1, **k), CutMix(**k)])]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_another_layout_are_warned_about_once(make, channels):
    last, first = np.zeros((2, 32, 48, channels), "float32"), np.zeros((2, channels, 32, 48), "float32")
    layers = {name: make(data_format=name) for name in ("channels_last", "channels_first")}
    wrong = [("channels_last", first), ("channels_first", last)]
    for layout, images in wrong if make is not PCAColorJitter else ():
        found = warnings_of(lambda layout=layout, images=images: [layers[layout](images) for _ in range(3)])
        assert len(found) == 1 and "data_format" in found[0] and layout in found[0]
    if make is not PCAColorJitter or channels == 3:
        assert not warnings_of(lambda: (layers["channels_last"](last), layers["channels_first"](first)))


def test_small_maps_and_layers_without_a_layout_are_not_warned_about():
    assert not warnings_of(lambda: RandomErasing()(np.zeros((2, 4, 4, 512), "float32")))
    assert not warnings_of(lambda: RandomErasing(data_format="channels_last")(np.zeros((2, 3, 8, 64), "float32")))
    assert not warnings_of(lambda: LabelNoise(0.5, 3)(np.zeros((2, 3, 32, 32), "float32"), np.zeros(2, "int32")))


# Images that are decoded in tf.data without a number of channels.

NEED_CHANNELS = {
    "RandAugment": lambda: RandAugment(seed=0),
    "TrivialAugmentWide": TrivialAugmentWide,
    "AutoAugment": AutoAugment,
    "AugMix": AugMix,
    "ColorJitter": lambda: ColorJitter(0.4),
    "RandomGrayscale": RandomGrayscale,
    "PCAColorJitter": lambda: PCAColorJitter(0.1),
    "RandomAffine, a fill for each channel": lambda: RandomAffine(20, fill_value=(1, 2, 3)),
    "RandomPadCrop, a fill for each channel": lambda: RandomPadCrop(2, fill_value=(1, 2, 3)),
    "RandomErasing, a fill for each channel": lambda: RandomErasing(1.0, fill=(1, 2, 3)),
}
ANY_CHANNELS = {
    **SINGLE,
    "MixUp": lambda: MixUp(1.0),
    "RandomGaussianBlur": RandomGaussianBlur,
    "RandomSharpness": lambda: RandomSharpness(0.9, value_range=(0, 255)),
    "RandomGaussianNoise": lambda: RandomGaussianNoise(1.0),
}


def decoded(channels, dtype):
    """Batches as of `tf.io.decode_png` without `channels`."""
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, channels)).astype(dtype)
    return tf.data.Dataset.from_generator(lambda: [images], output_signature=tf.TensorSpec((None,) * 4, dtype))


@pytest.mark.parametrize("name", NEED_CHANNELS)
def test_an_unknown_number_of_channels_is_refused_where_it_is_needed(name):
    dtype = "uint8" if "Augment" in name or name in ("AugMix", "ColorJitter") else "float32"
    with raises_received("number of channels", "`channels=3`", "`tf.ensure_shape`", "(None, None, None, None)"):
        decoded(1, dtype).map(NEED_CHANNELS[name]())


@pytest.mark.parametrize("name", ANY_CHANNELS)
def test_other_layers_take_an_unknown_number_of_channels(name):
    for channels in (1, 3, 4):
        (found,) = decoded(channels, "float32").map(ANY_CHANNELS[name]()).as_numpy_iterator()
        size = (4, 4) if name == "RandomResizedCrop" else (9, 7)
        assert found.shape == (3, *size, channels) and np.isfinite(found).all()


def test_gray_images_of_a_known_number_of_channels_are_augmented():
    import tensorflow as tf

    dataset = decoded(1, "uint8").map(lambda images: tf.ensure_shape(images, (None, None, None, 1)))
    (found,) = dataset.map(RandAugment(seed=0)).as_numpy_iterator()
    assert found.shape == (3, 9, 7, 1)


MOVERS = {
    "RandomPadCrop": lambda: RandomPadCrop(2, seed=0),
    "RandomResizedCrop": lambda: RandomResizedCrop((6, 6), seed=0),
    "CutMix": lambda: CutMix(seed=0),
    "RandomErasing": lambda: RandomErasing(1.0, mask_fill=0, seed=0),
    "Pipeline": lambda: Pipeline([RandomFlip(seed=0), RandomAffine(10, seed=0)]),
}


def mapped(layer, images, others, sizes):
    """One batch of a dataset in whose graph `sizes` are the shape of one image."""
    import tensorflow as tf

    signature = (tf.TensorSpec((None, *sizes)), tf.TensorSpec((None, *[None] * (others.ndim - 1))))
    dataset = tf.data.Dataset.from_generator(lambda: iter([(images, others)]), output_signature=signature)
    return next(iter(dataset.map(lambda *batch: layer(*batch, index=0))))


@pytest.mark.parametrize("name", MOVERS)
def test_labels_that_are_no_map_are_refused_if_only_the_data_show_it(name):
    """With unknown sizes, rows of labels (batch, positions, classes) were moved like rows of pixels."""
    import tensorflow as tf

    images = np.random.default_rng(0).random((4, 9, 8, 3), "float32")
    labels = np.eye(7, dtype="float32")[np.random.default_rng(0).integers(0, 7, (4, 5))]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` treats `labels` of shape.*ensure_shape"):
        mapped(MOVERS[name](), images, labels, (None, None, 3))
    maps = (images[..., 0] > 0.5).astype("float32")
    found, expected = (mapped(MOVERS[name](), images, maps, size) for size in ((None, None, 3), (9, 8, 3)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


@pytest.mark.parametrize("name", ["ColorJitter", "RandomErasing", "Pipeline"])
def test_layers_that_change_no_maps_take_any_labels_of_unknown_sizes(name):
    images, labels = np.random.default_rng(0).random((4, 9, 8, 3), "float32"), np.ones((4, 5, 7), "float32")
    make = {"ColorJitter": lambda: ColorJitter(0.2, value_range=(0, 1)), "RandomErasing": lambda: RandomErasing(1.0)}
    layer = make.get(name, lambda: Pipeline([RandomGaussianBlur(), RandomGaussianNoise(0.1)]))()
    np.testing.assert_array_equal(to_numpy(mapped(layer, images, labels, (None, None, 3))[1]), labels)


def test_steps_of_a_signal_are_refused_if_only_the_data_show_it():
    import tensorflow as tf

    signals = np.zeros((4, 16, 2), "float32")
    with pytest.raises(tf.errors.InvalidArgumentError, match="`labels`"):
        mapped(CutMix(kind="signal", seed=0), signals, np.zeros((4, 5, 7), "float32"), (None, 2))
    assert mapped(CutMix(kind="signal", seed=0), signals, np.zeros((4, 16, 7), "float32"), (None, 2))[1].shape == (
        4,
        16,
        7,
    )


class Shares(BatchAugmentation):
    """Of somebody who computes with shares from here on."""

    moves_pixels = False

    def transform_images(self, images, transformation, batch):
        return images / 255


RANGED = {
    "ColorJitter": lambda r: ColorJitter(0.5, value_range=r),
    "RandomSharpness": lambda r: RandomSharpness((0.5, 0.5), value_range=r),
    "RandAugment": lambda r: RandAugment(value_range=r),
    "in a Pipeline": lambda r: Pipeline([RandomFlip(), TrivialAugmentWide(value_range=r)]),
}


@pytest.mark.parametrize("name", RANGED)
def test_pixels_far_outside_of_their_range_are_warned_about_once(name):
    shares = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    for pixels, given in ((255 * shares, (0, 1)), (shares, (0, 255)), (4 * shares - 2, (0, 1))):
        layer = RANGED[name](given)
        with pytest.warns(UserWarning, match="got pixels from .* Pass the range of the pixels"):
            layer(pixels)
        model = RegularizedModel(
            keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]),
            RANGED[name](given),
        )
        model.compile("sgd", "mse")
        with pytest.warns(UserWarning, match="got pixels from"):
            model.fit(pixels, np.zeros((2, 1)), verbose=0)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*got pixels")
            layer(pixels)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*got pixels")
        for pixels, given in (
            (255 * shares, (0, 255)),
            (1.2 * shares - 0.1, (0, 1)),
            (0 * shares, (0, 255)),
            (2 * shares - 1, (-1, 1)),
        ):
            RANGED[name](given)(pixels)
        Pipeline([keras.layers.Rescaling(255.0), ColorJitter(0.5, value_range=(0, 255))])(shares)
        Pipeline([Shares(), ColorJitter(0.5, value_range=(0, 1))])(255 * shares)


def test_pixels_that_are_integers_are_warned_about_too():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    for name in ("ColorJitter", "RandAugment"):
        with pytest.warns(UserWarning, match="got pixels from 0 to 2"):
            RANGED[name]((0, 1))(images)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*got pixels")
            RANGED[name]((0, 255))(images)


def test_pixels_of_the_augmentation_of_a_penalty_are_warned_about():
    made = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    penalty = JensenShannonConsistency(AugMix(value_range=(0, 1)))
    model = RegularizedModel(made, penalties=[penalty])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = 255 * np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    with pytest.warns(UserWarning, match="`AugMix` got pixels from"):
        model.fit(images, np.zeros(2), verbose=0)
