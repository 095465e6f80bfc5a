import numpy as np

from keras_reg._validation import check_choice, fail
from keras_reg.callbacks._gradient_arguments import check_globs, matches


def plot_flow(history, kind, statistic, include, ax):
    """A line a record, from dark to light as training goes on; a point a weight, in the order of the model."""
    check_choice("kind", kind, tuple(history))
    check_choice("statistic", statistic, ("norm", "zero_fraction", "non_finite"))
    check_globs(include)
    records = history[kind]
    paths = [path for path in (records[0]["variables"] if records else ()) if matches(path, include)]
    if not paths:
        fail("There is nothing to draw: no record of this kind, or no weight that matches.", kind=kind, include=include)
    plt = _pyplot()
    ax = ax or plt.subplots(figsize=(max(6, 0.28 * len(paths) + 2), 4.5), layout="constrained")[1]
    for record, color in zip(records, plt.colormaps["viridis"](np.linspace(0, 0.9, len(records))), strict=True):
        values = np.array([record["variables"].get(path, {}).get(statistic, np.nan) for path in paths], "float64")
        if statistic == "norm":  # 0 has no place on a logarithmic axis: the line is broken there
            values[values == 0] = np.nan
        first_or_last = record is records[0] or record is records[-1]
        label = f"epoch {record['epoch'] + 1}, step {record['step'] + 1}" if first_or_last else None
        ax.plot(values, ".-", color=color, label=label)
    ax.set_xticks(range(len(paths)), paths, rotation=90, fontsize="small")
    ax.set_ylabel(f"{statistic.replace('_', ' ')} of {kind}")
    if statistic == "norm" and any(np.isfinite(line.get_ydata()).any() for line in ax.get_lines()):
        ax.set_yscale("log")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("`plot` needs matplotlib: pip install matplotlib") from error
    return plt
