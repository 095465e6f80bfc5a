"""The description of the package on PyPI: README.md, with links that work there."""

import pathlib
import re

from hatchling.metadata.plugin.interface import MetadataHookInterface

# An image with the line below it in italics, which describes it; and a link to a file of the repository.
IMAGE = re.compile(r"^!\[[^\]]*\]\((?!\w+:)([^)]+)\)\n+(\*[^*]+\*\n+)?", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)[^)]+\)")


def description(readme, address):
    """`readme` with links below `address`. Without an address, links become text, and images are left out."""
    parts = readme.split("```")  # every second part is code
    parts[::2] = [with_links(part, address) for part in parts[::2]]
    return "```".join(parts)


def with_links(text, address):
    if address:
        return re.sub(r"\]\((?!\w+:|#)", f"]({address.rstrip('/')}/", text)
    return LINK.sub(r"\1", IMAGE.sub("", text))


class Readme(MetadataHookInterface):
    def update(self, metadata):
        readme = pathlib.Path(self.root, "README.md").read_text(encoding="utf-8")
        text = description(readme, self.config.get("address"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
