"""Neighboring layers of a `Pipeline` that move pixels at once: their maps are joined, and images are resampled once."""

import functools

from keras_reg.layers._augmentation._folding import AugmentationFolding
from keras_reg.layers._augmentation._hooks import HOOKS, apply_hooks
from keras_reg.layers._augmentation._run import AugmentationRun
from keras_reg.layers._batch._shapes import height_width
from keras_reg.layers._mover import Mover, MovesPixels, Outside
from keras_reg.layers._pixels._chain import Chain, chained, computed_once
from keras_reg.layers._random_flip import RandomFlip
from keras_reg.layers._random_resized_crop import RandomResizedCrop


class FusedMovers(MovesPixels, AugmentationFolding, AugmentationRun):
    """Several movers as one part of a `Pipeline`. It draws the numbers that the layers would draw by themselves.

    Args:
        layers: The layers. `can_join` holds for each of them and those before it.
        programs: The compiled programs of the pipeline.
    """

    _folds = True
    _mixes = False

    def __init__(self, layers, programs):
        self.layers, self._programs = layers, programs
        self.data_format, self.bounding_box_format = layers[0].data_format, layers[0].bounding_box_format
        self.outside = next((layer.outside for layer in layers if layer.outside is not None), None)
        self.interpolation = next((layer.interpolation for layer in layers if layer.interpolation is not None), None)
        self._one_pass = all(layer._one_pass for layer in layers)
        self._works_on_host = all(layer._works_on_host for layer in layers)
        self._makes_images = all(layer._makes_images for layer in layers)

    @property
    def joined(self):
        """The number of layers."""
        return len(self.layers)

    @property
    def _columns(self):
        return sum(layer._columns for layer in self.layers)

    def compute_image_shape(self, image_shape):
        return functools.reduce(lambda shape, layer: layer.compute_image_shape(shape), self.layers, image_shape)

    def _overrides(self, hook):
        return any(layer._overrides(hook) for layer in self.layers)

    def _transform(self, batch, u, noise=None, select=None):
        drawing, u, select = self._drawing(batch, u, select)
        steps, start = [], 0
        for layer in self.layers:
            end = start + layer._columns
            random = layer._drawn(drawing, u[:, start:end], select=select)
            steps += [] if random is None else [layer.geometry(drawing, random)]
            start = end
        if not steps:
            return batch
        size = height_width(batch.images, self.data_format, drawing.ops)
        pixels = computed_once(chained(steps, size, drawing.ops), drawing)
        if batch.boxes is None and batch.keypoints is None:
            steps = []  # only boxes and points follow them
        return apply_hooks(self, batch, batch.place.sent(Chain(tuple(steps), pixels)), None)

    def _draw_noise(self, batch, key):
        return None

    def _is_one_program(self):
        return all(layer._is_one_program() for layer in self.layers)

    def _walk(self):
        return self.layers


def fused(layers, programs):
    """Returns the layers, of which neighbors that can move pixels at once are joined to `FusedMovers`."""
    groups = []
    for layer in layers:
        if groups and can_join(groups[-1], layer):
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return [FusedMovers(group, programs) if len(group) > 1 else group[0] for group in groups]


def can_join(before, layer):
    """Whether a layer can move pixels at once with those before it, with the result of one after another."""
    layers = [*before, layer]
    if not all(map(_only_has_geometry, layers)) or len({layer.bounding_box_format for layer in layers}) > 1:
        return False
    crops = [isinstance(layer, RandomResizedCrop) for layer in layers]
    if any(crops) and not _are_crop_and_moves(layers, crops.index(True)):
        return False
    outsides = [layer.outside for layer in layers if layer.outside is not None]
    if len(outsides) > 1 and any(outside != outsides[0] or outside.fill_mode != "constant" for outside in outsides):
        return False
    return len({layer.interpolation for layer in layers} - {None}) <= 1


def _only_has_geometry(layer):
    """Whether a layer does no more than to move pixels as its `geometry` says. A subclass may override hooks."""
    known = (Mover, RandomResizedCrop)
    return isinstance(layer, Mover) and all(
        getattr(type(layer), hook) in [getattr(kind, hook) for kind in known] for hook in HOOKS
    )


def _are_crop_and_moves(layers, crop):
    """Whether there is one resized crop, after mirror images, and before moves by whole pixels with a constant fill."""
    before, after = layers[:crop], layers[crop + 1 :]
    return all(isinstance(layer, RandomFlip) for layer in before) and all(
        layer.interpolation is None and (layer.outside or Outside()).fill_mode == "constant" for layer in after
    )
