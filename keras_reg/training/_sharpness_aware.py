from typing import Any, Self

import keras
from keras import ops

from keras_reg._backend import dense, sum_over_replicas
from keras_reg._optimizers import iteration_of
from keras_reg._renamed import renamed
from keras_reg._validation import check_flag, check_integer, check_number


@keras.saving.register_keras_serializable(package="keras_reg")
class SharpnessAware:
    """Sharpness-aware minimization: takes the gradient where the loss is highest near the weights.

    A step computes the gradient g at the weights w, and then the gradient at w + e, which the optimizer applies to w.

    - SAM: e = rho * g / ||g||
    - ASAM (`adaptive=True`): e = rho * T^2 g / ||T g|| with T = |w| + eta

    A step takes two forward and two backward passes, about twice the time. Both passes use the same dropout masks.
    Moving statistics of normalization layers are updated in the first pass only.

    Args:
        rho: Norm of e, or of e / T in ASAM, at least 0. The paper uses 0.05 on CIFAR-10 and ImageNet, and 0.1 on
            CIFAR-100. ASAM needs values about ten times as large.
        adaptive: Whether e scales with the weights, as in ASAM. Then the best `rho` does not depend on their scale.
        every: Only every `every`-th step computes the gradient at w + e. The other steps are ordinary. The optimizer
            counts the steps.
        eta: Number that is added to |w| in ASAM, at least 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> from keras_reg import training
    >>> training.SharpnessAware(0.05, every=2)
    SharpnessAware(rho=0.05, adaptive=False, every=2, eta=0.01)

    References:
        - [Sharpness-aware minimization](https://arxiv.org/abs/2010.01412) (Foret et al., 2021). The norm is that of the
          gradient of the whole batch, over all replicas. The paper computes e on each replica.
        - [ASAM](https://arxiv.org/abs/2102.11600) (Kwon et al., 2021), which uses T = |w| for biases too.
    """

    @renamed(radius="rho")
    def __init__(self, rho: float = 0.05, adaptive: bool = False, every: int = 1, eta: float = 0.01) -> None:
        self.rho = check_number("rho", rho, low=0)
        self.adaptive = check_flag("adaptive", adaptive)
        self.every = check_integer("every", every, low=1)
        self.eta = check_number("eta", eta, low=0)

    def perturbed(self, values: list[Any], gradients: list[Any]) -> list[Any]:
        """Returns w + e for each weight. Weights without a gradient stay."""
        known = [(w, ops.cast(g, "float32")) for w, g in zip(values, gradients, strict=True) if g is not None]
        scales = [ops.abs(ops.cast(w, "float32")) + self.eta if self.adaptive else 1.0 for w, _ in known]
        # Divided by the largest entry first, since squares of small or large numbers leave the range of float32.
        largest = ops.max(ops.stack([ops.max(ops.abs(t * g)) for t, (_, g) in zip(scales, known, strict=True)]))
        unit = ops.where(largest > 0, 1.0 / ops.where(largest > 0, largest, 1.0), 0.0)
        squares = [ops.sum(ops.square(t * g * unit)) for t, (_, g) in zip(scales, known, strict=True)]
        norm = ops.sqrt(sum(squares))
        factor = ops.where(norm > 0, self.rho / ops.where(norm > 0, norm, 1.0), 0.0) * unit
        moved = iter(
            ops.cast(ops.cast(w, "float32") + factor * t * t * g, w.dtype)
            for t, (w, g) in zip(scales, known, strict=True)
        )
        return [w if g is None else next(moved) for w, g in zip(values, gradients, strict=True)]

    def __repr__(self):
        return "SharpnessAware({})".format(", ".join(f"{name}={value}" for name, value in self.get_config().items()))

    def get_config(self) -> dict[str, Any]:
        return {"rho": self.rho, "adaptive": self.adaptive, "every": self.every, "eta": self.eta}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


class SharpenedOptimizer:
    """An optimizer during one training step: it replaces the gradients, then passes them to the inner optimizer.

    Args:
        inner: The optimizer of the model.
        sharpness: A `SharpnessAware`.
        gradients: Function of the values of all trainable weights and a scale of the loss, to the gradients.
    """

    def __init__(self, inner, sharpness, gradients):
        self.inner_optimizer = inner
        self.sharpness, self.gradients = sharpness, gradients

    def apply_gradients(self, grads_and_vars, **options):
        gradients, variables = zip(*grads_and_vars, strict=True)
        gradients = self.replaced(gradients, [variable.value for variable in variables])
        return self.inner_optimizer.apply_gradients(zip(gradients, variables, strict=True), **options)

    def apply(self, grads, trainable_variables=None):
        values = [variable.value for variable in trainable_variables]
        return self.inner_optimizer.apply(self.replaced(grads, values), trainable_variables)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        known = list(zip(self.inner_optimizer.variables, optimizer_variables, strict=True))
        with keras.StatelessScope(known):
            grads = self.replaced(grads, trainable_variables)
        return self.inner_optimizer.stateless_apply(optimizer_variables, grads, trainable_variables)

    def replaced(self, gradients, values):
        if not self.sharpness.rho or all(gradient is None for gradient in gradients):
            return list(gradients)
        gradients = [dense(gradient) for gradient in gradients]
        scale, whole = self._whole(gradients)  # replicas must not wait for each other within a condition
        if self.sharpness.every == 1:
            return self._second(gradients, values, scale, whole)
        present = [gradient for gradient in gradients if gradient is not None]

        def second():
            return [new for new in self._second(gradients, values, scale, whole) if new is not None]

        due = ops.equal(ops.mod(ops.cast(iteration_of(self.inner_optimizer), "int32"), self.sharpness.every), 0)
        chosen = iter(ops.cond(due, second, lambda: present))
        return [None if gradient is None else next(chosen) for gradient in gradients]

    def _whole(self, gradients):
        """Returns the scale of the loss, and the gradients of the loss itself, of all replicas together."""
        scale = self.inner_optimizer.scale_loss(ops.ones((), "float32"))
        unscaled = [None if gradient is None else ops.cast(gradient, "float32") / scale for gradient in gradients]
        present = iter(sum_over_replicas([gradient for gradient in unscaled if gradient is not None]))
        return scale, [None if gradient is None else next(present) for gradient in unscaled]

    def _second(self, gradients, values, scale, whole):
        second = self.gradients(self.sharpness.perturbed(list(values), whole), scale)
        return [
            None if old is None else ops.zeros_like(old) if new is None else ops.cast(new, old.dtype)
            for old, new in zip(gradients, second, strict=True)
        ]

    def __getattr__(self, name):
        if name.startswith("_") or name == "inner_optimizer":
            raise AttributeError(name)
        return getattr(self.inner_optimizer, name)
