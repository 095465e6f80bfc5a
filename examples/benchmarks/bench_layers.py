"""Milliseconds a batch of each augmentation layer beside Keras' own and other packages', on one backend.

    KERAS_BACKEND=jax python examples/benchmarks/bench_layers.py [--quick] [--json FILE]
    KERAS_BACKEND=jax python examples/benchmarks/bench_layers.py --rows MixUp --sizes 64x224x224x3 --modes jit

All take turns in one process; each number is the median over the turns, after warm-up. The limits are NumPy's copy of
the batch into a fresh array and into one that is there, and one elementwise pass in the same mode. What is compared
with what, and what differs, is in contenders.py.
"""

import statistics

import keras
import numpy as np
import peers
from benchmarking import BACKEND, by_turns, copies, parse, parser, save, verdict, works
from contenders import contenders, ours
from geometry import cells_of, geometry_targets
from modes import COMPILED, MODES, Contender, forget
from rows import BESIDE_WARP, CHAIN, LINKS, PER_BATCH, TARGETED, WARP, names

SIZES = ((256, 32, 32, 3), (64, 224, 224, 3), (8, 512, 512, 3))
QUICK = ((256, 32, 32, 3), (16, 224, 224, 3))
DTYPES = ("float32", "bfloat16", "uint8")
CLASSES = 10
LIMITS = {"fresh copy": "copy", "copy into": "copy_into", "malloc copy": "copy_malloc"}


def batch(shape, dtype, classes=CLASSES):
    """Images, one-hot labels and ids as NumPy arrays; NumPy has no bfloat16, so these are float32 still."""
    rng = np.random.default_rng(0)
    whole = dtype == "uint8"
    images = rng.integers(0, 256, shape, "uint8") if whole else rng.random(shape, "float32")
    ids = np.arange(shape[0]) % classes
    return images, np.eye(classes, dtype="float32")[ids], ids


def data_for(contender, arrays, dtype):
    images, labels, ids = arrays
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if contender.first else images
    labels = ids if contender.ids else labels
    return keras.ops.convert_to_tensor(images, dtype=dtype), keras.ops.convert_to_tensor(labels)


def one_pass(dtype):
    """The least that a layer does which reads and writes every pixel."""
    return Contender("pass", lambda x, y: (x + keras.ops.cast(1, dtype), y))


def measure(name, arrays, dtype, modes, seconds, rounds, limits=copies, times=1, without=()):
    """{(who, mode): milliseconds} of all contenders of a row and of the limits; waits after every `times` calls."""
    functions = {}
    forget()
    here = [contender for contender in contenders(name, dtype) if contender.who not in without]
    warp = [ours(WARP, dtype, who="warp")] if name in BESIDE_WARP else []
    for contender in [*here, one_pass(dtype), *warp]:
        data = data_for(contender, arrays, dtype)
        functions |= {
            (contender.who, mode): contender.call(mode, data, times) for mode in modes if mode in contender.modes
        }

    functions = works(functions, name)
    there = arrays[0].astype("uint16") if dtype in ("bfloat16", "float16") else arrays[0]
    functions |= {(limit, ""): copy for limit, copy in limits(there).items()}
    return {key: ms if key[0] in LIMITS else ms / times for key, ms in by_turns(functions, seconds, rounds).items()}


def rows_of(name, found, shape, dtype):
    copied = {key: found[limit, ""] for limit, key in LIMITS.items() if (limit, "") in found}
    cell = {"size": "x".join(map(str, shape)), "dtype": dtype, "layer": name}
    for (who, mode), ms in found.items():
        if who not in ("pass", "warp", *LIMITS):
            beside = {limit: found.get((limit, mode)) for limit in ("pass", "warp")}
            yield {**cell, "mode": mode, "who": who, "ms": ms, **beside, **copied}


def show(name, rows):
    for mode in dict.fromkeys(row["mode"] for row in rows):
        found = {row["who"]: row for row in rows if row["mode"] == mode}
        if "keras_reg" not in found:
            continue
        mine = found.pop("keras_reg")
        cells = f"{mine['ms']:9.2f}{mine['ms'] / mine['copy']:8.2f}{mine['ms'] / mine['pass']:8.2f}"
        others = [f"{who} {row['ms']:.1f} ({row['ms'] / mine['ms']:.1f})" for who, row in found.items()]
        print(f"  {name:36}{mode:8}{cells}   {', '.join(others)}", flush=True)


def table(shape, dtype, rows, modes, seconds, rounds):
    arrays = batch(shape, dtype)
    size, found = "x".join(map(str, shape)), []
    print(f"\n{BACKEND}, {dtype} {size}")
    print(f"  {'':36}{'':8}{'ms':>9}{'x copy':>8}{'x pass':>8}   others: ms (times ours)", flush=True)
    for name in rows:
        # torch.compile takes most of a minute for a row: once for those that matter
        compiles = dtype == "float32" and shape == SIZES[1] and name in (*TARGETED, CHAIN, WARP)
        here = [mode for mode in modes if mode != "compile" or compiles]
        made = list(rows_of(name, measure(name, arrays, dtype, here, seconds, rounds), shape, dtype))
        show(name, made)
        found += made
    if found:
        fresh, into, plain = (statistics.median(row[key] for row in found) for key in LIMITS.values())
        print(
            f"  {'copy of the batch':44}{fresh:9.2f}, into memory of malloc {plain:.2f}, into what is there {into:.2f}"
        )
    return found


