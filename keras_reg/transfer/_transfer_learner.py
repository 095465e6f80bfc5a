import keras
import numpy as np

from keras_reg._renamed import renamed
from keras_reg._validation import check_choice, check_flag, check_integer, check_number, fail, is_integer, native
from keras_reg.training import RegularizedModel
from keras_reg.transfer._arguments import (
    ACCURACIES,
    accuracy_of_logits,
    as_list,
    check_compile_arguments,
    check_fit_arguments,
    check_folder,
    check_phases,
    joined_data,
)
from keras_reg.transfer._assembly import assemble
from keras_reg.transfer._backup import Backup
from keras_reg.transfer._data import Stream, check_inputs, first_batch, split, to_data
from keras_reg.transfer._history import draw, join
from keras_reg.transfer._labels import check_batch
from keras_reg.transfer._phase import check_callbacks
from keras_reg.transfer._report import summary_lines
from keras_reg.transfer._run import Run
from keras_reg.transfer._suggest_phases import default_phases
from keras_reg.transfer._targets import check_loss, check_outputs, default_loss, target_of


class TransferLearner:
    """A new head on a pretrained backbone, trained in phases: warm up the head, then fine-tune.

    The model is compiled again for each phase, so that exactly the intended weights train on every backend. Batch
    normalizations of the backbone stay in inference mode. Weights keep their optimizer state from one phase to the
    next, new ones start with a new state, and velocities that contain the learning rate are scaled with it. While
    nothing of the backbone trains, its features are computed once. Weights that you froze stay frozen: single weights,
    such as LoRA's pretrained kernel, and layers that were frozen while others were trainable, unless a glob of a phase
    names them. Afterwards the same layers are trainable as before, also after an error or an interruption.

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
        metrics: As in `compile`. Defaults to ["accuracy"] with a number of classes.
        **compile_arguments: auto_scale_loss, jit_compile, loss_weights, run_eagerly, steps_per_execution,
            weighted_metrics.

    Attributes:
        model: The plain model, raw inputs to outputs, without augmentation. It is compiled for `evaluate`.
        history: {name of a phase: its `keras.callbacks.History`} of the last `fit`.
        cache_memory: Features that take more bytes than this are kept in a file.

    Raises:
        ValueError: If an argument is invalid, or the parts do not fit together.

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
        backbone,
        head,
        preprocess=None,
        augmentation=None,
        loss=None,
        metrics=None,
        **compile_arguments,
    ):
        head = native(head)
        if loss is None and isinstance(head, (keras.layers.Layer, list, tuple)):
            fail("`loss` must be given with a head of layers.", loss=loss)
        self.backbone = backbone
        self.parts = assemble(backbone, head, preprocess)
        self.augmentation = augmentation
        self._loss_is_chosen = loss is None
        self._is_one_logit = is_integer(head) and head == 1
        self.loss = default_loss("shares" if self._is_one_logit else "ids") if loss is None else check_loss(loss)
        check_outputs(self.parts.head, self.loss)
        self.metrics = ["accuracy"] if metrics is None and is_integer(head) else as_list(metrics)
        self.compile_arguments = check_compile_arguments(compile_arguments)
        self.model = self.parts.model
        self.trainer = self.model if augmentation is None else RegularizedModel(self.model, augmentation)
        self.history = {}
        self._finished = set()
        self._compile_for_use(default_phases()[0])

    @property
    def target(self):
        """What the loss expects of labels."""
        return target_of(self.model, self.loss, self._loss_is_chosen)

    def _compile_for_use(self, phase):
        """So that `evaluate` and saving work: with a new optimizer, built, for Keras loads no other."""
        optimizer = phase.make_optimizer()
        self.compile(self.model, type(optimizer).from_config(optimizer.get_config()))
        self.model.optimizer.build(self.model.trainable_variables)

    def compile(self, model, optimizer):
        """Compiles one of the models that share the weights; `fit` does so for each phase."""
        metrics = self.metrics
        if self._is_one_logit and isinstance(metrics, list):
            metrics = [accuracy_of_logits(metric) if metric in ACCURACIES else metric for metric in metrics]
        model.compile(optimizer=optimizer, loss=self.loss, metrics=metrics, **self.compile_arguments)

    @renamed(delete_backup="delete_checkpoint")
    def fit(
        self,
        train=None,
        y=None,
        sample_weight=None,
        *,
        validation_data=None,
        validation_split=0.0,
        phases=None,
        backup_dir=None,
        delete_checkpoint=False,
        batch_size=32,
        shuffle=True,
        seed=None,
        callbacks=(),
        verbose="auto",
        **fit_arguments,
    ):
        """Runs the phases, and prints before each what trains in it. Epochs are numbered across all phases.

        Args:
            train: Arrays of inputs, with `y`; (x, y) or (x, y, sample_weight) of arrays; or a dataset of such batches:
                tf.data, `PyDataset`, a `DataLoader`, or another iterable that can be iterated repeatedly. An iterator
                that can be used only once, such as a generator, needs `steps_per_epoch` for more than one phase.
            y: Labels, if `train` is only inputs: class ids, of shape (n,) or (n, 1), or one-hot. One logit takes 0
                and 1.
            sample_weight: A weight for each example, if `train` is only inputs.
            validation_data: (x, y), (x, y, sample_weight) or a dataset; or `None`.
            validation_split: Share of the arrays to validate with instead, taken from their end before shuffling.
            phases: List of `Phase`, such as that of `suggest_phases`. By default the head is warmed up for 10 epochs
                with SGD(1e-3, momentum=0.9), then everything trains for 10 with SGD(1e-4, momentum=0.9).
            backup_dir: Folder for backups of this training. Start the same program again after a crash, and it
                continues in the phase and at the epoch where it stopped. Backups are kept after the end, so that a kill
                before you have saved the model loses nothing: the program, run again, gets the trained model at once.
                The next `fit` of the same learner starts over.
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
            ValueError: If an argument does not fit, such as the backup of another model or labels that the head has no
                classes for. All labels are checked before training: those of a dataset while its features are
                computed or in a separate pass, those of an infinite dataset in the first `steps_per_epoch` batches.
                Labels of a generator are checked batch by batch.
        """
        given = joined_data("train", fit_arguments.pop("x", None) if train is None else train, y, sample_weight)
        fit_arguments = check_fit_arguments(fit_arguments)
        phases = check_phases(default_phases() if phases is None else phases)
        batch_size = check_integer("batch_size", batch_size, low=1)
        seed = check_integer("seed", seed, low=0, optional=True)
        shuffle, delete_checkpoint = check_flag("shuffle", shuffle), check_flag("delete_checkpoint", delete_checkpoint)
        verbose = check_choice("verbose", int(verbose) if isinstance(verbose, bool) else verbose, ("auto", 0, 1, 2))
        callbacks = check_callbacks(callbacks)
        backup = self._backup(backup_dir, phases)
        validation_size = fit_arguments.pop("validation_batch_size", None) or batch_size
        train = to_data("train", given, batch_size, shuffle, self._has_several_inputs)
        if validation_split := check_number("validation_split", validation_split, 0, 1, open_high=True):
            if validation_data is not None:
                fail("`validation_split` must be 0 if `validation_data` is given.", validation_split=validation_split)
            train, validation = split(train, validation_split, validation_size)
        else:
            validation = validation_data
            if validation is not None:
                several = self._has_several_inputs
                validation = to_data("validation_data", validation, validation_size, several_inputs=several)
        self._check_data(train, validation, phases, fit_arguments)
        seed = int(np.random.randint(2**31)) if seed is None else seed
        self.history = {}
        try:
            Run(self, phases, train, validation, seed, callbacks, backup, verbose, fit_arguments).go()
        finally:
            self._compile_for_use(phases[-1])
        if backup:
            self._finished.add(backup.directory)
            if delete_checkpoint:
                backup.remove()
        return self.joined_history()

    def _backup(self, directory, phases):
        """The `Backup` in a folder; one that this learner has finished there is taken away."""
        if directory is None:
            return None
        backup = Backup(check_folder("backup_dir", directory), self.trainer, phases)
        if backup.directory in self._finished:
            backup.remove()
            self._finished.remove(backup.directory)
        return backup

    @property
    def _has_several_inputs(self):
        return len(self.model.inputs) > 1

    def _check_data(self, train, validation, phases, fit_arguments):
        """Looks at the first batches, and chooses the loss by the form of the labels where none was given."""
        labels = first_batch(train)[1]
        if self._loss_is_chosen and not self._is_one_logit and labels is not None:
            one_hot = np.shape(labels) and np.ndim(labels) == 2 and np.shape(labels)[-1] != 1
            self.loss = default_loss("distributions" if one_hot else "ids")
        self._look_at("train", train)
        if validation is not None:
            self._look_at("validation_data", validation)
        epochs = sum(phase.epochs for phase in phases)
        for name, data, steps, passes in (
            ("train", train, "steps_per_epoch", len(phases)),
            ("validation_data", validation, "validation_steps", epochs),
        ):
            if isinstance(data, Stream) and passes > 1 and not fit_arguments.get(steps):
                fail(f"`{name}` can be iterated only once, so `{steps}` must be given.", **{steps: None})

    def _look_at(self, name, data):
        x, y, _ = first_batch(data)
        check_inputs(name, x, self.model)
        check_batch(name, y, self.target)

    def predict(self, x, **arguments):
        """Calls `model.predict`, which returns the outputs of the head for raw inputs, logits by default."""
        return self.model.predict(x, **arguments)

    def evaluate(self, x=None, y=None, **arguments):
        """Calls `model.evaluate`; `x` may also be a pair (x, y)."""
        if y is None and isinstance(x, (tuple, list)):
            x, y, *weight = to_data("x", x, 1, several_inputs=self._has_several_inputs).arrays
            arguments |= {"sample_weight": weight[0]} if weight else {}
        return self.model.evaluate(x, y, **arguments)

    def joined_history(self):
        """One `keras.callbacks.History` of all phases, with `None` for values that a phase does not log."""
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
