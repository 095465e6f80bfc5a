"""TensorBoard event files, written without TensorFlow."""

import math
import os

import numpy as np


def import_tensorboardx():
    """`tensorboardX`, or an error that says how to get it."""
    try:
        import tensorboardX
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs tensorboardX, which writes the event files: pip install keras-reg[tensorboard]"
        ) from error
    return tensorboardX


class EventWriter:
    """Histograms and scalars in one event file in `log_dir`, readable after every `write`."""

    def __init__(self, log_dir):
        self.writer = import_tensorboardx().SummaryWriter(os.fspath(log_dir))

    def write(self, kind, record, edges, step, norms):
        """One record of the callback's history."""
        for path, found in record["variables"].items():
            self.histogram(f"{kind}/{path}", found, found.get("edges", edges), step)
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
        """`found` as the callback's history has it, with the edges of its buckets."""
        filled = np.flatnonzero(found["counts"])
        if not filled.size:
            return
        # TensorBoard takes the minimum for the left edge of the first bucket and the maximum for the right one of the
        # last, so that both must hold something.
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
