from types import MappingProxyType

import keras

from keras_reg._validation import check_integer, fail
from keras_reg.callbacks._gradient_arguments import check_arguments
from keras_reg.callbacks._gradient_bins import signed_log_edges
from keras_reg.callbacks._gradient_events import EventWriter
from keras_reg.callbacks._gradient_plot import plot_flow
from keras_reg.callbacks._gradient_records import weights_record
from keras_reg.callbacks._gradient_watcher import GradientWatcher


@keras.saving.register_keras_serializable(package="keras_reg")
class GradientHistograms(GradientWatcher):
    """Shows the gradients that the optimizer receives in training, weight by weight: do they vanish, do they explode?

    They are those of the training step itself, there is no second backward pass: summed over all replicas, without the
    loss scale, before clipping; with gradient accumulation, those of one micro-batch. Their histograms and norms are
    made on the device. With `every="epoch"` the first step of each epoch is watched. A step that a loss-scaled
    optimizer skips, because something in it is not finite, is not shown: the next one is, and the skipped are counted.

    Only the steps that are watched differ from those without this callback; they are compiled apart, once. At all other
    times the model has its own optimizer and its own compiled step, also after an error or an interrupt in `fit`, and
    what is saved holds nothing of this package.

    TensorBoard shows `gradients/<path>`, `weights/<path>` and `probe/<path>`, and of gradients `gradients_log10/<path>`
    too, the orders of magnitude of all that is not 0: TensorBoard's axis is linear, and there vanished gradients are
    one line at 0. Among its scalars are `gradients_norm/<path>` and `gradients_norm/all`.

    Args:
        log_dir: Folder for TensorBoard event files, or `None`. Needs tensorboardX (`pip install
            keras-reg[tensorboard]`), not TensorFlow. TensorBoard's steps are epochs with `every="epoch"`, else steps.
        every: "epoch", or every how many training steps to watch one. With `steps_per_execution`, the first step of an
            execution.
        bins: Number of buckets, even. They are spaced evenly in the logarithm from 1e-15 to 1e3 for either sign: see
            `edges`. Weights have as many of one width.
        include: Glob, or list of globs, on the paths of weights in the model, such as `"*/kernel"`. `None` takes all.
        norms: Whether the event files have the norms, shares of zeros and counts of values that are not finite, too.
        weights: Whether weights are shown, too, moving statistics included: at the end of each epoch, or after the step
            that is watched.
        probe: `(x, y)` or `(x, y, sample_weight)`: a batch whose gradients are shown, too, whenever the weights are.
            They are what a training step on it would give the optimizer (dropout included); nothing is updated.

    Attributes:
        history: Dict of "gradients", "weights" and "probe", each a list of records: dicts with "epoch", "step" (of the
            optimizer), "global_norm" and "variables". The latter has, by the path of each weight, "counts", "norm",
            "min", "max", "mean", "zero_fraction", "non_finite" and "size"; all but the last three are over the finite
            values, and for weights there are the "edges" of "counts". Records of gradients have "batch", "applied"
            (`False` where all steps left were skipped) and "skipped_steps" (so far), too.
        edges: The edges of the buckets of gradients, from -inf to inf, as `numpy.histogram` takes them.
        skipped_steps: How many steps a loss-scaled optimizer has skipped.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if `include` matches no weight.
        ImportError: If there is a `log_dir` and tensorboardX is missing.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile("sgd", "mse")
    >>> gradients = keras_reg.callbacks.GradientHistograms()
    >>> history = model.fit(np.ones((4, 1)), np.zeros((4, 1)), callbacks=[gradients], verbose=0)
    >>> gradients.history["gradients"][0]["global_norm"]
    2.0

    References:
        Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward neural networks: histograms
        of gradients by layer, to see them vanish.
    """

    OF_FIT = MappingProxyType({**GradientWatcher.OF_FIT, "_writer": None})

    def __init__(self, log_dir=None, every="epoch", bins=64, include=None, norms=True, weights=True, probe=None):
        every, bins, include, norms, weights = check_arguments(log_dir, every, bins, include, norms, weights, probe)
        self.log_dir = log_dir
        self.every = every
        self.bins = bins
        self.include = include
        self.norms = norms
        self.weights = weights
        self.probe = probe
        self.edges = signed_log_edges(bins)
        self._writer = None
        super().__init__()

    def reset(self):
        super().reset()
        self.history = {"gradients": [], "weights": [], "probe": []}

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _keep_gradients(self, record):
        self._add("gradients", record)

    def _keep_state(self, **place):
        if self.weights:
            self._add("weights", weights_record(self.model, self.include, self.bins, **place))
        if self.probe is not None:
            self._add("probe", self._watch_batch(self.model, self.probe, **place))

    def _add(self, kind, record):
        self.history[kind].append(record)
        if self.log_dir is not None:
            self._writer = self._writer or EventWriter(self.log_dir)
            x = record["epoch" if self.every == "epoch" else "step"]
            self._writer.write(kind, record, self.edges, x, self.norms)

    def measure(self, model, x, y=None, sample_weight=None, step=0):
        """The gradients that a training step of `model` on this batch would give its optimizer; nothing is updated.

        Args:
            model: A compiled model, trained or not.
            x, y, sample_weight: The batch, as for `model.train_on_batch`.
            step: TensorBoard's step, if there is a `log_dir`.

        Returns:
            The record, which is also added to `history["probe"]`.
        """
        if not isinstance(model, keras.Model):
            fail("`model` must be a `keras.Model`.", model=model)
        if not model.built or not isinstance(getattr(model, "optimizer", None), keras.optimizers.Optimizer):
            fail(
                "`model` must be built, and compiled with a Keras optimizer and a loss, whose gradients are measured. "
                'Call `model.compile("sgd", loss)` first.',
                model=model.name,
                built=model.built,
                compiled=model.compiled,
            )
        step = check_integer("step", step)
        self._add("probe", self._watch_batch(model, (x, y, sample_weight), epoch=step, step=step))
        return self.history["probe"][-1]

    def plot(self, kind="gradients", statistic="norm", include=None, ax=None):
        """Draws one line a record, a point a weight in the order of the model: the gradient flow through the layers.

        Args:
            kind: "gradients", "weights" or "probe".
            statistic: "norm", "zero_fraction" or "non_finite".
            include: Glob, or list of globs, on the paths of weights, such as `"*kernel"`.
            ax: Axes of matplotlib to draw on; new ones by default.

        Returns:
            The axes.
        """
        return plot_flow(self.history, kind, statistic, include, ax)

    def get_config(self):
        names = ("log_dir", "every", "bins", "include", "norms", "weights", "probe")
        return {name: getattr(self, name) for name in names}
