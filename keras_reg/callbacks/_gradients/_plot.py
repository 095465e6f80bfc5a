import numpy as np

from keras_reg._validation import check_choice, fail
from keras_reg.callbacks._gradients._arguments import check_globs, matches


def plot_flow(history, kind, statistic, include, ax):
    """Draws one line per record, from dark to light as training proceeds, with one point per weight in model order."""
    check_choice("kind", kind, tuple(history))
    check_choice("statistic", statistic, ("norm", "zero_fraction", "non_finite"))
    check_globs(include)
    records = history[kind]
    paths = [path for path in (records[0]["variables"] if records else ()) if matches(path, include)]
    if not paths:
        fail(
            "Nothing to draw: `history` must have a record of this kind, and `include` must match a weight in it.",
            kind=kind,
            include=include,
        )
    plt = _pyplot()
    ax = ax or plt.subplots(figsize=(max(6, 0.28 * len(paths) + 2), 4.5), layout="constrained")[1]
    for record, color in zip(records, plt.colormaps["viridis"](np.linspace(0, 0.9, len(records))), strict=True):
        values = np.array([record["variables"].get(path, {}).get(statistic, np.nan) for path in paths], "float64")
        if statistic == "norm":  # a logarithmic axis cannot show 0: the line is broken there
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
        raise ImportError("`plot` needs matplotlib. Install it with `pip install matplotlib`.") from error
    return plt
