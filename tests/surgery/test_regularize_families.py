"""Models as one meets them: a small one of each family of `keras.applications`, KerasHub and KerasCV.

By default the quick families, and none on JAX, which compiles each operation for each shape; all of them with
KERAS_REG_TEST_ALL=1 (a minute on TensorFlow and PyTorch, five on JAX).
"""

import os
import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND, to_numpy
from keras import layers

from keras_reg.layers import DropPath, NoisyBatchNormalization
from keras_reg.surgery import regularize

EVERYTHING = {"kernel_l2": 1e-3, "bn_noise": 0.2, "dropout": 0.3, "drop_path": 0.2, "spatial_dropout": 0.1, "seed": 1}
ALL = os.environ.get("KERAS_REG_TEST_ALL") == "1"
# Name: (smallest size of an image, further arguments, residual additions without a drop path of their own).
FAMILIES = {
    "VGG16": (32, {}, 0),
    "ResNet50": (32, {}, 16),
    "ResNet50V2": (32, {}, 16),
    "Xception": (71, {}, 12),
    "InceptionV3": (75, {}, 0),
    "InceptionResNetV2": (75, {}, 0),  # its additions are within layers of its own
    "MobileNet": (32, {"alpha": 0.25}, 0),
    "MobileNetV2": (32, {"alpha": 0.35}, 10),
    "MobileNetV3Small": (32, {"minimalistic": False}, 6),
    "DenseNet121": (32, {}, 0),
    "NASNetMobile": (32, {}, 14),  # one of each normal cell; two of the stem, whose shortcuts are projected and pooled
    "EfficientNetB0": (32, {}, 0),  # brings drop paths: dropouts of whole examples
    "EfficientNetV2B0": (32, {}, 0),
    "ConvNeXtTiny": (32, {}, 18),
}
QUICK = {"MobileNet", "MobileNetV2", "MobileNetV3Small"} if BACKEND != "jax" else set()


def flat_layers(model):
    found = []
    for layer in model.layers:
        found += flat_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def count(model, cls):
    return sum(type(layer) is cls for layer in flat_layers(model))


def check(model, x, report):
    """What holds for every model; returns the copy."""
    copy = regularize(model, **EVERYTHING, verbose=True)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
    names = {layer.name: layer for layer in flat_layers(copy)}
    for layer in flat_layers(model):
        for a, b in zip(layer.weights, names[layer.name].weights, strict=True):
            np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    lines = report().out
    assert lines.count("BatchNormalization ->") == count(model, layers.BatchNormalization)
    assert count(copy, NoisyBatchNormalization) == count(model, layers.BatchNormalization)
    assert count(copy, layers.BatchNormalization) == 0
    assert len(copy.losses) == sum(w.name.endswith("kernel") for w in copy.trainable_weights)
    return copy


def images(size):
    return np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")


@pytest.mark.parametrize("name", [name for name in FAMILIES if ALL or name in QUICK])
def test_applications(name, capsys):
    size, arguments, residual = FAMILIES[name]
    if name.startswith("NASNet") and BACKEND == "torch":
        pytest.skip("Keras cannot build it on PyTorch")
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10, **arguments)
    copy = check(model, images(size), capsys.readouterr)
    assert count(copy, DropPath) == residual
    assert any(name.endswith("_dropout") or type(copy.get_layer(name)) is layers.Dropout for name in names(copy))


def names(model):
    return [layer.name for layer in model.layers]


def imported(name):
    """The library, whose import takes long and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)  # KerasHub asks for a recent Keras


def test_a_backbone_of_keras_hub(capsys):
    models = imported("keras_hub").models
    backbone = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    assert count(check(backbone, images(64), capsys.readouterr), DropPath) == 4
    model = models.ImageClassifier(backbone=backbone, num_classes=3, preprocessor=None)
    copy = check(model, images(64), capsys.readouterr)
    assert count(copy, DropPath) == 4 and count(copy, layers.Dropout) > 0


def test_a_backbone_of_keras_cv(capsys):
    models = imported("keras_cv").models
    backbone = models.ResNetV2Backbone(
        stackwise_filters=[8, 16],
        stackwise_blocks=[2, 2],
        stackwise_strides=[1, 2],
        include_rescaling=True,
        input_shape=(64, 64, 3),
    )
    assert count(check(backbone, images(64), capsys.readouterr), DropPath) == 4
