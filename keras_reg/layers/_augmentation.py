import dataclasses

import keras
import numpy as np

from keras_reg._backend import (
    Programs,
    RandomSource,
    as_written,
    framework_of,
    read_outside,
    uniform,
    worth_compiling,
)
from keras_reg._random_state import KeepsPosition
from keras_reg._strength import Strength, deserialize, plain, serialize
from keras_reg._validation import check_data_format, check_integer, check_seed, fail
from keras_reg.layers._batch._arrays import accept, check_call, check_weights, set_apart, written_out
from keras_reg.layers._batch._forms import (
    CONTENT,
    Batch,
    Form,
    arrays_of,
    dtype_of,
    each,
    is_float,
    is_map,
    leaves,
    map_arrays,
    spec_of,
    static,
    to_tensors,
)
from keras_reg.layers._batch._sizes import check_sizes, warn_of_other_layout
from keras_reg.layers._strength_weight import hold


class BatchAugmentation(KeepsPosition, keras.layers.Layer):
    """What all batch augmentations share: call forms, frameworks, random numbers, dtypes.

    A subclass sets `columns` (uniform numbers for each image) and `mixes` (whether images meet each other), and writes
    `transform(batch, u, noise, select)`, a pure function from a `Batch` to a `Batch`, where `u` has shape
    (batch, columns), `noise` is what `draw_noise` returned and `select` limits the images that it may touch.
    """

    columns = 0
    mixes = False
    works_on_host = True  # whether NumPy is fast enough at it where PyTorch's tensors lie in reach
    blends = False  # whether pixels are computed with, so that integer images become floats
    draws_pixels = False  # whether `draw_noise` draws about as many numbers as there are pixels
    strengths = ()

    def __init__(self, seed=None, data_format=None, **kwargs):
        seed, data_format = check_seed(seed), check_data_format(data_format)
        super().__init__(autocast=False, **kwargs)
        self.seed = seed
        self.data_format = data_format or keras.config.image_data_format()
        self.random = RandomSource(seed, type(self).__name__)
        self.generator = self.random.generator
        self._held = {}
        self._knows_layout = False
        self._programs = Programs()
        self.built = type(self).build is keras.layers.Layer.build  # a subclass may have weights to add

    def hold(self, **values):
        """Stores arguments that may each be a number or a `Strength`, which becomes a weight."""
        for name, value in values.items():
            setattr(self, name, value)
            if isinstance(value, Strength):
                self._held[name] = hold(self, name, value)

    def strength(self, name, batch):
        """The present value of an argument: a plain number, or the weight of a `Strength`."""
        if name not in self._held:
            return plain(getattr(self, name))
        weight = self._held[name]
        return batch.strengths[id(weight)] if id(weight) in batch.strengths else _read(weight, batch.framework)

    def is_off(self, name="rate"):
        """Whether an argument is a plain zero, which no schedule will move."""
        return name not in self._held and plain(getattr(self, name)) == 0

    def __call__(self, data, labels=None, sample_weight=None, **kwargs):
        return as_written(self._enter)(data, labels, sample_weight, **kwargs)

    def _enter(self, data, labels, sample_weight, index=None, **kwargs):
        """Checks everything here, before Keras converts the arrays and adds its own words to our errors."""
        form = Form(*map(written_out, (data, labels, sample_weight)))
        accept(form)
        training, index = check_call(kwargs.get("training"), index)
        arrays = [*arrays_of(form.batch), *leaves(form.batch.others)]
        symbolic = any(isinstance(array, keras.KerasTensor) for array in arrays)
        if symbolic or "training" in kwargs:
            # `None` is inference, unless whoever calls the model says that it trains; so it is stored in a model.
            kwargs["training"] = training
        if index is not None:
            kwargs["index"] = index
        self.check_batch(form.batch, bool(training) if "training" in kwargs and not symbolic else training)
        if symbolic:
            self._check_sees_labels(form.batch, training)
        if not self.built:
            shape = tuple(form.batch.images.shape)
            self.build(shape if len(shape) == 4 else (None, *shape))
        if not symbolic and not framework_of(arrays).native:
            return self._run(*form.arguments(), **kwargs)
        apart = set_apart(form.batch)  # what Keras could not convert
        done = super().__call__(*form.arguments(), **kwargs)
        return form.put_back(done, apart) if apart else done

    def check_batch(self, batch, training=True):
        """Refuses what would go wrong, with arrays, tensors and specifications alike."""
        check_sizes(batch, self.data_format, one_image=training is False or not self.mixes)
        check_weights(batch)
        self._check_layout(batch.images)
        if training is False:
            self.check_inference(batch)
            return
        self.check(batch)
        self.check_compute_dtype(batch)

    def _check_layout(self, images):
        if self._knows_layout or "data_format" not in self.arguments:
            return
        self._knows_layout = True
        warn_of_other_layout(images, self.data_format, type(self).__name__)

    def call(self, data, labels=None, sample_weight=None, training=True, index=None):
        return self._run(data, labels, sample_weight, training, index)

    def _run(self, data, labels=None, sample_weight=None, training=True, index=None):
        form = Form(data, labels, sample_weight)
        batch, training = to_tensors(form.batch), bool(training)
        lifted = len(batch.images.shape) == 3
        if lifted:
            batch = each(batch, lambda array: batch.ops.expand_dims(array, 0))
        batch = self.augment(batch, index) if training else self.inference(batch)
        if lifted:
            batch = each(batch, lambda array: batch.ops.squeeze(array, 0))
        if batch.framework.restore is not None:
            batch = each(batch, batch.framework.restore)
        return form.restore(batch)

    def _check_sees_labels(self, batch, training):
        """A model hands images from layer to layer, and labels to the loss: a mixer in it would mix images alone."""
        if not self.mixes or training is False:
            return
        if all(part is None for part in (batch.labels, batch.masks, batch.boxes)):
            fail(
                f"`{type(self).__name__}` needs the labels too, which layers inside a model do not see. Pass it to "
                "`keras_reg.training.RegularizedModel`, alone or in a `keras.Sequential` without `keras.Input`, or map "
                "it over the dataset.",
                layer=self.name, labels=None,
            )  # fmt: skip

    def augment(self, batch, index=None):
        """One draw for the whole call, then the pure function."""
        key = self.random.key(batch.framework, index)
        u = uniform(key, (batch.size(), max(self.columns, 1)), batch.framework)
        return self.apply(batch, u, key, cast=True)

    def apply(self, batch, u, key, select=None, cast=False):
        """`transform`, by NumPy where it is faster; `cast`: to the layer's dtype first."""
        if not (self.works_on_host and batch.is_in_reach(u, select)):
            return self._apply(batch, u, key, select, cast)
        host, u, select = (self.cast_images(batch) if cast else batch).on_host(u, select)
        done = each(self._apply(host, u, key, select), host.framework.restore)
        return dataclasses.replace(done, framework=batch.framework)

    def _apply(self, batch, u, key, select, cast=False):
        """`transform`, as one compiled program where the batch is worth it."""
        noise = self.draw_noise(batch, key)
        if not worth_compiling(batch.images, batch.framework) or not self.is_one_program(batch.framework):
            return self._transform(batch, u, noise, select, cast)
        weights = [weight for layer in self.walk() for weight in layer._held.values()]
        sparse, dtype = batch.sparse, batch.dtype  # not the batch itself, which a program would keep

        def program(framework, strengths, content, u, noise, select):
            strengths = dict(zip(map(id, weights), strengths, strict=True))
            inner = Batch(framework, **content, sparse=sparse, strengths=strengths, dtype=dtype)
            inner = self._transform(inner, u, noise, select, cast)
            return {name: getattr(inner, name) for name in CONTENT}

        content = {name: getattr(batch, name) for name in CONTENT}
        strengths = [_read(weight, batch.framework) for weight in weights]
        arguments = (strengths, content, u, noise, select)
        made_for = (cast, sparse, dtype, [layer.arguments_now() for layer in self.walk()])
        done = self._programs.run(batch.framework, program, made_for, *arguments)
        return dataclasses.replace(batch, **done)

    def _transform(self, batch, u, noise, select, cast):
        batch = self.cast_images(batch) if cast else batch
        dtype = dtype_of(batch.images)
        wide = batch.framework.computes_in(dtype)
        if wide == dtype:
            return self.transform(batch, u, noise, select)
        done = self.transform(dataclasses.replace(batch, images=batch.ops.cast(batch.images, wide)), u, noise, select)
        return dataclasses.replace(done, images=batch.ops.cast(done.images, dtype))

    def cast_images(self, batch):
        if not is_float(batch.images) and not self.blends:
            return batch
        return dataclasses.replace(batch, images=batch.ops.cast(batch.images, self.dtype_of_pixels(batch)))

    def dtype_of_pixels(self, batch):
        """What this layer computes in: its own compute dtype, or within another layer that of the other."""
        if is_float(batch.images) or self.blends:
            return batch.dtype or self.compute_dtype
        return dtype_of(batch.images)

    def draw_noise(self, batch, key):
        """Random numbers besides `u`, drawn before a program begins: TensorFlow's are slow under XLA."""

    def is_one_program(self, framework):
        """Whether all randomness of `transform` is in its arguments, so that it can be compiled as a whole."""
        return True

    def walk(self):
        """This layer and those in it."""
        return [self]

    def arguments_now(self):
        """What a program is made for: arguments may be set anew, and then another program is needed."""
        names = (*self.strengths, *self.arguments)
        return [self, self.compute_dtype, *(plain(getattr(self, name)) for name in names)]

    def inference(self, batch):
        """What the layer does to the batch when it is not training: the identity, in the dtype that training gives."""
        return self.cast_images(batch)

    def check_compute_dtype(self, batch):
        """Blending whole numbers in whole numbers would round every pixel."""
        if self.blends and not keras.backend.is_float_dtype(self.compute_dtype):
            fail(
                f"`{type(self).__name__}` computes with the pixels and needs a float dtype.",
                dtype=self.compute_dtype, images=dtype_of(batch.images),
            )  # fmt: skip

    def check(self, batch):
        """Refuses what this layer cannot do rightly; called at trace time, also for symbolic inputs."""

    def check_inference(self, batch):
        """Likewise where the layer is not training: nothing, where it is the identity then."""

    def transform(self, batch, u, noise=None, select=None):
        raise NotImplementedError

    def compute_output_spec(self, data, labels=None, sample_weight=None, training=True, index=None):
        form = Form(data, labels, sample_weight)
        self.check_batch(form.batch, training)
        spec = self.inference_spec(form.batch) if training is False else self.output_spec(form.batch)
        # New objects even for what passes through: a graph could not tell an input from the output that it is.
        return map_arrays(lambda array: keras.KerasTensor(array.shape, array.dtype), form.restore(spec))

    def inference_spec(self, batch):
        """The specification of what `inference` returns."""
        images = spec_of(tuple(batch.images.shape), self.dtype_of_pixels(batch))
        return dataclasses.replace(batch, images=images)

    def output_spec(self, batch):
        """The specification of the result; a subclass changes what it changes."""
        images = spec_of(tuple(batch.images.shape), self.dtype_of_pixels(batch))
        return dataclasses.replace(batch, images=images)

    def compute_output_shape(self, input_shape, *args):
        """The shape of the images that come out; what belongs to them keeps its own."""
        if isinstance(input_shape, dict):
            return {**input_shape, "images": self.compute_output_shape(input_shape["images"])}
        if isinstance(input_shape[0], (tuple, list)):
            return (self.compute_output_shape(input_shape[0]), *input_shape[1:])
        images = spec_of(tuple(input_shape), self.compute_dtype)
        return tuple(self.output_spec(Batch(images=images)).images.shape)

    def get_config(self):
        names = (*self.strengths, *self.arguments)
        return {**super().get_config(), **{name: serialize(getattr(self, name)) for name in names}}

    arguments = ("data_format", "seed")

    @classmethod
    def from_config(cls, config):
        """The layer again."""
        if not isinstance(config, dict):
            fail("Expected a config, a dict of arguments.", config=config)
        return cls(**{name: deserialize(value) for name, value in config.items()})


