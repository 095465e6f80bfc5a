import dataclasses
import functools

import keras

from keras_reg._backend import not_compiled
from keras_reg._dtypes import dtype_of, is_float
from keras_reg._strength import plain
from keras_reg.layers._augmentation._by_value import by_value
from keras_reg.layers._batch._content import CONTENT, Batch, each, map_arrays


class AugmentationRun:
    """Augments a batch of tensors: draws random numbers once, then runs a pure function at the fastest place.

    `_augment` draws, `_apply` selects the place, `_run_program` compiles, `_compute` casts, `_transform` transforms.
    """

    _works_on_host = False  # whether NumPy is faster than PyTorch if it can share the memory of the tensors
    _draws_pixels = False  # whether `_draw_noise` draws about one number per pixel
    _draws_pixels_inside = False  # whether `_transform` does so
    _branches = False  # whether images take different branches: PyTorch runs each of them on its own images only
    _draws_apart = True  # whether NumPy can compute the parameters of a layer of this package

    def _augment(self, batch, index=None):
        """Augments a batch: draws random numbers once for the call, then runs the pure function."""
        augment = self._augmented_eagerly if any(layer._branches for layer in self._walk()) else self._augmented
        return augment(batch, index)

    def _augmented(self, batch, index):
        key = self.random.key(batch.place, index)
        u = batch.place.numbers(key, (batch.size(), max(self._columns, 1)))
        return self._apply(batch, u, key, cast=True)

    _augmented_eagerly = not_compiled(_augmented)

    def _apply(self, batch, u, key, select=None, cast=False):
        """Augments a batch with the given random numbers, with NumPy if it is faster.

        With `cast`, the images are first cast to the dtype of the layer.
        """
        folding = self._folding(batch)
        if folding is not None:
            return folding.unfold(self._apply(folding.fold(), u, key, select, cast))
        if not (self._works_on_host and batch.is_in_reach(u, select)):
            return self._run_program(batch, u, key, select, cast)
        host, u, select = (self._cast_images(batch) if cast else batch).on_host(u, select)
        done = each(self._run_program(host, u, key, select), host.place.returned)
        return dataclasses.replace(done, place=batch.place)

    def _run_program(self, batch, u, key, select, cast=False):
        """Augments a batch with the given random numbers, as one compiled program if the batch is large enough."""
        noise = self._draw_noise(batch, key)
        if not self._is_worth_compiling(batch) or not self._is_one_program():
            return self._compute(batch, u, noise, select, cast)
        weights = [weight for layer in self._walk() for weight in layer._weights_of_strengths().values()]
        names = ("keeps_ids", "dtype", "kind", "frames", "is_signal", "inside")
        settings = {name: getattr(batch, name) for name in names}

        def program(place, strengths, content, u, noise, select):
            strengths = dict(zip(map(id, weights), strengths, strict=True))
            inner = Batch(place, **content, **settings, strengths=strengths)
            inner = self._compute(inner, u, noise, select, cast)
            return {name: getattr(inner, name) for name in CONTENT}

        content = {name: getattr(batch, name) for name in CONTENT}
        strengths = [batch.place.read(weight) for weight in weights]
        arguments = (strengths, content, u, noise, select)
        made_for = (cast, settings, [layer._arguments() for layer in self._walk()])
        done = self._programs.run(batch.place, program, by_value(made_for), *arguments)
        return dataclasses.replace(batch, **done)

    def _drawing(self, batch, u, select):
        """Returns the batch, the numbers and the selection from which the parameters are computed.

        If NumPy can compute the parameters, `batch.place.sent` copies them to the place of the images. It cannot if
        there is a `Strength`, whose value is a tensor, or a layer of a user, whose hooks expect tensors.
        """
        if not batch.place.computes_apart(u):
            return batch, u, select
        is_own = type(self).__module__.startswith("keras_reg.")
        is_plain = not any(layer._weights_of_strengths() for layer in self._walk())
        if self._draws_apart and is_own and is_plain and (select is None or batch.place.computes_apart(select)):
            return batch.drawing(), u, select
        return batch, *batch.place.sent((u, select))

    def _compute(self, batch, u, noise, select, cast):
        """Runs `_transform` in a dtype that is fast to compute with."""
        batch = self._cast_images(batch) if cast else batch
        if not hasattr(batch.images, "shape"):  # several inputs
            return self._transform(batch, u, noise, select)
        dtype = dtype_of(batch.images)
        wide = batch.place.dtype_of_arithmetic(dtype)
        if wide == dtype or not batch.place.casts_once:
            return self._transform(batch, u, noise, select)
        done = self._transform(dataclasses.replace(batch, images=batch.ops.cast(batch.images, wide)), u, noise, select)
        return dataclasses.replace(done, images=batch.ops.cast(done.images, dtype))

    def _cast_images(self, batch):
        """Returns the batch with its images in the output dtype."""

        def cast(array):
            if not is_float(array) and self._keeps_integers_of(batch):
                return array
            return batch.ops.cast(array, self._dtype_of_pixels(array, batch))

        return dataclasses.replace(batch, images=map_arrays(cast, batch.images))

    def _dtype_of_pixels(self, array, batch):
        """Returns the dtype for these pixels: the layer's compute dtype, or inside another layer the outer one's."""
        if is_float(array) or not self._keeps_integers_of(batch):
            return batch.dtype or self.compute_dtype
        return dtype_of(array)

    def _keeps_integers_of(self, batch):
        """Whether integer images of this batch stay integers."""
        return self.keeps_integers

    def _draw_noise(self, batch, key):
        """Draws random numbers in addition to `u`, before a program starts: TensorFlow draws slowly under XLA."""
        if not self.normal_numbers:
            return None
        return batch.place.normal(batch.place.fold(key, 0), (batch.size(), self.normal_numbers))

    def _is_one_program(self):
        """Whether `_transform` depends only on its arguments, so that it can be compiled as a whole.

        A JAX program would freeze the current values of a subclass's weights and of the seeds of inner layers.
        """
        known = [*self._weights_of_strengths().values(), self.generator.state]
        return len(self.variables) == len(known)

    def _walk(self):
        """Returns this layer and the layers in it."""
        return [self]

    def _arguments(self):
        """Returns the settings that a program depends on. If an attribute changes, a new program is compiled."""
        given = {name: plain(value) for name, value in vars(self).items() if name not in self._not_arguments}
        return [self, self.compute_dtype, given]

    def _is_worth_compiling(self, batch):
        is_one = hasattr(batch.images, "shape")
        return is_one and batch.place.compiles(batch.images, self._draws_pixels_inside)


def own_attributes(layer):
    """Returns the names that a subclass has set before the constructor of the base class: settings of its own."""
    return {*vars(layer)} - _attributes_of_layers()


@functools.cache
def _attributes_of_layers():
    return frozenset(vars(keras.layers.Layer()))
