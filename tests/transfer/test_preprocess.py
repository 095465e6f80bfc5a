"""`preprocess="auto"`: the family by the name of a model, against its `preprocess_input`."""

import inspect
import types

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received, to_numpy
from keras import layers

from keras_reg.transfer import Phase, TransferLearner

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype("uint8")
# The namespace of a family: names of models that it makes.
NAMES = {
    "densenet": ["densenet121", "densenet169", "densenet201"],
    "inception_resnet_v2": ["inception_resnet_v2"],
    "inception_v3": ["inception_v3"],
    "mobilenet": ["mobilenet_1.00_224", "mobilenet_0.25_128", "mobilenet_0.50_None"],
    "mobilenet_v2": ["mobilenetv2_1.00_224", "mobilenetv2_0.35_96"],
    "nasnet": ["NASNet", "nasnet_mobile", "nasnet_large"],
    "resnet": ["resnet50", "resnet101", "resnet152"],
    "resnet_v2": ["resnet50v2", "resnet101v2", "resnet152v2"],
    "vgg16": ["vgg16"],
    "vgg19": ["vgg19"],
    "xception": ["xception"],
}
BUILT_IN = {
    "convnext": ["convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge"],
    "efficientnet": [f"efficientnetb{i}" for i in range(8)],
    "efficientnet_v2": [*(f"efficientnetv2-b{i}" for i in range(4)), *(f"efficientnetv2-{s}" for s in "sml")],
    "mobilenet_v3": ["MobileNetV3Small", "MobileNetV3Large"],
}


def pairs(names):
    return [(family, name) for family, members in names.items() for name in members]


def prepared(name, preprocess="auto", rescaling=False, images=IMAGES):
    """What a backbone with this name is given."""
    inputs = keras.Input(images.shape[1:])
    outputs = layers.Rescaling(1.0)(inputs) if rescaling else layers.Activation("linear")(inputs)
    backbone = keras.Model(inputs, outputs, name=name)
    return TransferLearner(backbone, layers.Activation("linear"), preprocess, loss="mse").model


@pytest.mark.parametrize(("family", "name"), pairs(NAMES))
def test_families(family, name):
    expected = getattr(keras.applications, family).preprocess_input(IMAGES.astype("float32"))
    assert_close(prepared(name)(IMAGES), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("family", "name"), pairs(BUILT_IN))
def test_families_that_do_it_themselves(family, name):
    assert_close(prepared(name, rescaling=True)(IMAGES), IMAGES.astype("float32"))


@pytest.mark.parametrize(
    ("name", "family"),
    [("MobileNetV3Small", "mobilenet_v2"), ("efficientnetv2-b2", "densenet"), ("convnext_tiny", "densenet")],
)
def test_families_that_were_built_without_it(name, family):
    """`include_preprocessing=False`: what the layers inside would have done, which is what others do outside."""
    expected = getattr(keras.applications, family).preprocess_input(IMAGES.astype("float32"))
    assert_close(prepared(name)(IMAGES), expected, atol=1e-4)


def test_efficientnet_v2_s_that_was_built_without_it():
    assert_close(prepared("efficientnetv2-s")(IMAGES), IMAGES / np.float32(128) - 1, atol=1e-5)


def test_every_application_is_known():
    """Also those of a later Keras: by the names that the functions give by default."""
    known = {name for names in (NAMES, BUILT_IN) for _, name in pairs(names)}
    for name, function in inspect.getmembers(keras.applications, callable):
        default = inspect.signature(function).parameters["name"].default
        assert default is None or default in known or name in ("MobileNet", "MobileNetV2"), name
    families = {name for name, _ in inspect.getmembers(keras.applications, inspect.ismodule)}
    assert isinstance(keras.applications, types.ModuleType)
    assert families - {"imagenet_utils", "resnet50"} <= set(NAMES) | set(BUILT_IN)


# Keras 3.10 warns so wherever a Functional model that was loaded takes an array.
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")
@pytest.mark.parametrize("family", ["vgg16", "resnet50", "densenet", "mobilenet_v2", "efficientnet"])
def test_a_preprocess_input_that_is_given(family, tmp_path):
    function = getattr(keras.applications, family).preprocess_input
    model = prepared("any", function)
    expected = function(IMAGES.astype("float32"))
    assert_close(model(IMAGES), expected, atol=2e-5 * np.abs(expected).max())
    model.save(tmp_path / "model.keras")
    assert_close(
        keras.models.load_model(tmp_path / "model.keras")(IMAGES), expected, atol=2e-5 * np.abs(expected).max()
    )


def test_layers_and_functions():
    assert_close(prepared("any", layers.Rescaling(0.5))(IMAGES), IMAGES * np.float32(0.5))
    assert_close(prepared("any", lambda x: keras.ops.square(x))(IMAGES), IMAGES.astype("float32") ** 2)
    assert_close(prepared("any", None)(IMAGES), IMAGES.astype("float32"))


def test_channels_first():
    keras.config.set_image_data_format("channels_first")
    images = IMAGES.transpose(0, 3, 1, 2)
    for family, name in (("vgg16", "vgg16"), ("densenet", "densenet121")):
        expected = getattr(keras.applications, family).preprocess_input(images.astype("float32"))
        assert_close(prepared(name, images=images)(images), expected, atol=1e-3)


def test_what_auto_refuses():
    with raises_received("auto", "my_net"):
        prepared("my_net")
    with raises_received("3 channels"):
        prepared("vgg16", images=IMAGES[..., :1])
    backbone = keras.Sequential([keras.Input((5,)), layers.Dense(2)], name="vgg16")
    with raises_received("images"):
        TransferLearner(backbone, 2, "auto")


@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")
def test_a_real_application(tmp_path):
    """Raw images in, the head on the network's own features, some of it trained, saved and loaded. The first blocks of
    it, cut off: all of them would take a backend that compiles most of a minute."""
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("uint8")
    arguments = {"include_top": False, "weights": None, "input_shape": (32, 32, 3), "alpha": 0.35}
    whole = keras.applications.MobileNetV2(**arguments)
    backbone = keras.Model(whole.input, whole.get_layer("block_2_add").output, name=whole.name)
    learner = TransferLearner(backbone, 3, "auto")
    features = to_numpy(backbone(keras.applications.mobilenet_v2.preprocess_input(images.astype("float32"))))
    assert_close(learner.parts.extractor.predict(images, verbose=0), features.mean((1, 2)), rtol=1e-3, atol=1e-4)
    phases = [Phase("warm up", 2, optimizer="adam"), Phase("top", 1, unfreeze="block_2*", optimizer="adam")]
    learner.fit((images, np.arange(6) % 3), phases=phases, verbose=0)
    learner.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(loaded.predict(images, verbose=0), learner.model.predict(images, verbose=0), rtol=1e-3, atol=1e-4)