# What is aimed at ---------------------------------------------------------------------------------------------------


def targets(found):
    """Prints and returns which targets are met; two cores of a CPU are what they are meant for."""
    cells = cells_of(found)
    ours = {key: cell["keras_reg"] for key, cell in cells.items()}
    print(f"\nTargets on {BACKEND}")
    made = []
    for text, side, modes, limit in (
        ("compiled, 224x224: at most 1.2 fresh copies", 224, COMPILED[:3], 1.2),
        ("compiled, 32x32: at most 3 fresh copies", 32, COMPILED[:3], 3.0),
        ("PyTorch eager, 224x224: at most 2.5 fresh copies", 224, ("eager",), 2.5),
    ):
        if (modes == ("eager",)) == (BACKEND == "torch"):
            chosen = {k: row for k, row in ours.items() if f"x{side}x{side}x" in k[0] and k[2] in modes}
            chosen = {", ".join(key): row for key, row in chosen.items() if key[3] in TARGETED}
            for what, key in ((text, "copy"), (f"{text} of malloc", "copy_malloc")):
                made.append(verdict(what, [(name, row["ms"] / row[key], limit) for name, row in chosen.items()]))
    beside = {key: cell for key, cell in cells.items() if "Keras" in cell}
    nearest = [(", ".join(key), *_against_keras(cell)) for key, cell in beside.items()]
    made.append(verdict("twice as fast as Keras, or within 1.2 elementwise passes", nearest))
    if beside:
        faster = statistics.geometric_mean(c["Keras"]["ms"] / c["keras_reg"]["ms"] for c in beside.values())
        mean = [(f"{faster:.2f} times", 1 / faster, 1 / 5)]
        made.append(verdict("5 times as fast as Keras in the geometric mean (1 / times)", mean))
    for text, chosen in (
        ("not slower than another package", lambda who: who not in ("keras_reg", "Keras", peers.IN_PLACE)),
        ("not slower than timm where it changes its input, which ours never do", lambda who: who == peers.IN_PLACE),
    ):
        others = [
            (f"{who}: {', '.join(key)}", cell["keras_reg"]["ms"] / row["ms"], 1.0)
            for key, cell in cells.items()
            for who, row in cell.items()
            if chosen(who) and key[3] not in PER_BATCH
        ]
        if others:
            made.append(verdict(text, others))
    made.append(verdict("a chain of three under twice its dearest link", list(_chains(ours))))
    return [*made, *geometry_targets(cells)]


def _against_keras(cell):
    """(measured, limit) of whichever of the two ways of passing is nearer."""
    ours, keras_ms = cell["keras_reg"], cell["Keras"]["ms"]
    return min((ours["ms"], keras_ms / 2), (ours["ms"], 1.2 * ours["pass"]), key=lambda pair: pair[0] / pair[1])


def _chains(ours):
    for key, row in ours.items():
        links = [ours[(*key[:3], link)]["ms"] for link in LINKS if (*key[:3], link) in ours]
        if key[3] == CHAIN and links:
            yield ", ".join(key[:3]), row["ms"] / max(links), 2.0


def _size(text):
    return tuple(map(int, text.split("x")))


def main(argv=None, sizes=SIZES, rows=None, modes=MODES, dtypes=None):
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, help="for each number (default 0.15, quick 0.01)")
    made.add_argument("--dtypes", nargs="+", default=dtypes or DTYPES, choices=(*DTYPES, "float16"))
    made.add_argument("--modes", nargs="+", default=modes, choices=MODES)
    made.add_argument("--rows", nargs="+", default=rows, metavar="ROW", help="all unless given; names as in the tables")
    made.add_argument("--sizes", nargs="+", default=sizes, type=_size, metavar="BxHxWxC")
    given = parse(made, argv)
    seconds = given.seconds or (0.01 if given.quick else 0.15)
    if given.quick:
        given.sizes, given.dtypes = QUICK if given.sizes is SIZES else given.sizes, given.dtypes[:1]
        given.modes = [mode for mode in given.modes if mode != "compile"]  # most of a minute for a row
    for package, why in peers.missing().items():
        print(f"{package} is left out: {why}. How to install it: peers.py")
    found = []
    for shape in given.sizes:
        for dtype in given.dtypes:
            targeted = given.quick or dtype != "float32" or shape == SIZES[2]
            here = given.rows or names(targeted, dtype)
            found += table(shape, dtype, here, given.modes, seconds, 3 if given.quick else 7)
    save(given.json, "layers", found, given.quick, targets(found))
    return found


if __name__ == "__main__":
    main()
