"""TensorBoard event files, written without TensorFlow."""

import math
import os

import numpy as np


def import_tensorboardx():
    """Imports `tensorboardX`, or raises an error that says how to install it."""
    try:
        import tensorboardX
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs the package tensorboardX, which writes the event files. Install it with "
            "`pip install keras-reg[tensorboard]`."
        ) from error
    return tensorboardX


def magnitudes(found, edges):
    """Returns the histogram of log10 of a gradient's magnitude, without the zeros, and its edges.

    TensorBoard's axis is linear, so a histogram of the gradient itself shows only the largest values and a peak at 0.
    """
    half = len(edges) // 2
    counts = found["counts"][half:] + found["counts"][:half][::-1]
    counts[0] -= round(found["zero_fraction"] * found["size"])
    logs = np.log10(edges[half + 1 : -1].astype("float64"))
    logs = np.array([2 * logs[0] - logs[1], *logs, 2 * logs[-1] - logs[-2]])
    middles, filled = (logs[:-1] + logs[1:]) / 2, np.append(np.flatnonzero(counts), 0)
    return {
        "counts": counts,
        "min": logs[filled[0]],
        "max": logs[filled[-2:].max() + 1],
        "mean": middles @ counts / max(counts.sum(), 1),
        "norm": np.sqrt(middles**2 @ counts),
        "non_finite": 0,
        "size": counts.sum(),
    }, logs


class EventWriter:
    """Histograms and scalars in one event file in `log_dir`, readable after every `write`."""

    def __init__(self, log_dir):
        self.writer = import_tensorboardx().SummaryWriter(os.fspath(log_dir))

    def write(self, kind, record, edges, step, norms):
        """Writes one record of the callback's history."""
        for path, found in record["variables"].items():
            self.histogram(f"{kind}/{path}", found, found.get("edges", edges), step)
            if "edges" not in found:
                self.histogram(f"{kind}_log10/{path}", *magnitudes(found, edges), step)
            if norms:
                for name in ("norm", "zero_fraction", "non_finite"):
                    self.scalar(f"{kind}_{name}/{path}", found[name], step)
        if norms:
            self.scalar(f"{kind}_norm/all", record["global_norm"], step)
        if "skipped_steps" in record:
            self.scalar("skipped_steps", record["skipped_steps"], step)
        self.writer.flush()

    def scalar(self, tag, value, step):
        if math.isfinite(value):
            self.writer.add_scalar(tag, value, step)

    def histogram(self, tag, found, edges, step):
        """Writes one histogram; `found` is an entry of "variables" in a record of the callback's history."""
        filled = np.flatnonzero(found["counts"])
        if not filled.size:
            return
        # TensorBoard takes the minimum as the left edge of the first bucket and the maximum as the right edge of the
        # last, so neither may be empty.
        first, last = filled[0], filled[-1]
        seen = found["size"] - found["non_finite"]
        self.writer.add_histogram_raw(
            tag,
            min=found["min"],
            max=found["max"],
            num=seen,
            sum=found["mean"] * seen,
            sum_squares=found["norm"] ** 2,
            bucket_limits=np.minimum(edges[first + 1 : last + 2], np.finfo("float64").max).tolist(),
            bucket_counts=found["counts"][first : last + 1].tolist(),
            global_step=step,
        )

    def close(self):
        self.writer.close()
