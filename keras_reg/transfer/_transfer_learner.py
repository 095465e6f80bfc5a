from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_reg._datasets import is_dataset
from keras_reg._renamed import renamed
from keras_reg._typing import Callbacks, Path, Tensors
from keras_reg._validation import check_flag, check_folder, fail, native
from keras_reg.transfer._arguments import joined_data
from keras_reg.transfer._assembly import assemble
from keras_reg.transfer._data import to_data
from keras_reg.transfer._history import draw, join
from keras_reg.transfer._objective import Objective
from keras_reg.transfer._phase import Phase, default_optimizer
from keras_reg.transfer._phase_backup import PhaseBackup
from keras_reg.transfer._plan import make_plan
from keras_reg.transfer._report import summary_lines
from keras_reg.transfer._run import Run


class TransferLearner:
    """Trains a new head on a pretrained backbone in phases: warm up the head, then fine-tune the backbone.

    The model is compiled again for each phase, so exactly the intended weights train on every backend. Batch
    normalizations of the backbone stay in inference mode. Weights keep their optimizer state from one phase to the
    next, other weights start with a new state, and velocities that contain the learning rate are scaled with it. While
    the whole backbone is frozen, its features are computed once. Weights that you froze stay frozen: single weights,
    such as LoRA's pretrained kernel, and layers that were frozen while others were trainable, unless a glob of a phase
    matches them. Afterwards the same layers are trainable as before, also after an error or an interruption.

    Args:
        backbone: A built `keras.Model` without the old head. Its weights are trained in place.
        head: The number of classes of a linear head that returns logits, or 1 for one binary logit; or a
            layer, a model or a list of layers. Feature maps are averaged over all positions if the head is, or begins
            with, a dense layer.
        preprocess: What comes before the backbone: `None`, a layer or function of the inputs, a `preprocess_input` of
            `keras.applications`, or "auto" to find that one by the name of the backbone. Inputs are then 0 to 255.
        augmentation: A layer for `keras_reg.training.RegularizedModel`. It sees raw images, in training only.
        loss: As in `compile`. With a number of classes it defaults to crossentropy from logits: for class ids or
            one-hot labels, whichever `fit` gets, and binary for one logit. If the head has no last activation, a
            crossentropy needs `from_logits=True`.
        metrics: As in `compile`. Defaults to `["accuracy"]` with a number of classes.
        **compile_arguments: auto_scale_loss, jit_compile, loss_weights, run_eagerly, steps_per_execution,
            weighted_metrics.

    Attributes:
        model: The plain model from raw inputs to outputs, without augmentation, compiled for `evaluate`.
        history: {name of a phase: its `keras.callbacks.History`} of the last `fit`.
        cache_memory: Number of bytes above which features are kept in a file.

    Raises:
        ValueError: If an argument is invalid or the parts do not fit together.

    Example:

    >>> backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")], name="net")
    >>> learner = keras_reg.transfer.TransferLearner(backbone, 2)
    >>> phases = [keras_reg.transfer.Phase("warm up", 2), keras_reg.transfer.Phase("all", 1, unfreeze="all")]
    >>> history = learner.fit((np.ones((4, 8, 8, 3)), np.array([0, 1, 0, 1])), phases=phases, verbose=0)
    >>> [len(history.epoch), *learner.history, learner.model.name]
    [3, 'warm up', 'all', 'net_transfer']
    """

    cache_memory = 2**30

    @renamed(head_or_num_classes="head")
    def __init__(
        self,
        backbone: keras.Model,
        head: int | keras.layers.Layer | Sequence[keras.layers.Layer],
        preprocess: Callable[..., Any] | str | None = None,
        augmentation: keras.layers.Layer | None = None,
        loss: Any = None,
        metrics: Any = None,
        **compile_arguments: Any,
    ) -> None:
        head = native(head)
        if loss is None and isinstance(head, (keras.layers.Layer, list, tuple)):
            fail("`loss` must be given if the head consists of layers.", loss=loss)
        self.parts = assemble(backbone, head, preprocess, augmentation)
        self.backbone, self.augmentation, self.model = backbone, augmentation, self.parts.model
        self._objective = Objective(self.parts, head, loss, metrics, compile_arguments)
        self._objective.compile_for_use(default_optimizer())
        self._finished = set()  # folders of the backups of trainings that are complete
        self.history = {}

    @property
    def loss(self) -> Any:
        """The loss: that of the constructor, or the one chosen by the labels of the last `fit`."""
        return self._objective.loss

    @property
    def metrics(self) -> Any:
        """The metrics, as in `compile`."""
        return self._objective.metrics

    @renamed(delete_backup="delete_checkpoint")
    def fit(
        self,
        train: Any = None,
        y: Tensors = None,
        sample_weight: Tensors = None,
        *,
        validation_data: Any = None,
        validation_split: float = 0.0,
        phases: Phase | Sequence[Phase] | None = None,
        backup_dir: Path | None = None,
        delete_checkpoint: bool = False,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        callbacks: Callbacks = (),
        verbose: int | str = "auto",
        **fit_arguments: Any,
    ) -> dict[str, keras.callbacks.History]:
        """Runs the phases, and prints before each of them what trains. Epochs are numbered across all phases.

        Args:
            train: Arrays of inputs, with `y`; (x, y) or (x, y, sample_weight) of arrays; or a dataset of such batches:
                tf.data, `PyDataset`, a `DataLoader`, or another iterable that can be iterated repeatedly. An iterator
                that can be used only once, such as a generator, needs `steps_per_epoch` for more than one phase.
            y: Labels, if `train` is only inputs: class ids, of shape (n,) or (n, 1), or one-hot. For one logit, 0
                and 1.
            sample_weight: One weight per example, if `train` is only inputs.
            validation_data: (x, y), (x, y, sample_weight) or a dataset; or `None`.
            validation_split: Fraction of the arrays to validate with instead, taken from their end before shuffling.
            phases: A `Phase` or a list of them, such as that of `suggest_phases`. By default the head is warmed up
                for 10 epochs with SGD(1e-3, momentum=0.9), then everything trains for 10 epochs with SGD(1e-4,
                momentum=0.9).
            backup_dir: Folder for backups of this training. Start the same program again after a crash, and it resumes
                at the phase and the epoch where it stopped. Backups are kept after the end, so nothing is lost if the
                process is killed before you have saved the model: the program, run again, gets the trained model at
                once. The next `fit` of the same learner starts over.
            delete_checkpoint: Whether to remove the backups at the end.
            batch_size: Batch size for arrays.
            shuffle: Whether arrays are shuffled, in a new order in each epoch.
            seed: Integer seed of these orders. By default it is drawn from NumPy's global generator, which
                `keras.utils.set_random_seed` seeds.
            callbacks: Callbacks of all phases.
            verbose: As in Keras' `fit`; 0 prints nothing.
            **fit_arguments: class_weight, steps_per_epoch, validation_batch_size, validation_freq, validation_steps.

        Returns:
            One `keras.callbacks.History` of all phases, with `None` for values that a phase does not log.

        Raises:
            ValueError: If an argument does not fit, such as the backup of another model, or labels that are not classes
                of the head. All labels are checked before training: those of a dataset while its features are
                computed or in a separate pass, those of an infinite dataset in the first `steps_per_epoch` batches.
                Labels of a generator are checked batch by batch.
        """
        x = fit_arguments.pop("x", None) if train is None else train
        plan = make_plan(
            joined_data("train", x, y, sample_weight),
            validation_data=validation_data,
            validation_split=validation_split,
            phases=phases,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            callbacks=callbacks,
            verbose=verbose,
            fit_arguments=fit_arguments,
            several_inputs=self._has_several_inputs,
        )
        delete_checkpoint = check_flag("delete_checkpoint", delete_checkpoint)
        backup_dir = check_folder("backup_dir", backup_dir, optional=True)
        plan.check_data(self._objective)
        backup = None if backup_dir is None else self._open_backup(backup_dir, plan.phases)
        self.history = {}
        try:
            Run(self.parts, self._objective, plan, backup, self.history, self.cache_memory).go()
        finally:
            self._objective.compile_for_use(plan.phases[-1].make_optimizer())
        if backup:
            self._finished.add(backup.directory)
            if delete_checkpoint:
                backup.remove()
        return self.joined_history()

    def _open_backup(self, directory, phases):
        """Returns the `PhaseBackup` in a folder, emptied if this learner has completed a training there."""
        backup = PhaseBackup(directory, self.parts.trainer, phases)
        if backup.directory in self._finished:
            backup.remove()
            self._finished.remove(backup.directory)
        return backup

    @property
    def _has_several_inputs(self):
        return len(self.model.inputs) > 1

    def predict(self, x: Tensors, **arguments: Any) -> Any:
        """Calls `model.predict`, which returns the outputs of the head for raw inputs, logits by default."""
        return self.model.predict(x, **arguments)

    def evaluate(self, x: Tensors = None, y: Tensors = None, **arguments: Any) -> Any:
        """Calls `model.evaluate`; `x` may also be a pair (x, y). Labels in arrays are checked as in `fit`."""
        if isinstance(x, (tuple, list)) or not is_dataset(x):
            pair, name = (x, "x") if y is None else ((x, y), "y")
            x, y, *weight = to_data("x", pair, 1, several_inputs=self._has_several_inputs).arrays
            arguments |= {"sample_weight": weight[0]} if weight else {}
            self._objective.check_labels(name, y)
        return self.model.evaluate(x, y, **arguments)

    def joined_history(self) -> keras.callbacks.History:
        """One `keras.callbacks.History` of all phases, with `None` for values that a phase does not log."""
        return join(self.history.values())

    def plot(self, metrics: Any = None) -> Any:
        """Plots learning curves over all phases, with a line between the phases.

        Args:
            metrics: Names of metrics without "val_"; by default all that were logged.

        Returns:
            A Matplotlib figure.
        """
        return draw(self.history, metrics)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints the parts, how they were joined, and the last values of each phase."""
        print_fn("\n".join(summary_lines(self.parts, self.history)))
