import keras
from keras import ops

from keras_reg._dtypes import is_float
from keras_reg._validation import fail
from keras_reg.layers._batch._content import map_arrays
from keras_reg.layers._batch._shapes import spatial_axes
from keras_reg.layers._pixels._inside import mixed_activations, united_mask


class MixPoint(keras.layers.Layer):
    """Mixes the output of one layer while a training step has a plan for it. Otherwise, it is the identity.

    Args:
        mixed: Name of the layer whose output is mixed.
        position: Position of this layer in the plan.
        mixing: The `MixAt`, which knows the plan.
    """

    def __init__(self, mixed, position, mixing):
        super().__init__(name=f"{mixed}_mixed", autocast=False)
        self.mixed, self.position, self.mixing = mixed, position, mixing
        self.of_masks = UnitedMask(self)
        self.shapes = None
        self.supports_masking = self.built = True

    def call(self, inputs):
        plan, data_format = self.mixing.plan, self.mixing.mixer.data_format
        if plan is None:
            return inputs
        return map_arrays(lambda array: mixed_activations(array, plan, self.position, data_format), inputs)

    def compute_mask(self, inputs, previous_mask):
        return map_arrays(self.united, previous_mask)

    def united(self, mask):
        """Returns the mask of the mixed output."""
        plan = self.mixing.plan
        if plan is None:
            return mask
        return ops.cast(united_mask(ops.cast(mask, "bool"), plan, self.position, ops), mask.dtype)

    def compute_output_spec(self, inputs):
        tensors = keras.tree.flatten(inputs)
        for tensor in tensors:
            self._check(tensor)
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        return map_arrays(lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), inputs)

    def _check(self, tensor):
        received = {"mix_at": self.mixed, "shape": tuple(tensor.shape), "dtype": tensor.dtype}
        if not is_float(tensor):
            fail("`mix_at` must name a layer with float outputs. For token ids, name the embedding.", **received)
        if len(tensor.shape) < 2:
            fail("`mix_at` must name a layer whose outputs have a batch axis and at least one other axis.", **received)
        if self.mixing.cuts and (len(tensor.shape) != 4 or None in self._height_width(tensor.shape)):
            fail(
                "`CutMix` needs a layer with outputs of shape (batch, height, width, channels), or channels first, "
                "whose height and width are known. Use `MixUp` for other outputs.",
                **received,
            )

    def _height_width(self, shape):
        return tuple(shape[axis] for axis in spatial_axes(self.mixing.mixer.data_format))

    def size(self):
        """Returns the height and width of the output."""
        sizes = {self._height_width(shape) for shape in self.shapes}
        if len(sizes) != 1:
            fail("`CutMix` needs a layer whose outputs have one size.", mix_at=self.mixed, shapes=self.shapes)
        return sizes.pop()


class UnitedMask(keras.layers.Layer):
    """Unites the masks of both partners where a network passes a mask as an argument."""

    def __init__(self, point):
        super().__init__(name=f"{point.mixed}_united_mask", autocast=False)
        self.unite = point.united
        self.supports_masking = self.built = True

    def call(self, inputs):
        return self.unite(inputs)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)
