"""The documentation has a page per public name, a search that knows other names, and opens from a file."""

import importlib.util
import json
import re
import sys
import types

import harness
import pytest
from harness import public_objects

pytestmark = pytest.mark.once
DOCS, INDEX = harness.ROOT / "docs", harness.ROOT / "site" / "search" / "search_index.json"
CONFIG = (harness.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
# What people type -> the page that must come first.
SEARCHED = {
    "overfitting": "which", "label smoothing": "methods/label_smoothing_crossentropy",
    "weight decay": "methods/regularize", "early stopping": "methods/smoothed_early_stopping",
    "stochastic depth": "methods/drop_path", "cutout": "methods/random_erasing", "dropout": "methods/drop_block_2d",
    "mixup": "methods/mix_up", "random erasing": "methods/random_erasing", "cut mix": "methods/cut_mix",
    "fine-tuning": "methods/transfer_learner", "disturblabel": "methods/label_noise", "wrong labels": "wrong_labels",
    "batch normalization": "methods/noisy_batch_normalization", "warmup": "methods/exponential_lr",
    "cutmix": "methods/cut_mix", "randaugment": "methods/rand_augment", "augmix": "methods/aug_mix",
}  # fmt: skip


class Stub(types.ModuleType):
    """A module of mkdocs or griffe, of which the functions under test need nothing: the tests run without them."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: lambda function: function


def hook(name, monkeypatch, folder=DOCS):
    for module in ("griffe", "mkdocs", "mkdocs.plugins", "mkdocs.structure", "mkdocs.structure.files", "mkdocs.utils"):
        monkeypatch.setitem(sys.modules, module, Stub(module))
    monkeypatch.syspath_prepend(str(folder))  # as mkdocs does
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def search_words(monkeypatch):
    return hook("_search_words", monkeypatch)


@pytest.fixture
def api_pages(monkeypatch):
    return hook("_api_pages", monkeypatch)


def test_every_public_name_has_a_page_and_a_card(api_pages):
    assert set(api_pages.NAMES) == set(public_objects())
    pages = [api_pages.page_of(name) for name in api_pages.NAMES]
    assert len(set(pages)) == len(pages)
    assert set(api_pages.cards()) == set(public_objects())


def test_links_lead_to_the_page_of_a_name(api_pages):
    text = (
        "[a](../api/layers.md#keras_reg.layers.CutMix) [b](api/training.md#keras_reg.training.RegularizedModel.augment)"
    )
    text += " [c](api/layers.md)"
    found = api_pages.on_page_markdown(text, types.SimpleNamespace(file=types.SimpleNamespace(src_uri="x.md")), {}, [])
    page = "api/training/RegularizedModel.md#keras_reg.training.RegularizedModel.augment"
    assert found == f"[a](../api/layers/CutMix.md) [b]({page}) [c](api/layers.md)"


def test_the_navigation_lists_every_name(api_pages):
    config = types.SimpleNamespace(nav=[{"Home": "index.md"}, {"API": [{"keras_reg.losses": "api/losses.md"}]}])
    (entry,) = api_pages.on_config(config).nav[1]["API"]
    assert [next(iter(page)) for page in entry["keras_reg.losses"]] == [
        "Overview", "LabelSmoothingCrossentropy", "label_smoothing_crossentropy",
    ]  # fmt: skip


def test_search_knows_other_names(search_words):
    found = search_words.aliases()
    assert {"Cutout", "CoarseDropout"} <= set(found["methods/random_erasing.html"])
    assert not any("FMix" in names for names in found.values())  # in the table of what is not included
    missing = [page for page in found if not (DOCS / page.replace(".html", ".md")).exists()]
    assert not missing
    entries = [
        {"location": "methods/drop_block_2d.html", "title": "DropBlock2D", "text": ""},
        {"location": "methods/drop_block_2d.html#cost", "title": "Cost¶", "text": ""},
        {"location": "performance_log.html", "title": "Log", "text": ""},
    ]
    card, section, log = search_words.improve({"docs": entries}, {"methods/drop_block_2d.html": ["dropblock"]})["docs"]
    assert card["tags"] == ["dropblock", "Drop Block 2D"] and "tags" not in section and section["title"] == "Cost"
    assert card["boost"] == section["boost"] > 1 > log["boost"]


@pytest.mark.parametrize("words", SEARCHED)
def test_words_that_people_type_are_names_of_one_page(search_words, words):
    """In a browser that page comes first, since names weigh more than titles, and titles more than text."""
    page = f"{SEARCHED[words]}.html"
    title = (DOCS / f"{SEARCHED[words]}.md").read_text(encoding="utf-8").split("\n# ")[-1].split("\n")[0].lstrip("# ")
    names = [*search_words.aliases().get(page, []), title, search_words.words_of(title)]
    assert any(words == name.lower() for name in names)


def test_the_glossary_says_what_is_not_included():
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    included, left_out = text.split("## Not included")
    short = {name.rsplit(".", 1)[1].lower() for name in public_objects()}
    for name in re.findall(r"^\| ([^|]+) \|", left_out, re.MULTILINE):
        assert not short & {part.strip().lower() for part in name.split(",")}, "included by now"
    assert "FMix" in left_out and "FMix" not in included


def test_a_notebook_can_be_downloaded_with_the_files_that_it_needs(monkeypatch):
    module = hook("mkdocs_hook", monkeypatch, harness.ROOT / "examples" / "notebooks")

    def links(name):
        page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri=f"notebooks/{name}.ipynb"))
        return re.findall(r'<a href="(.*?)" download>', module.on_page_content("<h1>Title</h1>", page, {}, []))

    assert links("01_quickstart") == ["01_quickstart.ipynb"]
    assert links("06_transfer_learning") == ["06_transfer_learning.ipynb", "pretrained.py", "state_dict.py"]


def test_pages_open_from_a_file_and_without_a_network():
    """No page asks for anything elsewhere: the script that makes the search run from a file is ours."""
    assert "use_directory_urls: false" in CONFIG and re.search(r"^  - offline$", CONFIG, re.MULTILINE)
    (script,) = re.findall(r"polyfills: \[(.*)\]", CONFIG)
    assert "iframe-worker" in script and (DOCS / script).exists()  # without this name the plugin adds one from a CDN
    for path in [*(DOCS / "javascripts").glob("*.js"), *(DOCS / "stylesheets").glob("*.css")]:
        assert "//unpkg" not in path.read_text(encoding="utf-8") and "https:" not in path.read_text(encoding="utf-8")


def is_built():
    """Whether `make docs` has been run since the pages were changed."""
    sources = [path for path in DOCS.rglob("*") if path.suffix in (".md", ".py", ".js")]
    return INDEX.exists() and INDEX.stat().st_mtime > max(path.stat().st_mtime for path in sources)


@pytest.mark.skipif(not is_built(), reason="make docs has not been run")
def test_the_index_that_was_built(search_words):
    index = json.loads(INDEX.read_text(encoding="utf-8"))
    entries = {entry["location"]: entry for entry in index["docs"]}
    assert index["config"]["pipeline"] == ["stopWordFilter"]  # no stemmer, see mkdocs.yml
    for page, names in search_words.aliases().items():
        tags = {tag.lower() for tag in entries[page]["tags"]}
        assert {search_words.tag_of(name).lower() for name in names} <= tags
        assert entries[page]["boost"] >= 1
    text = INDEX.with_suffix(".js").read_text(encoding="utf-8")
    assert json.loads(text.removeprefix("var __index = ")) == index
    assert "unpkg.com" not in (INDEX.parents[1] / "index.html").read_text(encoding="utf-8")


# Pictures and the explorer.


def test_pictures_lead_to_their_files_and_cards_to_the_explorer(monkeypatch):
    module = hook("_pictures", monkeypatch)
    monkeypatch.setattr(module, "get_relative_url", lambda url, page: f"../{url}")
    files = types.SimpleNamespace(
        get_file_from_path=lambda path: types.SimpleNamespace(url=path.replace(".md", ".html"))
    )
    file = types.SimpleNamespace(src_uri="methods/cut_mix.md")
    given = '<p>API</p>\n<p><img alt="a" src="../cut.png" /></p>\n<p><a href="b.md"><img src="b.png" /></a></p>'
    picture = '<p><a class="picture" href="../cut.png"><img alt="a" src="../cut.png" /></a></p>'
    linked = '<p><a href="../explorer.html#CutMix">Try it with a slider</a></p>'
    for title, link in (("CutMix", f"\n{linked}"), ("DropPath", "")):
        found = module.on_page_content(given, types.SimpleNamespace(file=file, title=title, url=""), {}, files)
        assert found == given.replace('<p><img alt="a" src="../cut.png" /></p>', picture + link)


@pytest.fixture
def explorer(monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    monkeypatch.syspath_prepend(str(harness.ROOT / "examples"))
    return importlib.import_module("explorer_pictures")


def shown(folder):
    """What the page shows: the sliders, from the file that its script reads."""
    text = (folder / "pictures.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.explorerPictures = "))


def test_the_explorer_shows_what_the_program_draws(explorer):
    """Every slider of the program is on the page, with a picture that has a row per value and a column per image."""
    from PIL import Image

    found = shown(DOCS / "explorer")
    assert [one["layer"] for one in found] == [one.layer for one in explorer.EXPERIMENTS]
    sheets = {sheet["file"]: (kind, sheet) for one in found for kind, sheet in one["data"].items()}
    files = {path.name for path in (DOCS / "explorer").iterdir()}
    assert files == {*sheets, "pictures.js"}
    assert sum(path.stat().st_size for path in (DOCS / "explorer").iterdir()) < 1_500_000
    for name, (kind, sheet) in sheets.items():
        side = {"photos": explorer.PHOTO, "digits": 8}[kind]
        rows, columns = len(sheet["values"]), len(sheet["labels"][0])
        with Image.open(DOCS / "explorer" / name) as image:
            assert image.size == (columns * side, rows * side)
        assert len(sheet["codes"]) == len(sheet["labels"]) == rows
        for label in (label for row in sheet["labels"] for label in row):
            assert abs(sum(percent for _, percent in label) - 100) <= 1
    script = (DOCS / "javascripts" / "explorer.js").read_text(encoding="utf-8")
    page = (DOCS / "explorer.md").read_text(encoding="utf-8")
    (panel,) = re.findall(r'getElementById\("([\w-]+)"\)', script)
    assert f'<div id="{panel}" data-pictures="explorer/">' in page and "fetch(" not in script


@harness.only("torch")
def test_the_code_below_the_slider_draws_its_pictures(explorer, tmp_path, capsys):
    """CutMix is drawn anew: its label is the share of pixels that are those of the image."""
    import numpy as np

    explorer.main(tmp_path, smoke=True)
    (one,) = shown(tmp_path)
    for kind, sheet in shown(DOCS / "explorer")[0]["data"].items():
        assert {**one["data"][kind], "labels": sheet["labels"]} == sheet  # whose random numbers are another backend's
    images, labels, _ = explorer.photos()
    for code in one["data"]["photos"]["codes"]:
        cut, mixed = explorer.drawn(code, (images, labels, []), 2)
        own = (np.abs(cut - images) < 1e-6).all(-1).mean((1, 2))
        np.testing.assert_allclose(mixed[np.arange(2), np.arange(2)], own, atol=0.01)


def test_messages_of_the_makefile_run_nothing():
    """The shell runs what stands in backticks, also in a message: `make docs` would not end if it served the site."""
    assert not re.findall(r"call say,.*`.*", (harness.ROOT / "Makefile").read_text(encoding="utf-8"))
