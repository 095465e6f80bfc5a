from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal

import keras

from keras_reg._typing import Config, Logs, Path, Tensors
from keras_reg._validation import check_integer, fail
from keras_reg.callbacks._gradients._arguments import check_arguments
from keras_reg.callbacks._gradients._buckets import signed_log_edges
from keras_reg.callbacks._gradients._callback import GradientWatcher
from keras_reg.callbacks._gradients._history import weights_record
from keras_reg.callbacks._gradients._plot import plot_flow
from keras_reg.callbacks._gradients._tensorboard import EventWriter


@keras.saving.register_keras_serializable(package="keras_reg")
class GradientHistograms(GradientWatcher):
    """Records the gradients that the optimizer receives in training, for each weight, to see if they vanish or explode.

    The gradients are those of the training step itself, without a second backward pass: summed over all replicas,
    without the loss scale, before clipping; with gradient accumulation, those of one micro-batch. Histograms and norms
    are computed on the device. With `every="epoch"`, the first step of each epoch is watched. If a loss-scaled
    optimizer skips that step because a gradient is not finite, the next step is watched instead, and the skipped steps
    are counted.

    Only the watched steps differ from those without this callback; they are compiled separately, once. At all other
    times the model has its own optimizer and its own compiled step, also after an error or an interrupt in `fit`, and
    saved files contain nothing of this package.

    TensorBoard shows `gradients/<path>`, `weights/<path>` and `probe/<path>`. Its axis is linear, where vanished
    gradients are a single line at 0, so it also shows `gradients_log10/<path>`, the orders of magnitude of all
    gradients other than 0. Its scalars include `gradients_norm/<path>` and `gradients_norm/all`.

    Args:
        log_dir: Folder for TensorBoard event files, or `None`. This needs tensorboardX (`pip install
            keras-reg[tensorboard]`), not TensorFlow. TensorBoard's steps are epochs with `every="epoch"`, else steps.
        every: "epoch", or an integer n to watch one in n training steps. With `steps_per_execution`, the first step of
            an execution is watched.
        bins: Number of buckets, even. For gradients they are logarithmic, from 1e-15 to 1e3 for each sign: see
            `edges`. Those of weights have equal width.
        include: Glob, or list of globs, for the paths of weights in the model, such as `"*/kernel"`. `None` includes
            all weights.
        norms: Whether the event files also contain norms, fractions of zeros and counts of non-finite values.
        weights: Whether to record the weights too, moving statistics included: at the end of each epoch, or after each
            watched step.
        probe: `(x, y)` or `(x, y, sample_weight)`: a batch whose gradients are recorded whenever the weights are. They
            are those that a training step on it would give the optimizer (dropout included); nothing is updated.

    Attributes:
        history: Dict of "gradients", "weights" and "probe", each a list of records: dicts with "epoch", "step" (of the
            optimizer), "global_norm" and "variables". "variables" maps the path of each weight to a dict of "counts",
            "norm", "min", "max", "mean", "zero_fraction", "non_finite" and "size". All but the last three describe the
            finite values only. Those of weights also have the "edges" of "counts". Records of gradients also have
            "batch", "applied" (`False` if all remaining steps were skipped) and "skipped_steps" (so far).
        edges: The edges of the buckets of gradients, from -inf to inf, as `numpy.histogram` takes them.
        skipped_steps: Number of steps that a loss-scaled optimizer has skipped.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if `include` matches no weight.
        ImportError: If `log_dir` is given and tensorboardX is missing.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile("sgd", "mse")
    >>> gradients = keras_reg.callbacks.GradientHistograms()
    >>> history = model.fit(np.ones((4, 1)), np.zeros((4, 1)), callbacks=[gradients], verbose=0)
    >>> gradients.history["gradients"][0]["global_norm"]
    2.0

    References:
        Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward neural networks, who show
        vanishing gradients in histograms by layer.
    """

    OF_FIT = MappingProxyType({**GradientWatcher.OF_FIT, "_writer": None})

    def __init__(
        self,
        log_dir: Path | None = None,
        every: int | Literal["epoch"] = "epoch",
        bins: int = 64,
        include: str | Sequence[str] | None = None,
        norms: bool = True,
        weights: bool = True,
        probe: Tensors = None,
    ) -> None:
        super().__init__()
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

    def reset(self) -> None:
        super().reset()
        self.history = {"gradients": [], "weights": [], "probe": []}

    def on_train_end(self, logs: Logs = None) -> None:
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

    def measure(
        self, model: keras.Model, x: Tensors, y: Tensors = None, sample_weight: Tensors = None, step: int = 0
    ) -> dict[str, Any]:
        """Measures the gradients that a training step on this batch would give the optimizer. Nothing is updated.

        Args:
            model: A compiled model, trained or not.
            x, y, sample_weight: The batch, as for `model.train_on_batch`.
            step: Step for TensorBoard, if `log_dir` is given.

        Returns:
            The record, which is also added to `history["probe"]`.
        """
        if not isinstance(model, keras.Model):
            fail("`model` must be a `keras.Model`.", model=model)
        if not model.built or not isinstance(getattr(model, "optimizer", None), keras.optimizers.Optimizer):
            fail(
                "`model` must be built, and compiled with a Keras optimizer and a loss. Call "
                '`model.compile("sgd", loss)` first.',
                model=model.name,
                built=model.built,
                compiled=model.compiled,
            )
        step = check_integer("step", step)
        self._add("probe", self._watch_batch(model, (x, y, sample_weight), epoch=step, step=step))
        return self.history["probe"][-1]

    def plot(
        self,
        kind: Literal["gradients", "weights", "probe"] = "gradients",
        statistic: Literal["norm", "zero_fraction", "non_finite"] = "norm",
        include: str | Sequence[str] | None = None,
        ax: Any = None,
    ) -> Any:
        """Plots the gradient flow through the layers: one line per record, one point per weight in model order.

        Args:
            kind: "gradients", "weights" or "probe".
            statistic: "norm", "zero_fraction" or "non_finite".
            include: Glob, or list of globs, for the paths of weights, such as `"*kernel"`.
            ax: Matplotlib axes to draw on; new ones by default.

        Returns:
            The Matplotlib axes.
        """
        return plot_flow(self.history, kind, statistic, include, ax)

    def get_config(self) -> Config:
        return self._arguments_of(GradientHistograms)