def _read(weight, framework):
    return weight.value if framework.native else read_outside(weight, framework)


def selected(u, rate, select):
    """Which images this call touches, (batch,)."""
    chosen = u < rate
    return chosen if select is None else chosen & select


def check_num_classes(num_classes, low=2):
    """`None`, or a number of classes that float32 can draw from."""
    return check_integer("num_classes", num_classes, low=low, high=2**23, optional=True)


def check_fill(name, values, dtype):
    """Numbers that a dtype can hold: casting would make a silent 0 of 0.5 in whole numbers, or wrap 300 around."""
    for value in values if isinstance(values, (tuple, list)) else [values]:
        if not holds(dtype, value):
            fail(f"Expected a `{name}` that {dtype} can hold.", **{name: values})


def holds(dtype, value):
    if keras.backend.is_float_dtype(dtype):
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float64(value).astype(dtype)))
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return low <= value <= high and value == int(value)


def check_fill_of_maps(value, batch, data_format):
    """What masks, and labels that are dense maps, are filled with."""
    for array in (*leaves(batch.masks), *leaves(batch.labels)):
        if value is not None and is_map(array, batch.images, data_format):
            check_fill("mask_fill_value", value, dtype_of(array))


def exact(values, dtype):
    """Numbers that `check_fill` has let pass, for casting: a whole number as a float may be rounded on its way."""
    if not keras.backend.is_int_dtype(dtype):
        return values
    return list(map(int, values)) if isinstance(values, (tuple, list)) else int(values)


def check_channels(name, values, images, data_format):
    """One value a channel: as many as there are channels."""
    channels = static(images, -1 if data_format == "channels_last" else -3)
    if isinstance(values, (tuple, list)) and channels not in (None, len(values)):
        fail(f"Expected one `{name}` for each of {channels} channels.", **{name: values})
