from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_reg._typing import Config, DataFormat, Kind, Pair, StrengthLike
from keras_reg._validation import fail, is_integer, is_number, native
from keras_reg.layers._policies._auto_augment_policies import POLICIES
from keras_reg.layers._policies._magnitudes import NARROW, OPERATIONS, WITHOUT_MAGNITUDE
from keras_reg.layers._policies._policy import Policy
from keras_reg.layers._policies._steps import index_of

LEVELS = 10  # the magnitudes of each operation


@keras.saving.register_keras_serializable(package="keras_reg")
class AutoAugment(Policy):
    """Applies up to two random operations to each image, from a policy that was learned on ImageNet, CIFAR-10 or SVHN.

    A policy is a list of sub-policies, and a sub-policy is a list of operations, each with its probability and its
    magnitude. For each image, one sub-policy is drawn, and each of its operations is applied with its probability, in a
    random direction. Masks, boxes and keypoints follow the operations that move pixels. All frames of a video change
    alike. The policies, operations and magnitudes are those of torchvision. In inference, the layer is the identity.

    Args:
        policy: "imagenet", "cifar10", "svhn", or your own: a list of sub-policies, each a list of operations (name,
            probability, level). The names are those of `RandAugment`. The level of the magnitude is an integer from 0
            to 9, or `None` for operations without a magnitude.
        rate: Probability that an image is changed, in [0, 1], or a `keras_reg.Strength`.
        interpolation: "nearest" or "bilinear", for operations that move pixels.
        fill_value: Value of pixels from outside the image, a number that the dtype of the images can hold.
        value_range: Range (black, white) of the pixels. With `None`, it is (0, 255), which only `uint8` images accept.
        mask_fill: Value of masks and label maps outside the image, a number that their dtype can hold.
        bounding_box_format: "xyxy" (pixels), "yxyx", "xywh", "center_xywh", "rel_xyxy" (shares), "rel_yxyx" or
            "rel_xywh". Boxes of moved images are clipped, and those outside the image get class -1.
        kind: Kind of sample: "image", "video", or `None`, which treats inputs with four axes as images and inputs with
            five axes as videos.
        data_format: "channels_last", "channels_first", or `None` for Keras' setting.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        data: Images; or a tuple (images, labels) or (images, labels, sample_weight); or a dict with "images" and any
            of "labels", "sample_weights", "segmentation_masks", "bounding_boxes", "keypoints".
        labels: Labels, which are not changed, except dense maps, which move with the pixels.
        sample_weight: Weights, which are not changed, except those of shape (batch, height, width), which move with the
            pixels. Pixels from outside the image have weight 0.
        training: `False` returns the data unchanged. Defaults to `True`. Inside a model, it defaults to the `training`
            argument of the model's call, or to `False` if there is none.
        index: Index of the batch, an integer of at least 0 or a scalar integer tensor. The random numbers then depend
            only on `seed` and `index`.

    Input shape:
        Images (batch, height, width, channels), or videos (batch, time, height, width, channels), with 1 or 3 channels.
        With "channels_first", the channels are the second axis. A single sample without the batch axis is accepted.

    Output shape:
        The shape of the input. Integer images stay integers.

    Raises:
        ValueError: For arguments out of range, images whose number of channels is not known to be 1 or 3, images that
            are not `uint8` without a `value_range`, numbers that the dtype of the images or masks cannot hold, and
            entries with positions in the images that cannot be moved, such as `landmarks`.

    Example:

    >>> import numpy as np
    >>> from keras_reg.layers import AutoAugment
    >>> policy = [[("invert", 1.0, None), ("posterize", 1.0, 9)]]
    >>> np.asarray(AutoAugment(policy)(np.zeros((1, 8, 8, 3), "uint8"))).mean().item()
    240.0

    References:
        - [AutoAugment](https://arxiv.org/abs/1805.09501) (Cubuk et al., 2019).
    """

    space = NARROW

    _bins = LEVELS

    def __init__(
        self,
        policy: Literal["imagenet", "cifar10", "svhn"] | Sequence = "imagenet",
        rate: StrengthLike = 1.0,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        fill_value: float = 0,
        value_range: Pair | None = None,
        mask_fill: float = 0,
        bounding_box_format: str = "xyxy",
        kind: Kind = None,
        data_format: DataFormat = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        policy = _check_policy(policy)
        super().__init__(
            rate,
            interpolation,
            fill_value,
            value_range,
            mask_fill,
            bounding_box_format,
            kind,
            data_format,
            seed,
            **kwargs,
        )
        self.policy = policy

    @property
    def _sub_policies(self):
        """The sub-policies, all of the same length."""
        found = POLICIES[self.policy] if isinstance(self.policy, str) else self.policy
        longest = max(map(len, found))
        return [[*part, *[("identity", 0.0, None)] * (longest - len(part))] for part in found]

    @property
    def _names(self):
        used = {name for part in self._sub_policies for name, *_ in part} | {"identity"}
        return tuple(name for name in OPERATIONS if name in used)

    @property
    def uniform_numbers(self) -> int:  # type: ignore[override]
        return 1 + 2 * len(self._sub_policies[0])

    def _draw(self, u, ops):
        parts, names = self._sub_policies, self._names
        which = index_of(u[:, 0], len(parts), ops)

        def of_image(values, dtype):
            return ops.take(ops.convert_to_tensor(np.asarray(values, dtype)), which, axis=0)

        steps = len(parts[0])
        operation = of_image([[names.index(name) for name, _, _ in part] for part in parts], "int32")
        applied = u[:, 1 : 1 + steps] < of_image([[share for _, share, _ in part] for part in parts], "float32")
        operation = ops.where(applied, operation, names.index("identity"))
        level = of_image([[level or 0 for _, _, level in part] for part in parts], "int32")
        return operation, level, u[:, 1 + steps :] < 0.5

    def get_config(self) -> Config:
        return {**super().get_config(), "policy": self.policy}


def _check_policy(policy):
    """Checks for the name of a policy or a policy, and returns it."""
    found = native(policy)
    if isinstance(found, str) and found in POLICIES:
        return found
    if not isinstance(found, (list, tuple)) or not found or not all(map(_is_sub_policy, found)):
        fail(
            f"`policy` must be one of {sorted(POLICIES)}, or a list of sub-policies, each a list of operations (name, "
            f"probability, level) with a name of {OPERATIONS} and a level from 0 to {LEVELS - 1} or None.",
            policy=policy,
        )
    return found


def _is_sub_policy(part):
    return isinstance(part, (list, tuple)) and len(part) > 0 and all(map(_is_operation, part))


def _is_operation(operation):
    if not isinstance(operation, (list, tuple)) or len(operation) != 3:
        return False
    name, probability, level = operation
    right_level = name in WITHOUT_MAGNITUDE if level is None else is_integer(level) and 0 <= level < LEVELS
    return name in OPERATIONS and is_number(probability) and 0 <= probability <= 1 and right_level
