"""Draws docs/figures/architecture.svg from the imports of the package: its rooms, and which of them imports which.

python examples/draw_architecture.py [--out docs/figures/architecture.svg]
"""

import argparse
import ast
import pathlib
from xml.sax.saxutils import escape

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_reg"
OUT = PACKAGE.parent / "docs" / "figures" / "architecture.svg"
GROUND = "_backend"
# Room -> (column, what it is for). The row follows from the imports.
ABOUT = {
    "layers": (0, "augmentations, and layers in networks"),
    "losses": (1, "label smoothing"),
    "callbacks": (2, "stop, schedule, watch, resume"),
    "surgery": (0, "regularize an existing model"),
    "training": (1, "what happens in the training step"),
    "transfer": (2, "freeze, warm up, unfreeze"),
    "metrics": (2, "calibration"),
    "inference": (1, "around a trained model"),
    GROUND: (0, "all code that knows TensorFlow, JAX or PyTorch"),
}
COLUMNS = 3
WIDTH, HEIGHT, GAP = 290, 96, 44


def rooms():
    """{room: names of the rooms in it}, one for each folder of the package."""
    found = sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
    return {path.name: sorted(p.name for p in path.iterdir() if (p / "__init__.py").exists()) for path in found}


def files():
    """The modules that stand beside the rooms, without `__init__` and `__main__`."""
    return sorted(path.name for path in PACKAGE.glob("_[a-z]*.py"))


def imports(names):
    """{room: the other rooms that its files import}."""
    found = {name: set() for name in names}
    for name in names:
        for path in (PACKAGE / name).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                if module == "keras_reg":
                    found[name] |= {alias.name for alias in node.names} & set(names)
                elif module.startswith("keras_reg."):
                    found[name] |= {module.split(".")[1]} & set(names)
        found[name].discard(name)
    return found


def rows(arrows):
    """{room: how many rooms it stands on}, 0 for the lowest."""
    found = {}

    def row(name):
        if name not in found:
            found[name] = 1 + max((row(below) for below in arrows[name]), default=-1)
        return found[name]

    return {name: row(name) for name in arrows}


def direct(arrows):
    """The arrows that do not follow from others: {room: rooms}."""

    def reach(name):
        return arrows[name].union(*(reach(below) for below in arrows[name]))

    return {
        name: {below for below in targets if not any(below in reach(other) for other in targets - {below})}
        for name, targets in arrows.items()
    }


def box(x, y, width, title, text, inner):
    """A room as SVG, with the rooms in it."""
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="8" fill="#e8f0fa" stroke="#3a76af"/>',
        f'<text x="{x + 14}" y="{y + 26}" font-size="17" font-weight="bold">{escape(title)}</text>',
        f'<text x="{x + 14}" y="{y + 47}" font-size="13">{escape(text)}</text>',
    ]
    at = x + 14
    for name in inner:
        wide = 10 + 6 * len(name)
        parts.append(f'<rect x="{at}" y="{y + 60}" width="{wide}" height="24" rx="5" fill="white" stroke="#3a76af"/>')
        parts.append(f'<text x="{at + 6}" y="{y + 76}" font-size="10">{escape(name)}</text>')
        at += wide + 6
    return parts


def render():
    """The whole drawing as SVG."""
    names = rooms()
    arrows = imports(names)
    levels = rows(arrows)
    top = max(levels.values())
    total = COLUMNS * WIDTH + (COLUMNS + 1) * GAP // 2
    place = {}
    for name in names:
        column = ABOUT[name][0]  # a KeyError here is a new room: give it a row in ABOUT
        x = GAP // 2 + column * (WIDTH + GAP // 2)
        place[name] = x, GAP // 2 + (top - levels[name]) * (HEIGHT + GAP), total - GAP if name == GROUND else WIDTH
    bottom = max(y for _, y, _ in place.values()) + HEIGHT
    tall = bottom + GAP + 54
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {tall}" font-family="sans-serif" fill="#222">',
        "<title>The rooms of keras_reg and their imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#777"/></marker></defs>',
        f'<rect width="{total}" height="{tall}" fill="white"/>',
    ]
    for name, targets in sorted(direct(arrows).items()):
        x, y, width = place[name]
        for below in sorted(targets):
            to_x, to_y, to_width = place[below]
            end = x + width // 2 if below == GROUND else to_x + to_width // 2
            parts.append(
                f'<line x1="{x + width // 2}" y1="{y + HEIGHT}" x2="{end}" y2="{to_y}" stroke="#777" '
                'stroke-width="1.5" marker-end="url(#tip)"/>'
            )
    for name, inner in names.items():
        x, y, width = place[name]
        parts += box(x, y, width, f"{name}/", ABOUT[name][1], inner)
    parts.append(
        f'<text x="{GAP // 2}" y="{bottom + GAP}" font-size="13">Files that every room may import: '
        f"{escape(', '.join(files()[: len(files()) // 2]))},</text>"
    )
    parts.append(
        f'<text x="{GAP // 2}" y="{bottom + GAP + 22}" font-size="13">'
        f"{escape(', '.join(files()[len(files()) // 2 :]))}</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(out=OUT):
    pathlib.Path(out).write_text(render(), encoding="utf-8")
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=OUT)
    print(main(parser.parse_args().out))
