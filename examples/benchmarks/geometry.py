"""What is aimed at for warps and policies, from the milliseconds of `bench_layers.py` or `bench_gpu.py`."""

from benchmarking import verdict
from rows import FUSED, TWO_WARPS, WARP

POLICY = "RandAugment"


def cells_of(found):
    """{(size, dtype, mode, layer): {who: row}} of those that have a row of ours."""
    cells = {}
    for row in found:
        cells.setdefault((row["size"], row["dtype"], row["mode"], row["layer"]), {})[row["who"]] = row
    return {key: cell for key, cell in cells.items() if "keras_reg" in cell}


def geometry_targets(cells):
    """Prints and returns the verdicts. `cells` is {(size, dtype, mode, layer): {who: row}}, with our row in each."""
    beside = {key: cell for key, cell in cells.items() if key[3] == WARP and len(cell) > 1}
    warps = [(_name(key), _ours(cell), 1.5 * min(_others(cell))) for key, cell in beside.items()]
    keras_own = [
        (_name(key), _ours(cell), cell["Keras"]["ms"] / 5)
        for key, cell in cells.items()
        if key[3] == POLICY and "Keras" in cell
    ]
    return [
        verdict("one warp within 1.5 times the fastest other one, ms", warps),
        verdict("flip, affine and crop in a Pipeline at most 1.3 times one warp", list(_to_warp(cells, FUSED, 1.3))),
        verdict("two affine maps in a Pipeline at most 1.5 times one warp", list(_to_warp(cells, TWO_WARPS, 1.5))),
        verdict("a policy of two operations at most 3 times one warp", list(_to_warp(cells, POLICY, 3.0))),
        verdict("RandAugment at least 5 times as fast as Keras', ms", keras_own),
    ]


def _to_warp(cells, layer, limit):
    """The times over that of one warp which took turns with the layer or, in older rows, was timed before it."""
    for key, cell in cells.items():
        before = cells.get((*key[:3], WARP))
        warp = cell["keras_reg"].get("warp") or (before and _ours(before))
        if key[3] == layer and warp:
            yield _name(key), _ours(cell) / warp, limit


def _ours(cell):
    return cell["keras_reg"]["ms"]


def _others(cell):
    return [row["ms"] for who, row in cell.items() if who != "keras_reg"]


def _name(key):
    return ", ".join(key[:3])
