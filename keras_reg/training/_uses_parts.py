import functools

from keras_reg._backend import is_compiling
from keras_reg._validation import fail


class UsesParts:
    """A mixin for a model whose subclasses may override `train_step`: each part of the model must take effect in it."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        step = getattr(cls, "train_step", None)  # other mixins have none
        if step is not None and not step.__module__.startswith("keras_reg.") and not hasattr(step, "checks_parts"):
            cls.train_step = _checked(step)

    def note_use(self, part):
        """Notes that a step uses the part of this name: "augmentation", "penalties" or "sharpness"."""
        of_step = self.__dict__.get("_of_step")  # there is none in a custom loop without `compile`
        if of_step is not None and of_step.used is not None and not is_compiling():
            of_step.used.add(part)


def _checked(step):
    @functools.wraps(step)
    def train_step(self, *state_and_data):
        of_step = self._of_step
        if is_compiling() or of_step.used is not None:  # the class that calls this one checks it
            return step(self, *state_and_data)
        of_step.used = set()
        try:
            found = step(self, *state_and_data)
            _check_use(self, of_step.used)
            return found
        finally:
            of_step.used = None

    train_step.checks_parts = True
    return train_step


def _check_use(model, used):
    parts = {"augmentation": model.augmentation is not None, "penalties": model.penalties, "sharpness": model.sharpness}
    unused = [name for name, given in parts.items() if given and name not in used]
    if unused:
        fail(
            "`train_step` of a subclass must call `super().train_step`, or else `augment`, `compute_loss` and "
            "`sharpened_gradients`, which use the parts of this model.",
            model=type(model).__name__, unused=unused,
        )  # fmt: skip
