"""Every public name is on a page of the documentation, every page names what exists, and all of its code runs."""

import ast
import builtins
import importlib
import inspect
import re
import urllib.parse

import docs_names
import harness
import pytest
from harness import only, public_objects

DOCS = harness.ROOT / "docs"
API = sorted((DOCS / "api").glob("*.md"))
CARDS = [path for path in sorted((DOCS / "methods").glob("*.md")) if path.name != "index.md"]
PAGES = [harness.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = {str(path.relative_to(harness.ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
DIRECTIVES = [
    (page.name, name)
    for page in API
    for name in re.findall(r"^::: *([\w.]+) *$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
SECTIONS = ["When to use it", "Arguments that matter", "Cost", "Measured", "Pitfalls", "Paper"]
LARGEST_PICTURE = 125_000  # bytes
# Pages whose code is taken, line by line, from examples that another test runs.
EXCERPTS = {"docs/interoperation.md": "test_interoperation.py"}


def named(path):
    return str(path.relative_to(harness.ROOT))


def code_of(page):
    """(line, code) of each block that is to run."""
    return [] if page in EXCERPTS else docs_names.blocks(TEXTS[page])


def new_code_of(page):
    """Those that do not stand on an earlier page, word for word."""
    earlier = {code for other in list(TEXTS)[: list(TEXTS).index(page)] for _, code in code_of(other)}
    return [(line, code) for line, code in code_of(page) if code not in earlier]


# Names.


@pytest.mark.once
@pytest.mark.parametrize("name", public_objects())
def test_every_public_name_is_on_an_api_page(name):
    pages = [page for page, documented in DIRECTIVES if documented == name]
    assert len(pages) == 1, f"`::: {name}` belongs on one page of docs/api; it is on {pages or 'none'}"


@pytest.mark.once
@pytest.mark.parametrize("name", sorted({name for _, name in DIRECTIVES}))
def test_every_directive_names_something_public(name):
    assert name in public_objects()


@pytest.mark.once
@pytest.mark.parametrize("name", public_objects())
def test_every_public_name_has_a_card(name):
    """Its API entry is linked above the picture of one card; a class that is the card's own gives it its file name."""
    link = re.compile(rf"\]\(\.\./api/\w+\.md#{re.escape(name)}\)")
    found = [path.stem for path in CARDS if link.search(path.read_text(encoding="utf-8").split("![")[0])]
    assert len(found) == 1, f"{name} belongs at the head of one card of docs/methods; it is on {found or 'none'}"
    short = name.rsplit(".", 1)[1]
    if inspect.isclass(public_objects()[name]) and short not in ("Phase", "Strength"):
        assert found[0].replace("_", "") == short.lower()


@pytest.mark.once
@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_card(card):
    text = card.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert f"](../figures/methods/{card.stem}.png)" in text and len(text.splitlines()) <= 75
    assert f"]({card.name})" in (DOCS / "methods" / "index.md").read_text(encoding="utf-8")
    measured = text.split("## Measured")[1].split("##")[0]
    assert "ot measured" in measured or re.search(r"`(python|make|tests|examples)\b", measured), "measured how?"


# Pages, pictures and links. Those from page to page are checked by `mkdocs build --strict`.


@pytest.mark.once
def test_every_page_is_in_the_navigation():
    navigation = (harness.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert pages
    missing = [page for page in pages if page not in navigation]
    assert not missing


@pytest.mark.once
def test_every_picture_is_there_and_is_shown_and_small():
    shown = {
        (path.parent / target).resolve()
        for path in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    }
    drawn = set((DOCS / "figures").rglob("*.png"))
    assert {path for path in shown if not path.is_file()} == set()
    assert {path.name for path in drawn if path.resolve() not in shown} == set()
    assert {path.name: path.stat().st_size for path in drawn if path.stat().st_size > LARGEST_PICTURE} == {}


@pytest.mark.once
def test_every_picture_of_a_method_is_drawn_by_the_example():
    files = [harness.ROOT / "examples" / f"{name}_pictures.py" for name in ("method", "step", "inference")]
    nodes = [node for path in files for node in ast.parse(path.read_text(encoding="utf-8")).body]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    drawn = {f.name for f in functions if any(ast.unparse(d) == "picture" for d in f.decorator_list)}
    assert drawn == {path.stem for path in (DOCS / "figures" / "methods").glob("*.png")}


@pytest.mark.once
@pytest.mark.parametrize("page", TEXTS)
def test_links_to_elsewhere_are_well_formed(page):
    for link in re.findall(r"\]\(\s*(\w+:[^)]*)\)", TEXTS[page]):
        parts = urllib.parse.urlsplit(link)
        assert parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), link
        assert not re.search(r"\s", link), link
        if parts.netloc == "arxiv.org":
            assert re.fullmatch(r"/abs/\d{4}\.\d{4,5}", parts.path), link


# Code.


@pytest.mark.once
def test_few_blocks_are_left_out():
    for page, test in EXCERPTS.items():
        assert page.removeprefix("docs/") in (harness.TESTS / test).read_text(encoding="utf-8")
    left_out = [page for page, text in TEXTS.items() for block in docs_names.BLOCK.finditer(text) if block["why"]]
    assert len(left_out) <= 2, left_out
    assert sum(len(code_of(page)) for page in TEXTS) > 40


def pages_with_code():
    return [page for page in TEXTS if new_code_of(page)]


@pytest.mark.parametrize("page", harness.fewer(pages_with_code(), ["README.md", "docs/start.md"]))
def test_code_runs(page, monkeypatch, tmp_path):
    """The blocks of a page run in order, in one namespace."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    docs_names.shorten(monkeypatch)
    docs_names.run(new_code_of(page), page)


@pytest.mark.once
def test_a_recipe_needs_nothing_but_the_first_one():
    """As the page says: each name in its code is its own, or one of the first recipe."""
    sections = TEXTS["docs/recipes.md"].split("\n## ")[1:]
    first, *others = (
        ast.parse("\n".join(block["code"] for block in docs_names.BLOCK.finditer(section))) for section in sections
    )
    for section, tree in zip(sections[1:], others, strict=True):
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert used and not used - made_in(tree) - made_in(first) - set(dir(builtins)), section.splitlines()[0]


def made_in(tree):
    """The names that a program assigns, imports or defines, or that are arguments of its functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


# Examples that draw and compare for the pages. What they show does not depend on the backend.


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(harness.ROOT / "examples"))
    return importlib.import_module


@only("torch")
def test_pictures_are_drawn(example, tmp_path, capsys):
    example("method_pictures").main(out=tmp_path, smoke=True)
    assert {path.name for path in tmp_path.iterdir()} == {"mix_up.png", "drop_block_2d.png"}
    assert all(10_000 < path.stat().st_size < LARGEST_PICTURE for path in tmp_path.iterdir())


@only("torch")
def test_this_package_does_what_it_says(example, capsys):
    cut, erased, dropped, refused = example("compare_libraries").main(["keras_reg"])["keras_reg"]
    assert cut == "0.000 mean, 0.000 max" and refused == "ValueError"
    assert abs(float(erased) - 0.5) < 0.05
    assert all(abs(float(share) - 0.1) < 0.01 for share in re.findall(r": ([\d.]+)", dropped))


@only("torch")
def test_what_this_package_says_of_geometry_and_policies(example, capsys):
    *numbers, repeated, masks, box = example("compare_policies").main(["keras_reg"])["keras_reg"]
    assert max(map(float, [*numbers, masks])) < 0.1 and (repeated, box) == ("the same", "moves it")
