from typing import Any

import keras
from keras import ops

from keras_reg._typing import Tensors
from keras_reg.layers._batch._arrays import hold
from keras_reg.layers._batch._content import Batch, map_arrays
from keras_reg.training._arrays import hold_inputs
from keras_reg.training._augmentations import augmented
from keras_reg.training._augmented_input import find_images, put_images
from keras_reg.training._custom_loop import check_scope
from keras_reg.training._mixes_inside import MixedInside, MixesInside
from keras_reg.training._mixture import Mixture
from keras_reg.training._uses_parts import note_use


class AugmentsBatches(MixesInside):
    """A mixin for a model that augments its batches: inputs, labels and sample weights."""

    augmentation: Any
    augmented_input: str | int | None
    has_own_train_step: bool

    def augment(self, x: Tensors, y: Tensors = None, sample_weight: Tensors = None) -> tuple[Any, Any, Any]:
        """Augments one batch as a training step does, for a custom loop.

        Args:
            x: Inputs of the model.
            y: Labels, a nest for several outputs.
            sample_weight: Sample weights, a nest for several outputs.

        Returns:
            (x, y, sample_weight), unchanged without an augmentation. If labels were mixed, y is an object that
            `compute_loss` and `compute_metrics` of this model accept in place of labels. With `mix_at`, x is an object
            too, which this model and these two methods accept in place of inputs.

        Raises:
            ValueError: If JAX traces a step outside of a `keras.StatelessScope` with the variables of the model.
        """
        if self.augmentation is None:
            return x, y, sample_weight
        check_scope(self, "augment", x)
        note_use("augmentation")
        held = hold_inputs(x, "x"), hold(y, "y"), hold(sample_weight, "sample_weight")
        x, y, sample_weight = map_arrays(ops.convert_to_tensor, held)
        place, found = self._find_images(x)
        found = hold_inputs(found, "x")  # other inputs may be strings or sparse, but not the augmented one
        inside = None if self.mixing is None else self._sizes_inside(x)
        keeps_ids = not self.has_own_train_step
        batch = Batch.of(found, y, sample_weights=sample_weight, keeps_ids=keeps_ids, inside=inside)
        batch = augmented(self.augmentation, batch)
        x = put_images(x, place, batch.images)
        x = x if batch.plan is None else MixedInside(x, batch.plan)
        return x, batch.given("labels") if self.has_own_train_step else Mixture.of(batch), batch.sample_weights

    def _sizes_inside(self, x):
        """Returns the sizes of what `mix_at` mixes. On TensorFlow, `fit` needs them before a build."""
        if not self.model.built:
            self._build_parts(keras.tree.map_structure(lambda array: keras.KerasTensor(array.shape, array.dtype), x))
        return self.mixing.sizes

    def _find_images(self, x):
        return find_images(x, self.model, self.augmentation, self.augmented_input, self.mixing is not None)
