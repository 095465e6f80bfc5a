import os
from typing import Literal

import keras

from keras_reg._optimizers import holds_several
from keras_reg._renamed import renamed
from keras_reg._typing import Callbacks, Path, Unfrozen
from keras_reg._validation import check_callbacks, check_flag, check_integer, check_number, fail, native
from keras_reg.transfer._freeze import check_layers

USE_BACKUP_DIR = "use `backup_dir` of `fit`"
NO_FOLDERS = ("yes", "no", "true", "false", "on", "off", "none", "always", "never")  # meant as a flag


class Phase:
    """One stage of a transfer: which part of the backbone trains, how, and how long. The head trains in every phase.

    Each phase is self-contained: layers that it does not unfreeze are frozen, whatever earlier phases did. For gradual
    unfreezing, use a list of phases with growing `unfreeze`.

    Args:
        name: Name of the phase in messages and histories.
        epochs: Integer of at least 1.
        unfreeze: The part of the backbone that trains: `None` for nothing, "all", an integer n for the last n layers,
            or globs, as for `layers` of `keras_reg.transfer.unfreeze`.
        optimizer: An optimizer or its name. It is copied, so several phases can share it. `None` is SGD with momentum
            0.9 and a learning rate of 1e-3, or 1e-4 if something is unfrozen. Weights that were trained before keep
            their optimizer state if the kind of optimizer is the same; other weights start with a new state.
        layer_decay: Factor in (0, 1], such as 0.75, by which the learning rate falls from each block or layer of the
            backbone to the one before it. The head has the optimizer's rate, the last block that rate times
            `layer_decay`, and so on. Needs a Keras version with `keras.optimizers.MultiOptimizer`.
        cache_features: Whether features of the backbone are computed only once. "auto" does so if nothing of the
            backbone trains, nothing random is in it or before it, the features have one shape and no Keras mask, and a
            dataset gives the same labels in each pass. `True` also does so if the backbone contains dropout, which is
            then left out. `False` never does. A folder is like `True`, with the features in a file there.
        callbacks: A callback for this phase, such as `ExponentialLR`, or a list of them. Keras' callbacks receive epoch
            numbers that count over all phases; schedules and arguments of those of this package count from the start of
            the phase, and the epochs that they report count over all phases. If features are computed once, the model
            of the callbacks is the head.
        batch_norm: Whether unfrozen batch normalizations train and use the statistics of batches.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> Phase = keras_reg.transfer.Phase
    >>> phases = [Phase("warm up", 10), Phase("top", 5, unfreeze=20), Phase("all", 5, unfreeze="all")]
    >>> phases[1]
    <Phase 'top': 5 epochs, unfreeze=20>
    """

    @renamed(lr="optimizer", learning_rate="optimizer")
    def __init__(
        self,
        name: str,
        epochs: int,
        unfreeze: Unfrozen | None = None,
        optimizer: keras.optimizers.Optimizer | str | None = None,
        layer_decay: float | None = None,
        cache_features: bool | Literal["auto"] | Path = "auto",
        callbacks: Callbacks = (),
        batch_norm: bool = False,
    ) -> None:
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
        self.callbacks = check_callbacks([] if callbacks is None else callbacks, USE_BACKUP_DIR)
        self.batch_norm = check_flag("batch_norm", batch_norm)
        self._check_cache()

    def _check_layer_decay(self, layer_decay):
        layer_decay = check_number("layer_decay", layer_decay, 0, 1, open_low=True, optional=True)
        if layer_decay is None:
            return None
        if self.unfreeze is None:
            fail("`layer_decay` needs layers that train: set `unfreeze` too.", layer_decay=layer_decay)
        if not hasattr(keras.optimizers, "MultiOptimizer"):
            fail(
                f"`layer_decay` needs `keras.optimizers.MultiOptimizer`, which Keras {keras.__version__} lacks: "
                "upgrade Keras.",
                layer_decay=layer_decay,
            )
        return layer_decay

    def _check_cache(self):
        cache = self.cache_features
        folder = isinstance(cache, os.PathLike) or (isinstance(cache, str) and cache.lower() not in ("", *NO_FOLDERS))
        if not isinstance(cache, bool) and not folder:
            fail('`cache_features` must be "auto", a bool or a folder.', cache_features=cache)
        if self.insists_on_cache and self.unfreeze is not None:
            fail("`cache_features` needs a frozen backbone, but this phase changes it.", cache_features=cache)

    @property
    def insists_on_cache(self) -> bool:
        """Whether features must be computed once, so that it is an error if they cannot be."""
        return self.cache_features not in ("auto", False)

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns the optimizer to be copied."""
        return default_optimizer(self.unfreeze) if self.optimizer is None else self.optimizer

    def __repr__(self):
        unfreeze = "" if self.unfreeze is None else f", unfreeze={self.unfreeze!r}"
        return f"<Phase {self.name!r}: {self.epochs} epoch{'s' if self.epochs > 1 else ''}{unfreeze}>"


def default_optimizer(unfreeze=None):
    """Returns SGD with momentum 0.9, at a lower learning rate if pretrained weights train."""
    return keras.optimizers.SGD(1e-3 if unfreeze is None else 1e-4, momentum=0.9)


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
    if holds_several(optimizer):
        fail("`optimizer` must not be a `MultiOptimizer`: use `layer_decay` for rates by layer.", optimizer=given)
    return optimizer
