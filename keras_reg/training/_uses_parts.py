import functools
import threading
import warnings

from keras_reg._backend import is_compiling

METHODS = {"augmentation": "augment", "penalties": "compute_loss", "sharpness": "sharpened_gradients"}

_running = threading.local()  # `used`: the parts that the running step of a subclass has used, in this thread


def note_use(part):
    """Notes that the running step uses a part of the model: one of `METHODS`."""
    if not is_compiling() and runs_step():
        _running.used.add(part)


def runs_step():
    """Whether a step of a subclass runs in this thread."""
    return getattr(_running, "used", None) is not None


class UsesParts:
    """A mixin for a model whose subclasses may override `train_step`. It warns if a part of the model is not used."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        step = getattr(cls, "train_step", None)  # other mixins have none
        if step is not None and not step.__module__.startswith("keras_reg.") and not hasattr(step, "warns_of_parts"):
            cls.train_step = _warning(step)


def _has(model, part):
    return bool(model.penalties) if part == "penalties" else getattr(model, part) is not None


def _warning(step):
    @functools.wraps(step)
    def train_step(self, *args, **kwargs):
        if is_compiling() or runs_step():  # the class that calls this one warns
            return step(self, *args, **kwargs)
        _running.used = set()
        try:
            result = step(self, *args, **kwargs)
            unused = [part for part in METHODS if _has(self, part) and part not in _running.used]
        finally:
            _running.used = None
        if unused and "_has_warned_of_parts" not in vars(self):
            object.__setattr__(self, "_has_warned_of_parts", True)
            called = " and ".join(f"`{METHODS[part]}`" for part in unused)
            warnings.warn(
                f"A `train_step` of `{type(self).__name__}` called neither `super().train_step` nor {called}, so it "
                f"trained without {' and '.join(unused)}.",
                stacklevel=2,
            )
        return result

    train_step.warns_of_parts = True
    return train_step
