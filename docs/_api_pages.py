"""Gives every public name a page of its own, with links to its card and its source.

The names are those of the `:::` directives in docs/api/NAMESPACE.md, which becomes a list of its names. Links to
`api/NAMESPACE.md#NAME` lead to the page of that name.
"""

import pathlib
import re

import griffe
from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

ROOT = pathlib.Path(__file__).resolve().parents[1]
API, CARDS = ROOT / "docs" / "api", ROOT / "docs" / "methods"
DIRECTIVE = re.compile(r"^::: *([\w.]+) *\n((?:    .*\n|\n(?=    ))*)", re.MULTILINE)
LINK = re.compile(r"\]\(((?:\.\./)*)api/\w+\.md#(keras_reg[\w.]*)\)")
SOURCE = re.compile(r'(<details class="[^"]*source[^"]*">\s*<summary>.*?</summary>)', re.DOTALL)


def directives():
    """{public name: (namespace, options of its directive)}."""
    found = {}
    for path in sorted(API.glob("*.md")):
        for name, options in DIRECTIVE.findall(path.read_text(encoding="utf-8") + "\n"):
            found[name] = (path.stem, options.rstrip())
    return found


NAMES = directives()


def page_of(name):
    return f"api/{NAMES[name][0]}/{name.rsplit('.', 1)[1]}.md"


def cards():
    """{public name: its card}: the card that links to it above its picture."""
    found = {}
    for path in sorted(CARDS.glob("*.md")):
        head = path.read_text(encoding="utf-8").split("![")[0]
        found |= {name: f"methods/{path.name}" for _, name in LINK.findall(head)}
    return found


def summaries():
    """{public name: the first sentence of its docstring}, read without importing the package."""
    package = griffe.load("keras_reg", search_paths=[str(ROOT)], resolve_aliases=True)
    found = {}
    for name in NAMES:
        text = package[name.removeprefix("keras_reg.")].docstring.value
        found[name] = re.split(r"(?<=\.)\s", " ".join(text.split("\n\n")[0].split()))[0]
    return found


def on_config(config):
    """Below each namespace, the navigation lists its names."""
    section = next(entry["API"] for entry in config.nav if "API" in entry)
    for entry in section:
        (title, page), *_ = entry.items()
        below = [{name.rsplit(".", 1)[1]: page_of(name)} for name in NAMES if f"api/{NAMES[name][0]}.md" == page]
        entry[title] = [{"Overview": page}, *below]
    return config


def on_files(files, config):
    for name, (_, options) in NAMES.items():
        given = (options or "    options:") + "\n      heading_level: 1\n"
        files.append(File.generated(config, page_of(name), content=f"::: {name}\n{given}"))
    return files


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri.startswith("api/") and page.file.src_uri.count("/") == 1:
        page.meta["title"] = markdown.split("\n", 1)[0].removeprefix("# ")  # in the navigation, it is "Overview"
        return listed(markdown, page.file.src_uri)
    return LINK.sub(to_page, markdown)


def listed(markdown, uri):
    """The page of a namespace: a table instead of directives."""
    about, shown_on = summaries(), cards()
    rows = ["| name | what it does | |", "| --- | --- | --- |"]
    for name in [name for name in NAMES if f"api/{NAMES[name][0]}.md" == uri]:
        short = name.rsplit(".", 1)[1]
        card = f"[card](../{shown_on[name]})" if name in shown_on else ""
        rows.append(f"| [`{short}`](../{page_of(name)}) | {about[name]} | {card} |")
    title = markdown.split("\n", 1)[0]
    return "\n".join([title, "", '<div class="api-list" markdown>', "", *rows, "", "</div>", ""])


def to_page(match):
    up, anchor = match.groups()
    owner = max((name for name in NAMES if f"{anchor}.".startswith(f"{name}.")), key=len)
    return f"]({up}{page_of(owner)}" + (")" if owner == anchor else f"#{anchor})")


def on_page_content(html, page, config, files):
    """Below the title of a name: its card, and its source, which the page ends with."""
    name = next((name for name in NAMES if page_of(name) == page.file.src_uri), None)
    if name is None:
        return html
    card = cards().get(name)
    url = get_relative_url(files.get_file_from_path(card).url, page.url) if card else None
    links = [f'<a href="{url}">Method card, with a picture and good values</a>'] if url else []
    if SOURCE.search(html):
        html = SOURCE.sub(r'\1<span id="source"></span>', html, count=1)
        links.append('<a href="#source">Source code</a>')
    return html.replace("</h1>", f'</h1>\n<p class="api-links">{" · ".join(links)}</p>', 1)
