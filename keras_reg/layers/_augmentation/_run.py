import dataclasses

from keras_reg._strength import plain
from keras_reg.layers._augmentation._by_value import by_value
from keras_reg.layers._batch._forms import CONTENT, Batch, dtype_of, each, is_float, map_arrays


class AugmentationRun:
    """From a batch of tensors to the augmented one: one draw, then a pure function where it runs fastest.

    `_augment` draws, `_apply` picks the place, `_run_program` compiles, `_compute` casts, `_transform` does the work.
    """

    _works_on_host = False  # whether NumPy is fast enough at it where PyTorch's tensors lie in reach
    _draws_pixels = False  # whether `_draw_noise` draws about as many numbers as there are pixels
    _draws_pixels_inside = False  # whether `_transform` does

    def _augment(self, batch, index=None):
        """The augmented batch: one draw for the whole call, then the pure function."""
        key = self.random.key(batch.place, index)
        u = batch.place.uniform(key, (batch.size(), max(self._columns, 1)))
        return self._apply(batch, u, key, cast=True)

    def _apply(self, batch, u, key, select=None, cast=False):
        """The augmented batch for given numbers, by NumPy where it is faster; `cast`: to the layer's dtype first."""
        folding = self._folding(batch)
        if folding is not None:
            return folding.unfold(self._apply(folding.fold(), u, key, select, cast))
        if not (self._works_on_host and batch.is_in_reach(u, select)):
            return self._run_program(batch, u, key, select, cast)
        host, u, select = (self._cast_images(batch) if cast else batch).on_host(u, select)
        done = each(self._run_program(host, u, key, select), host.place.returned)
        return dataclasses.replace(done, place=batch.place)

    def _run_program(self, batch, u, key, select, cast=False):
        """Likewise, as one compiled program where the batch is worth it."""
        noise = self._draw_noise(batch, key)
        if not self._is_worth_compiling(batch) or not self._is_one_program():
            return self._compute(batch, u, noise, select, cast)
        weights = [weight for layer in self._walk() for weight in layer._weights_of_strengths().values()]
        names = ("keeps_ids", "dtype", "kind", "frames", "is_signal")
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

    def _compute(self, batch, u, noise, select, cast):
        """`_transform` in the dtype in which a compiler is fast."""
        batch = self._cast_images(batch) if cast else batch
        if not hasattr(batch.images, "shape"):  # several inputs
            return self._transform(batch, u, noise, select)
        dtype = dtype_of(batch.images)
        wide = batch.place.dtype_of_arithmetic(dtype)
        if wide == dtype:
            return self._transform(batch, u, noise, select)
        done = self._transform(dataclasses.replace(batch, images=batch.ops.cast(batch.images, wide)), u, noise, select)
        return dataclasses.replace(done, images=batch.ops.cast(done.images, dtype))

    def _cast_images(self, batch):
        """The batch with its images in the dtype that comes out."""

        def cast(array):
            if not is_float(array) and self.keeps_integers:
                return array
            return batch.ops.cast(array, self._dtype_of_pixels(array, batch))

        return dataclasses.replace(batch, images=map_arrays(cast, batch.images))

    def _dtype_of_pixels(self, array, batch):
        """What this layer computes in: its own compute dtype, or within another layer that of the other."""
        if is_float(array) or not self.keeps_integers:
            return batch.dtype or self.compute_dtype
        return dtype_of(array)

    def _draw_noise(self, batch, key):
        """Random numbers besides `u`, drawn before a program begins: TensorFlow's are slow under XLA."""
        if not self.normal_numbers:
            return None
        return batch.place.normal(batch.place.fold(key, 0), (batch.size(), self.normal_numbers))

    def _is_one_program(self):
        """Whether `_transform` depends on its arguments alone, so that it can be compiled as a whole.

        A program of JAX would keep the weights of a subclass, and the seeds of layers in it, as they are now.
        """
        known = [*self._weights_of_strengths().values(), self.generator.state]
        return len(self.variables) == len(known)

    def _walk(self):
        """This layer and those in it."""
        return [self]

    def _arguments(self):
        """What a program is made for: attributes may be set anew, and then another program is needed."""
        given = {name: plain(value) for name, value in vars(self).items() if name not in self._not_arguments}
        return [self, self.compute_dtype, given]

    def _is_worth_compiling(self, batch):
        is_one = hasattr(batch.images, "shape")
        return is_one and batch.place.compiles(batch.images, self._draws_pixels_inside)
