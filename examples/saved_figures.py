"""Saves figures in small files that name the results they show, so that a test finds figures that are out of date."""

import hashlib
import json
import pathlib

import matplotlib.pyplot as plt
from PIL import Image, PngImagePlugin

KEY = "Results"


def save(figure, path, results, dpi=100, colors=256):
    """Saves and closes a figure.

    Args:
        figure: The figure.
        path: Where to write the PNG file.
        results: What is drawn, as JSON has it.
        dpi: Dots per inch.
        colors: The number of colors in the file.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    plt.close(figure)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, digest(results))
    small.save(path, optimize=True, pnginfo=text)


def digest(results):
    """A short text that differs for different results."""
    text = json.dumps(json.loads(json.dumps(results)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shown(path):
    """The `digest` of the results that a figure shows."""
    with Image.open(path) as image:
        return image.text.get(KEY)
