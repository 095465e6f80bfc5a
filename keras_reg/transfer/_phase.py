import os

import keras

from keras_reg._validation import check_flag, check_integer, check_number, fail, native
from keras_reg.transfer._freeze import check_layers

NO_FOLDERS = ("yes", "no", "true", "false", "on", "off", "none", "always", "never")  # somebody means a flag


class Phase:
    """One stage of a transfer: what of the backbone trains in it, how, and how long. The head trains in all of them.

    Each phase is complete: layers that it does not unfreeze are frozen, whatever the phase before it did. For gradual
    unfreezing, use a list of phases with growing `unfreeze`.

    Args:
        name: Name of the phase in messages and histories.
        epochs: Integer of at least 1.
        unfreeze: The part of the backbone that trains: `None` for nothing, "all", n for the last n layers, or globs,
            as in `layers` of `unfreeze`.
        optimizer: An optimizer or its name. It is copied, so several phases can share it. `None` is SGD with momentum
            0.9 and a learning rate of 1e-3, or 1e-4 if something is unfrozen. Weights that were trained before keep
            their optimizer state if the kind of optimizer is the same; other weights start with a new state.
        layer_decay: A factor in (0, 1], such as 0.75: the head has the optimizer's learning rate, the last block or
            layer of the backbone that rate times `layer_decay`, the one before it that times `layer_decay` again, and
            so on. Needs a Keras with `keras.optimizers.MultiOptimizer`.
        cache_features: Whether features of the backbone are computed only once. "auto" does so if nothing of the
            backbone trains, and nothing random is in it or before it. `True` does so also with dropout in the backbone,
            which is then left out. `False` never does. A folder is like `True`, with the features in a file there.
        callbacks: A callback of this phase, such as `ExponentialLR`, or a list of them. Keras' callbacks receive epoch
            numbers that count over all phases; those of this package count from the start of the phase. If features
            are computed once, the callbacks see the head as their model.
        batch_norm: Whether unfrozen batch normalizations leave inference mode.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> Phase = keras_reg.transfer.Phase
    >>> phases = [Phase("warm up", 10), Phase("top", 5, unfreeze=20), Phase("all", 5, unfreeze="all")]
    >>> phases[1]
    <Phase 'top': 5 epochs, unfreeze=20>
    """

    def __init__(
        self,
        name,
        epochs,
        unfreeze=None,
        optimizer=None,
        layer_decay=None,
        cache_features="auto",
        callbacks=(),
        batch_norm=False,
    ):
        name, unfreeze, cache_features = native(name), native(unfreeze), native(cache_features)
        if not isinstance(name, str) or not name:
            fail("`name` must be a string that is not empty.", name=name)
        if unfreeze is not None:
            check_layers("unfreeze", unfreeze)
        self.name = name
        self.epochs = check_integer("epochs", epochs, low=1)
        self.unfreeze = unfreeze
        self.optimizer = _get_optimizer(optimizer)
        self.layer_decay = self._check_layer_decay(layer_decay)
        self.cache_features = cache_features
        self.callbacks = check_callbacks(callbacks)
        self.batch_norm = check_flag("batch_norm", batch_norm)
        self._check_cache()

    def _check_layer_decay(self, layer_decay):
        if layer_decay is None:
            return None
        layer_decay = check_number("layer_decay", layer_decay, 0, 1, open_low=True)
        if self.unfreeze is None:
            fail("`layer_decay` needs layers that train: set `unfreeze` too.", layer_decay=layer_decay)
        if not hasattr(keras.optimizers, "MultiOptimizer"):
            fail(
                f"`layer_decay` must be None: Keras {keras.__version__} has no `keras.optimizers.MultiOptimizer`, a "
                "later one has.",
                layer_decay=layer_decay,
            )
        return layer_decay

    def _check_cache(self):
        cache = self.cache_features
        folder = isinstance(cache, os.PathLike) or (isinstance(cache, str) and cache.lower() not in ("", *NO_FOLDERS))
        if not isinstance(cache, bool) and not folder:
            fail('`cache_features` must be "auto", a bool or a folder.', cache_features=cache)
        if self.insists_on_cache and self.unfreeze is not None:
            fail("`cache_features` needs a frozen backbone: its features change in this phase.", cache_features=cache)

    @property
    def insists_on_cache(self):
        """Whether the features must be computed once, or an error says why not."""
        return self.cache_features not in ("auto", False)

    def make_optimizer(self):
        """The optimizer that is to be copied."""
        if self.optimizer is not None:
            return self.optimizer
        return keras.optimizers.SGD(1e-3 if self.unfreeze is None else 1e-4, momentum=0.9)

    def __repr__(self):
        unfreeze = "" if self.unfreeze is None else f", unfreeze={self.unfreeze!r}"
        return f"<Phase {self.name!r}: {self.epochs} epoch{'s' if self.epochs > 1 else ''}{unfreeze}>"


def _get_optimizer(optimizer):
    given, optimizer = optimizer, native(optimizer)
    if isinstance(optimizer, str):
        try:
            optimizer = keras.optimizers.get(optimizer)
        except (ValueError, TypeError):
            fail("`optimizer` must be an optimizer or the name of one.", optimizer=given)
    if optimizer is None:
        return None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        fail("`optimizer` must be an optimizer or the name of one.", optimizer=given)
    if hasattr(optimizer, "optimizers"):
        fail("`optimizer` must be one optimizer: `layer_decay` gives each layer its rate.", optimizer=given)
    return optimizer


def check_callbacks(callbacks):
    """A list of callbacks, of which one may come alone."""
    callbacks = [] if callbacks is None else callbacks
    callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    if not all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks):
        fail("`callbacks` must be callbacks.", callbacks=callbacks)
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        fail("`callbacks` must be without `BackupAndRestore`: use `backup_dir` of `fit`.", callbacks=callbacks)
    return callbacks
