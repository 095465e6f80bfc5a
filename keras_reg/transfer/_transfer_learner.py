import keras
import numpy as np

from keras_reg._validation import check_integer, fail, is_integer
from keras_reg.training import AugmentedModel
from keras_reg.transfer._assembly import assemble
from keras_reg.transfer._backup import Backup
from keras_reg.transfer._data import Batches, to_arrays
from keras_reg.transfer._history import draw, join
from keras_reg.transfer._labels import check_labels
from keras_reg.transfer._phase import Phase
from keras_reg.transfer._report import summary_lines
from keras_reg.transfer._run import Run
from keras_reg.transfer._suggest_phases import default_phases

FIT_ARGUMENTS = ("class_weight", "steps_per_epoch", "validation_batch_size", "validation_freq", "validation_steps")


class TransferLearner:
    """A new head on a pretrained backbone, trained in phases: warm up the head, then fine-tune.

    Each phase is a compile of its own, so that what trains is what was meant, on every backend. Batch normalizations
    of the backbone stay in inference mode. Weights that have been trained keep their optimizer's state across a
    border, new ones start afresh, and velocities that contain the rate are scaled with it. While nothing of the
    backbone trains, its features are computed once. Which layers train in the end is what it was before, also after
    an error or an interruption.

    Args:
        backbone: A built `keras.Model` without the old head. Its weights are trained in place.
        head_or_num_classes: The number of classes of a linear head that gives logits; or a layer, a model or a list
            of layers. Maps of features are averaged over all places where the head is, or begins with, a dense layer.
        preprocess: What comes before the backbone: `None`, a layer or function of the inputs, a `preprocess_input` of
            `keras.applications`, or "auto" to find that one by the name of the backbone, so that images 0 to 255 go in.
        augmentation: A layer for `keras_reg.training.AugmentedModel`. It sees raw images, in training only.
        loss: As in `compile`. A number of classes makes it sparse crossentropy from logits by default.
        metrics: As in `compile`. A number of classes makes it ["accuracy"] by default.
        **compile_arguments: Further arguments of `compile`, such as `jit_compile`.

    Attributes:
        model: The plain model, raw inputs to outputs, without augmentation. It is compiled for `evaluate`.
        history: {name of a phase: its `keras.callbacks.History`} of the last `fit`.
        cache_memory: Features of more bytes than this are kept in a file.

    Raises:
        ValueError: If an argument is outside of what is said above, or the parts do not fit.

    Example:

    >>> backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")], name="net")
    >>> learner = keras_reg.transfer.TransferLearner(backbone, 2)
    >>> phases = [keras_reg.transfer.Phase("warm up", 2), keras_reg.transfer.Phase("all", 1, unfreeze="all")]
    >>> history = learner.fit((np.ones((4, 8, 8, 3)), np.array([0, 1, 0, 1])), phases=phases, verbose=0)
    >>> [len(history.epoch), *learner.history, learner.model.name]
    [3, 'warm up', 'all', 'net_transfer']
    """

    cache_memory = 2**30

    def __init__(
        self,
        backbone,
        head_or_num_classes,
        preprocess=None,
        augmentation=None,
        loss=None,
        metrics=None,
        **compile_arguments,
    ):
        if not isinstance(backbone, keras.Model):
            fail("`backbone` must be a `keras.Model`.", backbone=backbone)
        if is_integer(head_or_num_classes):
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss
            metrics = ["accuracy"] if metrics is None else metrics
        elif loss is None:
            fail("`loss` must be given with a head of layers.", loss=loss)
        self.backbone = backbone
        self.parts = assemble(backbone, head_or_num_classes, preprocess)
        self.augmentation = augmentation
        self.loss, self.metrics, self.compile_arguments = loss, metrics, compile_arguments
        self.model = self.parts.model
        self.trainer = self.model if augmentation is None else AugmentedModel(self.model, augmentation)
        self.history = {}
        self._compile_for_use(default_phases()[0])

    def _compile_for_use(self, phase):
        """So that `evaluate` and saving work: with a new optimizer, built, for Keras loads no other."""
        optimizer = phase.make_optimizer()
        self.compile(self.model, type(optimizer).from_config(optimizer.get_config()))
        self.model.optimizer.build(self.model.trainable_variables)

    def compile(self, model, optimizer):
        """Compiles one of the models that share the weights; `fit` does so for each phase."""
        model.compile(optimizer=optimizer, loss=self.loss, metrics=self.metrics, **self.compile_arguments)

    def fit(
        self,
        train,
        validation_data=None,
        phases=None,
        backup_dir=None,
        batch_size=32,
        shuffle=True,
        seed=None,
        callbacks=(),
        verbose="auto",
        **fit_arguments,
    ):
        """Runs the phases, and says before each what trains in it.

        Args:
            train: (x, y) or (x, y, sample_weight) of arrays, or a dataset of such batches: tf.data, `PyDataset`,
                a `DataLoader`, or another iterable that can be gone through repeatedly.
            validation_data: As `train`, or `None`.
            phases: List of `Phase`, as from `suggest_phases`. By default the head is warmed up for 10 epochs with
                SGD(1e-3, momentum=0.9), then everything trains for 10 with SGD(1e-4, momentum=0.9).
            backup_dir: Folder of this training. Start the same program again after a crash, and it goes on in the
                phase and at the epoch where it was. Removed at the end.
            batch_size: Size of the batches of arrays.
            shuffle: Whether arrays are shuffled, in another order in each epoch.
            seed: Integer that these orders come from; by default drawn from NumPy's global generator, which
                `keras.utils.set_random_seed` sets.
            callbacks: Callbacks of all phases.
            verbose: As in `fit` of Keras; 0 says nothing.
            **fit_arguments: class_weight, steps_per_epoch, validation_batch_size, validation_freq, validation_steps.

        Returns:
            One `keras.callbacks.History` of all phases, with `None` for what a phase does not log.

        Raises:
            ValueError: If an argument does not fit, as a backup of another model, or labels beyond the head's
                classes. All are looked at before anything is trained: those of a dataset while its features are
                computed or in a pass of its own, those of one without an end in the first `steps_per_epoch` batches.
        """
        unknown = [name for name in fit_arguments if name not in FIT_ARGUMENTS]
        if unknown:
            fail(f"`fit` takes {', '.join(FIT_ARGUMENTS)} beside its own; phases have epochs.", arguments=unknown)
        phases = _check_phases(default_phases() if phases is None else phases)
        check_integer("batch_size", batch_size, low=1)
        check_integer("seed", seed, low=0, optional=True)
        validation_size = fit_arguments.pop("validation_batch_size", None) or batch_size
        train = self._data("train", train, batch_size, shuffle)
        validation = (
            None if validation_data is None else self._data("validation_data", validation_data, validation_size)
        )
        seed = int(np.random.randint(2**31)) if seed is None else seed
        backup = None if backup_dir is None else Backup(backup_dir, self.trainer, phases)
        callbacks = Phase("all", 1, callbacks=callbacks).callbacks
        self.history = {}
        try:
            Run(self, phases, train, validation, seed, callbacks, backup, verbose, fit_arguments).go()
        finally:
            self._compile_for_use(phases[-1])
        return self.joined_history()

    def _data(self, name, data, batch_size, shuffle=False):
        arrays = to_arrays(name, data)
        data = data if arrays is None else Batches(arrays, batch_size, shuffle)
        check_labels(name, data, self.model, self.loss)
        return data

    def joined_history(self):
        """One `keras.callbacks.History` of all phases, with `None` for what a phase does not log."""
        return join(self.history.values())

    def plot(self, metrics=None):
        """Draws learning curves over all phases, with a line at each border between them.

        Args:
            metrics: Which ones, without "val_"; by default all that were logged.

        Returns:
            A matplotlib figure.
        """
        return draw(self.history, metrics)

    def summary(self, print_fn=print):
        """Prints the parts, what was done to join them, and what the phases have reached."""
        print_fn("\n".join(summary_lines(self)))


def _check_phases(phases):
    phases = [phases] if isinstance(phases, Phase) else list(phases) if isinstance(phases, (list, tuple)) else phases
    if not isinstance(phases, list) or not phases or not all(isinstance(phase, Phase) for phase in phases):
        fail("`phases` must be a list of `Phase`.", phases=phases)
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        fail("`phases` must have different names.", phases=names)
    return phases
