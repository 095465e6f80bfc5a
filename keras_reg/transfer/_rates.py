"""Learning rates by depth, and schedules that start with a phase."""

import re

import keras
from keras import ops

from keras_reg._inner_layers import NORMALIZATIONS, children

# "conv2_block1_1_conv", "block_3_expand" and "block2a_se_reduce" belong to "conv2_block1", "block_3" and "block2a".
BLOCK = re.compile(r"(.*?(?:block|expanded_conv)_?\d*[a-z]?)(?:_.*)?")


def depths(backbone):
    """Returns the blocks of a backbone, from its input on, as {name: weights}.

    The names of layers tell their blocks. Otherwise a block is a layer with weights and the normalization after it.
    """
    blocks, seen = {}, set()
    for layer in _units(backbone):
        weights = [weight for weight in layer.weights if id(weight) not in seen]
        if not weights:
            continue
        seen |= {id(weight) for weight in weights}
        blocks.setdefault(_block(layer, blocks), []).extend(weights)
    left = [weight for weight in backbone.weights if id(weight) not in seen]
    if left and blocks:  # held by the backbone itself, such as the position embedding of a transformer
        next(iter(blocks.values())).extend(left)
    return blocks or {backbone.name: list(backbone.weights)}


def _units(model):
    for layer in children(model):
        if isinstance(layer, keras.Model):
            yield from _units(layer)
        else:
            yield layer


def _block(layer, blocks):
    found = BLOCK.fullmatch(layer.name)
    if found:
        return found[1]
    return list(blocks)[-1] if blocks and isinstance(layer, NORMALIZATIONS) else layer.name


def rate_groups(backbone, trainable, decay):
    """Returns the trainable weights in groups of equal rate: [(name, factor of the rate, weights)], the head first."""
    if decay is None:
        return [("all", 1.0, list(trainable))]
    blocks = depths(backbone)
    inside = {id(weight) for weights in blocks.values() for weight in weights}
    groups = [("head", 1.0, [weight for weight in trainable if id(weight) not in inside])]
    trains = {id(weight) for weight in trainable}
    for distance, (name, weights) in enumerate(reversed(blocks.items()), start=1):
        groups.append((name, decay**distance, [weight for weight in weights if id(weight) in trains]))
    return [group for group in groups if group[2]]


@keras.saving.register_keras_serializable(package="keras_reg")
class PhaseSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Returns `factor` times a schedule that starts at step `start` of an optimizer that was used before."""

    def __init__(self, schedule, factor=1.0, start=0):
        super().__init__()
        self.schedule = schedule
        self.factor = factor
        self.start = start

    def __call__(self, step):
        return self.factor * self.schedule(ops.maximum(step - self.start, 0))

    def get_config(self):
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "factor": self.factor, "start": self.start}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})
