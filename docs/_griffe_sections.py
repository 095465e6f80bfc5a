"""Makes the sections of our docstrings that mkdocstrings does not know into Markdown: lists, and blocks of code."""

import re
import textwrap

import griffe

SECTIONS = ("Call arguments", "Input shape", "Output shape", "References", "Attributes")
ENTRY = re.compile(r"^(?! )([\w*, ]+): ", re.MULTILINE)
SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):\n((?:(?:    .*)?\n)+?)(?=\S|\Z)", re.MULTILINE)
EXAMPLE = re.compile(r"^Example:\n\n((?:\S.*\n)+)", re.MULTILINE)


def as_markdown(docstring):
    def section(match):
        title, body = match[1], textwrap.dedent(match[2]).strip("\n")
        if title in ("Call arguments", "Attributes"):
            body = "\n" + textwrap.indent(ENTRY.sub(r"\n- `\1`: ", body).strip("\n"), "  ").replace("  - `", "- `")
        return f"**{title}:**\n\n{body}\n\n"

    text = SECTION.sub(section, docstring + "\n")
    return EXAMPLE.sub(r"**Example:**\n\n```pycon\n\1```\n", text)


class Sections(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
