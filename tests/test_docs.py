"""Every public name is on a page of the documentation, and every page names what exists."""

import re

import harness
import pytest
from harness import public_objects

API = sorted((harness.ROOT / "docs" / "api").glob("*.md"))
PAGES = {path.name: path.read_text(encoding="utf-8") for path in API}
DIRECTIVES = [
    (page, name) for page, text in PAGES.items() for name in re.findall(r"^::: *([\w.]+) *$", text, re.MULTILINE)
]


@pytest.mark.parametrize("name", public_objects())
def test_every_public_name_is_on_an_api_page(name):
    pages = [page for page, documented in DIRECTIVES if documented == name]
    assert len(pages) == 1, f"`::: {name}` belongs on one page of docs/api; it is on {pages or 'none'}"


@pytest.mark.parametrize("name", sorted({name for _, name in DIRECTIVES}))
def test_every_directive_names_something_public(name):
    assert name in public_objects()


def test_every_page_is_in_the_navigation():
    navigation = (harness.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(path.relative_to(harness.ROOT / "docs")) for path in (harness.ROOT / "docs").rglob("*.md")]
    assert pages
    missing = [page for page in pages if page not in navigation]
    assert not missing
