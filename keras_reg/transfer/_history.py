"""The histories of phases, joined and plotted."""

import io

import keras

from keras_reg._validation import fail


class AlignedHistory(keras.callbacks.History):
    """A `History` with one entry per epoch: `None` for values that were not logged, as with `validation_freq`."""

    def __init__(self):
        super().__init__()
        self.epoch, self.history = [], {}  # Keras sets them when training begins, which an error may prevent

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for name, values in self.history.items():
            missing = [None] * (len(self.epoch) - len(values))
            self.history[name] = [*values[:-1], *missing, values[-1]] if name in (logs or {}) else [*values, *missing]


def make_history(epoch, logs):
    """Returns a `History` with these epochs and logs."""
    history = AlignedHistory()
    history.epoch, history.history = list(epoch), {name: list(values) for name, values in logs.items()}
    return history


def join(histories):
    """Returns one `History` of all phases, with `None` for values that a phase did not log."""
    histories = list(histories)
    names = list(dict.fromkeys(name for history in histories for name in history.history))
    logs = {name: [] for name in names}
    for history in histories:
        for name in names:
            logs[name] += history.history.get(name, [None] * len(history.epoch))
    return make_history(range(sum(len(history.epoch) for history in histories)), logs)


def draw(histories, metrics=None):
    """Plots learning curves over all phases, with a line between them, and returns the Matplotlib figure.

    Args:
        histories: {name of a phase: `History`}.
        metrics: Names without "val_"; by default the loss and all logged metrics.
    """
    joined = join(histories.values()).history
    known = list(dict.fromkeys(name.removeprefix("val_") for name in joined if not name.startswith("learning_rate")))
    chosen = known if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    if not chosen or not set(chosen) <= set(joined):
        fail(f"`metrics` must be among the logged values {known}.", metrics=metrics)
    figure = _figure(figsize=(4.6 * len(chosen), 3.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        for key, style in ((name, ":"), (f"val_{name}", "-")):
            if key in joined:
                points = [(epoch, value) for epoch, value in enumerate(joined[key], start=1) if value is not None]
                label = "validation" if key.startswith("val_") else "training"
                axis.plot(*zip(*points, strict=True), style, color="#d0402b", marker=".", label=label)
        _mark_phases(axis, histories)
        axis.set(xlabel="epoch", ylabel=name)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    return figure


def _figure(**options):
    """Returns a figure that a notebook shows once. One of pyplot would be shown twice, and a bare one as text."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("`plot` needs matplotlib. Install it with `pip install matplotlib`.") from error

    class Curves(Figure):
        def _repr_png_(self):
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return Curves(**options)


def _mark_phases(axis, histories):
    start = 0.5
    for number, (name, history) in enumerate(histories.items()):
        if number:
            axis.axvline(start, color="#888888", linestyle="--", linewidth=1)
        axis.annotate(name, (start, 1.01), xycoords=("data", "axes fraction"), fontsize=9, color="#555555")
        start += len(history.epoch)
