"""The preprocessing of `keras.applications` for raw images from 0 to 255, in standard layers."""

import re

import keras
import numpy as np
from keras import ops

from keras_reg._inner_layers import walk
from keras_reg._validation import fail

# The namespace in `keras.applications`, the names of its models, and what its `preprocess_input` does.
FAMILIES = (
    ("convnext", r"convnext_(tiny|small|base|large|xlarge)", "built in, standardize"),
    ("densenet", r"densenet(121|169|201)", "standardize"),
    ("efficientnet", r"efficientnetb[0-7]", "built in"),
    ("efficientnet_v2", r"efficientnetv2-b[0-3]", "built in, standardize"),
    ("efficientnet_v2", r"efficientnetv2-[sml]", "built in, scale by 128"),
    ("inception_resnet_v2", r"inception_resnet_v2", "scale"),
    ("inception_v3", r"inception_v3", "scale"),
    ("mobilenet", r"mobilenet_\d\.\d+_\w+", "scale"),
    ("mobilenet_v2", r"mobilenetv2_\d\.\d+_\w+", "scale"),
    ("mobilenet_v3", r"MobileNetV3(Small|Large)", "built in, scale"),
    ("nasnet", r"NASNet|nasnet_(mobile|large)", "scale"),
    ("resnet", r"resnet(50|101|152)", "reverse and center"),
    ("resnet_v2", r"resnet(50|101|152)v2", "scale"),
    ("vgg16", r"vgg16", "reverse and center"),
    ("vgg19", r"vgg19", "reverse and center"),
    ("xception", r"xception", "scale"),
)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for values 0 to 1
BGR_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, for values 0 to 255


def preprocess_inputs(preprocess, backbone, inputs):
    """Returns the inputs of the backbone for raw inputs, and a note on the preprocessing."""
    if preprocess is None:
        return inputs, "the backbone takes them unchanged"
    if isinstance(preprocess, str) and preprocess == "auto":
        recipe = _recipe_by_name(backbone)
    elif callable(preprocess):
        recipe = _recipe_of(preprocess)
    else:
        fail('`preprocess` must be None, "auto", or a layer or function of inputs.', preprocess=preprocess)
    if recipe is None:
        name = getattr(preprocess, "name", None) or getattr(preprocess, "__name__", type(preprocess).__name__)
        try:
            return preprocess(inputs), f"the backbone takes the result of {name}"
        except Exception as error:  # a function that is not made for tensors may raise anything
            raise ValueError(f"`preprocess` must be a function of inputs. Received: preprocess={name}") from error
    return _apply(recipe, backbone, inputs)


def _recipe_by_name(backbone):
    for _, names, recipe in FAMILIES:
        if re.fullmatch(names, backbone.name):
            return recipe
    fail(
        '`preprocess="auto"` needs a backbone with the name of a `keras.applications` model, such as '
        "'mobilenetv2_1.00_224'. Pass a layer or function instead, or None if the backbone takes raw inputs.",
        name=backbone.name,
    )


def _recipe_of(function):
    """Returns the recipe of a `preprocess_input` of Keras, or `None` for other functions."""
    for module, _, recipe in FAMILIES:
        namespace = getattr(keras.applications, module, None)
        if function is getattr(namespace, "preprocess_input", None):
            return "built in" if recipe.startswith("built in") else recipe
    return None


def _apply(recipe, backbone, inputs):
    if recipe.startswith("built in"):
        recipe = recipe.removeprefix("built in").removeprefix(", ")
        kinds = (keras.layers.Rescaling, keras.layers.Normalization)
        if not recipe or any(isinstance(layer, kinds) for _, layer in walk(backbone)):
            return inputs, "the backbone takes values 0 to 255 unchanged"
    return _scaled(recipe, inputs, _channel_axis(inputs))


def _scaled(recipe, x, axis):
    def rescale(x, scale, offset):
        # In float32 also under mixed precision: the next layers cast to their own compute dtype.
        return keras.layers.Rescaling(_along(axis, scale), _along(axis, offset), dtype="float32")(x)

    if recipe == "scale":
        return rescale(x, 1 / 127.5, -1.0), "values 0 to 255 are scaled to -1 to 1"
    if recipe == "scale by 128":
        return rescale(x, 1 / 128, -1.0), "values 0 to 255 are scaled to -1 to 1"
    if x.shape[axis] != 3:
        fail('`preprocess="auto"` of this family needs images of 3 channels.', shape=tuple(x.shape))
    if recipe == "standardize":
        mean, deviation = np.array(MEAN), np.array(DEVIATION)
        line = "values 0 to 255 are standardized with the mean and deviation of ImageNet"
        return rescale(x, 1 / (255 * deviation), -mean / deviation), line
    x = rescale(ops.flip(x, axis=axis), 1.0, -np.array(BGR_MEAN))
    return x, "values 0 to 255 are reversed to BGR, and the mean of ImageNet is subtracted"


def _along(axis, value):
    """Returns a number, or lists that broadcast along the channel axis. They are lists, since they go into a config."""
    if np.ndim(value) == 0:
        return value
    return np.asarray(value).tolist() if axis == -1 else np.asarray(value)[:, None, None].tolist()


def _channel_axis(inputs):
    if not hasattr(inputs, "shape") or len(inputs.shape) != 4:
        fail('`preprocess="auto"` needs one input of images.', inputs=inputs)
    return 1 if keras.config.image_data_format() == "channels_first" else -1
