"""The views of an image that a model averages: flips, crops, sizes, or draws of a layer."""

from collections.abc import Sequence
from typing import Any, Literal

from keras_reg._validation import check_choice, check_integer, check_integer_or_pair, fail, native
from keras_reg.inference._view_kinds import FLIPS, Crops, Flips, RandomViews, Scales, Views
from keras_reg.layers import BatchAugmentation
from keras_reg.layers._batch._foreign import is_image_layer


def checked_views(views, samples):
    """Returns `Views` for the arguments `views` and `samples` of a model."""
    samples = check_integer("samples", samples, low=1, optional=True)
    if isinstance(views, Views):
        if samples is not None:
            fail("`samples` is the number of draws of a layer. These `views` have a fixed number.", samples=samples)
        return views
    if not isinstance(views, BatchAugmentation) and not is_image_layer(views):
        fail(
            "`views` must be `flips()`, `five_crop(size)`, `ten_crop(size)`, `multi_scale(sizes)`, or a layer that "
            "augments images.",
            views=views,
        )
    if getattr(views, "_mixes", False):
        fail("`views` must not mix images.", views=views)
    if samples is None:
        fail("`samples` must be the number of draws if `views` is a layer.", samples=samples)
    return RandomViews(views, samples)


def flips(mode: Literal["horizontal", "vertical", "horizontal_and_vertical"] = "horizontal") -> Views:
    """Returns the image and its mirror images, as `views` of `TestTimeAugmentation`.

    Args:
        mode: "horizontal", which mirrors left and right, "vertical", which mirrors top and bottom, or
            "horizontal_and_vertical", which gives four views.

    Returns:
        An object for the argument `views`.

    Raises:
        ValueError: If `mode` is not one of these.

    Example:

    >>> from keras_reg import inference
    >>> inference.flips("vertical")
    Flips(mode='vertical')
    """
    return Flips(check_choice("mode", mode, tuple(FLIPS)))


def five_crop(size: int | Sequence[int]) -> Views:
    """Returns crops at the four corners and in the middle, as `views` of `TestTimeAugmentation`.

    Args:
        size: Side of the crops, or a pair (height, width). Smaller images raise an error when the model is called.

    Returns:
        An object for the argument `views`.

    Raises:
        ValueError: If `size` is neither an integer of at least 1 nor a pair of such integers.

    Example:

    >>> from keras_reg import inference
    >>> inference.five_crop((24, 32)).size
    (24, 32)
    """
    return Crops(check_integer_or_pair("size", size, 1), False)


def ten_crop(size: int | Sequence[int]) -> Views:
    """Returns the crops of `five_crop` of the image and of its mirror image, as `views` of `TestTimeAugmentation`.

    The crops are those of torchvision's `ten_crop`. The middle one starts at (height - size) / 2, rounded half to even.

    Args:
        size: Side of the crops, or a pair (height, width). Smaller images raise an error when the model is called.

    Returns:
        An object for the argument `views`.

    Raises:
        ValueError: If `size` is neither an integer of at least 1 nor a pair of such integers.

    Example:

    >>> from keras_reg import inference
    >>> inference.ten_crop(224).size
    224

    References:
        - [ImageNet Classification with Deep Convolutional Neural Networks](
          https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks)
          (Krizhevsky et al., 2012), section 4.1.
    """
    return Crops(check_integer_or_pair("size", size, 1), True)


def multi_scale(sizes: Sequence[int | Sequence[int]], views: Any = None) -> Views:
    """Returns the image at several sizes, as `views` of `TestTimeAugmentation`.

    Images are resized bilinearly, with anti-aliasing. The model must accept all sizes, unless `views` cuts crops of one
    size out of them.

    Args:
        sizes: List of sizes. An integer is the length of the shorter side, and the aspect ratio is kept. A pair is
            (height, width).
        views: The views of each resized image, such as `ten_crop(224)`, or `None` for the whole image.

    Returns:
        An object for the argument `views`.

    Raises:
        ValueError: If `sizes` is not a list of sizes, or `views` is not the result of one of these functions.

    Example:

    >>> from keras_reg import inference
    >>> inference.multi_scale([256, 384], inference.ten_crop(224)).sizes
    [256, 384]

    References:
        - [Very Deep Convolutional Networks for Large-Scale Image Recognition](https://arxiv.org/abs/1409.1556)
          (Simonyan and Zisserman, 2015), section 4.2.
    """
    given = native(sizes)
    if not isinstance(given, (list, tuple)) or not given:
        fail("`sizes` must be a list of sizes.", sizes=sizes)
    given = [check_integer_or_pair("sizes", size, 1) for size in given]
    if views is not None and not isinstance(views, Views):
        fail("`views` must be `flips()`, `five_crop(size)`, `ten_crop(size)` or None.", views=views)
    return Scales(given, views)
