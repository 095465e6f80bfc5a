"""Lets the search find pages by the names that other libraries and papers use, and puts the pages in a sensible order.

The names come from the tables of docs/glossary.md with the head "Name elsewhere": the names in a first cell lead to the
page that the second cell links. The titles of cards are also found as separate words ("random erasing"). In the index,
each of these is a tag of its page.
"""

import json
import pathlib
import posixpath
import re

from mkdocs.plugins import event_priority

GLOSSARY = pathlib.Path(__file__).resolve().parent / "glossary.md"
CARD = r"methods/(?!index)\w+\.html"
# The weight of a page among those that contain the same words. The first pattern that matches counts.
WEIGHTS = {
    CARD: 2.0,
    r"(which|start|recipes|glossary|wrong_labels|effects|transfer|after_training)\.html": 1.5,
    r"(performance_log|changelog|architecture|contributing)\.html": 0.2,
    r"notebooks/": 0.5,
    r"": 1.0,
}


def words_of(name):
    """`DropBlock2D` in separate words: "Drop Block 2D"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)


def aliases(text=None):
    """{address of a page: the names that lead there}, from the glossary."""
    found = {}
    for table in (text or GLOSSARY.read_text(encoding="utf-8")).split("| Name elsewhere |")[1:]:
        for names, here in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table.split("\n\n")[0], re.MULTILINE):
            for page in re.findall(r"\]\(([\w/]+)\.md", here):
                found.setdefault(f"{page}.html", []).extend(name.strip() for name in names.split(","))
    return found


def tag_of(name):
    """Returns a name without "Random" at its start, which so many names share that it would dominate the ranking."""
    return re.sub(r"^Random(?=[A-Z])", "", name)


def improve(index, names):
    """Adds tags and weights to the entries of a search index. Only the first entry of a page gets tags."""
    for entry in index["docs"]:
        page, _, section = entry["location"].partition("#")
        entry["title"] = entry["title"].rstrip("¶")  # the mark of links to the sections of notebooks
        entry["boost"] = next(weight for pattern, weight in WEIGHTS.items() if re.match(pattern, page))
        tags = [tag_of(name) for name in names.get(page, [])]
        title = re.sub(r"<[^>]+>", "", entry["title"])
        if re.fullmatch(CARD, page) and words_of(title) != title:
            tags.append(words_of(title))
        if tags and not section:
            entry["tags"] = list({tag.lower(): tag for tag in reversed(tags)}.values())[::-1]
    return index


@event_priority(-50)  # after the index is written, before the offline plugin copies it
def on_post_build(config):
    path = pathlib.Path(config.site_dir) / "search" / "search_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    names = aliases()
    pages = {posixpath.normpath(entry["location"].partition("#")[0]) for entry in index["docs"]}
    if missing := set(names) - pages:
        raise ValueError(f"docs/glossary.md must link pages that exist. Received: {sorted(missing)}")
    path.write_text(json.dumps(improve(index, names), separators=(",", ":")), encoding="utf-8")
