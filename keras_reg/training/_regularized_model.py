import inspect
from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_reg._backend import AugmentedStep
from keras_reg._renamed import renamed
from keras_reg._typing import Config, Tensors
from keras_reg._validation import fail
from keras_reg.layers._batch_augmentation import BatchAugmentation
from keras_reg.training._as_network import AsNetwork
from keras_reg.training._augmentations import as_augmentation, build_augmentation
from keras_reg.training._augmented_input import find_images
from keras_reg.training._augments_batches import AugmentsBatches
from keras_reg.training._checked_data import ChecksData
from keras_reg.training._mix_at import MixAt
from keras_reg.training._mixture_model import MixtureModel
from keras_reg.training._networks import options_like
from keras_reg.training._own_steps import check_steps
from keras_reg.training._penalties._penalty import Penalty
from keras_reg.training._sharpness_aware import SharpnessAware
from keras_reg.training._takes_further_passes import TakesFurtherPasses


@keras.saving.register_keras_serializable(package="keras_reg")
class RegularizedModel(AsNetwork, ChecksData, AugmentsBatches, AugmentedStep, TakesFurtherPasses, MixtureModel):  # type: ignore[misc, valid-type]
    """Trains a model on augmented batches. Images, labels and sample weights are augmented inside the compiled step.

    `evaluate`, `predict` and `export` use the plain model, and outputs, layers and logs have its names. `evaluate` and
    `predict` do not resize images: if the augmentation trains at a fixed size, as `RandomResizedCrop` does, images of
    another size raise an error. Compile it as you would compile `model`: integer labels stay integers, and losses and
    metrics are not changed. The loss of a mixed sample is w * loss(y_a) + (1 - w) * loss(y_b), times its mixed sample
    weight, with every reduction of the loss. It equals the loss of the mixed target for every loss that is linear in
    its target, such as cross-entropy. Float labels are mixed directly. `class_weight` of `fit` becomes sample weights,
    which are mixed: to weight each of the two labels by its own class, pass `class_weight` to
    `keras_reg.losses.LabelSmoothingCrossentropy`. Metrics use the original label with the largest weight, so training
    accuracy remains meaningful.

    A `train_step` of a subclass should call `super().train_step`, or else `augment`, `compute_loss` and
    `sharpened_gradients`. A warning names the parts of the model that a step does not use.

    Args:
        model: The `keras.Model` to train: Functional, Sequential or subclassed. If it overrides `compile`,
            `train_step`, or `compute_loss` and `compute_metrics`, as `keras.distillation.Distiller` does, `compile`
            takes the arguments of `model.compile` and compiles `model` too.
        augmentation: A layer of `keras_reg.layers`, an image layer of Keras, or a `keras.Sequential` of these, which
            is converted to a `Pipeline`. It acts in training only, so `Rescaling` and `Normalization` are refused. With
            `None`, nothing is augmented.
        augmented_input: Name or position of the input to augment, if the model has several. With a mixer, this argument
            requires `mix_at`, since a mixer must mix all inputs. By default, `MixUp` mixes all inputs.
        penalties: A list of `Penalty`, such as `ConfidencePenalty`: terms that are added to the loss in training.
        sharpness: A `SharpnessAware`, or `None` for the plain gradient.
        mix_at: Name of a layer whose output is mixed instead of the inputs, or a list of names, one of which is drawn
            for each batch (manifold mixup). The name of an input is accepted too. `model` must be Functional or
            Sequential. `augmentation` must contain exactly one mixer, and its other layers act on the inputs. For token
            ids, name their embedding. `CutMix` needs outputs (batch, height, width, channels) of known size.
        **kwargs: Further arguments of `keras.Model`, such as `name`.

    Call arguments:
        inputs: The inputs of `model`.
        training: Passed on to `model`. A call never augments: only `train_step` and `augment` do.

    Input shape:
        The input shape of `model`. In training, the augmentation must accept the inputs.

    Output shape:
        The output shape of `model`.

    Raises:
        ValueError: If `model` is not a Keras model; if it overrides a method that this model does not call, such as
            `fit`, or is a task of KerasHub with a preprocessor; if it overrides `train_step`, and `penalties` or
            `sharpness` is given or integer labels are mixed without `num_classes`; if its `compute_loss` uses mixed
            integer labels other than with the losses of `compile`; if `augmentation` is not a layer; in training, if
            the augmentation does not accept the data, or if integer labels are mixed and a loss does not return one
            number per sample; for arrays that are not numeric or contain integers that tensors cannot represent; and
            for labels or sample weights that are neither one array nor one array per output.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import layers, training
    >>> net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = training.RegularizedModel(net, layers.CutMix(seed=0))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    >>> history = model.fit(np.ones((6, 8, 8, 1)), np.arange(6) % 3, batch_size=4, verbose=0)

    References:
        - [mixup](https://arxiv.org/abs/1710.09412) (Zhang et al., 2018), whose code computes the loss in this form.
        - [Manifold mixup](https://arxiv.org/abs/1806.05236) (Verma et al., 2019), which draws one weight per batch
          (`mode="batch"`) and permutes the batch at random.
    """

    @renamed(images="augmented_input")
    def __init__(
        self,
        model: keras.Model,
        augmentation: keras.layers.Layer | None = None,
        penalties: Sequence[Penalty] = (),
        sharpness: SharpnessAware | None = None,
        augmented_input: str | int | None = None,
        mix_at: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        _check_model(model)
        check_steps(model, penalties=penalties, sharpness=sharpness, mix_at=mix_at)
        if sharpness is not None and not isinstance(sharpness, SharpnessAware):
            fail("`sharpness` must be a `SharpnessAware` or None.", sharpness=sharpness)
        augmentation = as_augmentation(augmentation, optional=True)
        if augmented_input is not None and not isinstance(augmented_input, (str, int)):
            fail("`augmented_input` must be the name or the position of an input.", augmented_input=augmented_input)
        if "training" not in inspect.signature(model.call).parameters:
            # Keras passes `training` only if the signature has it, so this model must have the same signature.
            object.__setattr__(self, "call", self._call_without_training)
        super().__init__(**options_like(model, kwargs))
        self.read_steps(model)
        self.augmentation = augmentation
        self.penalties = _check_penalties(penalties)
        self._terms = [keras.metrics.Mean(penalty.name) for penalty in self.penalties]
        self.model, self.augmented_input, self.sharpness = model, augmented_input, sharpness
        self.mix_at = mix_at
        self.mixing = None if mix_at is None else MixAt(mix_at, self.augmentation, model)
        if all(part.built for part in (model, *self._augmentations())):
            self.built = True

    def build(self, input_shape: Any = None) -> None:
        if input_shape is not None:
            self._build_parts(keras.tree.map_shape_structure(keras.KerasTensor, input_shape))
        self.built = True

    def _build_parts(self, inputs):
        if not self.model.built:
            # By a call, as Keras builds a model that does not override `build`.
            options = {"training": False} if "training" in inspect.signature(self.call).parameters else {}
            self.model(inputs, **options)
        for augmentation in self._augmentations():
            mixes_inside = augmentation is self.augmentation and self.mixing is not None
            found = find_images(inputs, self.model, augmentation, self.augmented_input, mixes_inside)
            build_augmentation(augmentation, found[1])

    def _augmentations(self):
        """Returns the augmentation of the model and those of its penalties."""
        found = [self.augmentation, *(getattr(penalty, "augmentation", None) for penalty in self.penalties)]
        return [layer for layer in found if isinstance(layer, BatchAugmentation)]

    def call(self, inputs: Tensors, training: bool | None = None) -> Tensors:
        return self.call_network(inputs) if training is None else self.call_network(inputs, training=training)

    def _call_without_training(self, inputs):
        return self.call_network(inputs)

    def compute_output_spec(self, inputs: Tensors, training: bool | None = None) -> Any:
        return self.model.compute_output_spec(inputs)

    def get_config(self) -> Config:
        parts = {"dtype": self.dtype_policy, "model": self.model, "augmentation": self.augmentation}
        parts |= {"penalties": list(self.penalties), "sharpness": self.sharpness}
        plain = {"name": self.name, "trainable": self.trainable, "augmented_input": self.augmented_input}
        plain["mix_at"] = self.mix_at if isinstance(self.mix_at, str) else self.mix_at and list(self.mix_at)
        config = {**plain, **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}}
        if self.has_own_loss or self.has_own_train_step:
            config["model"].pop("compile_config", None)  # `compile` of this model compiles the network
        return config

    @classmethod
    def from_config(cls, config: Config, custom_objects: Config | None = None) -> Self:
        config = dict(config)
        for part in ("model", "augmentation", "penalties", "sharpness"):
            config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects=custom_objects)
        return cls(**config)


def _check_penalties(penalties):
    penalties = [penalties] if isinstance(penalties, Penalty) else penalties
    if not isinstance(penalties, (list, tuple)) or not all(isinstance(one, Penalty) for one in penalties):
        fail("`penalties` must be a list of `keras_reg.training.Penalty`.", penalties=penalties)
    names = [penalty.name for penalty in penalties]
    if len({*names}) != len(names):
        fail("`penalties` must have different names. Pass `name`.", penalties=names)
    return list(penalties)


def _check_model(model):
    if not isinstance(model, keras.Model):
        fail("`model` must be a `keras.Model`.", model=model)
    if isinstance(model, RegularizedModel):
        fail("`model` must not be a `RegularizedModel`. Pass all parts to the same one.", model=type(model).__name__)
