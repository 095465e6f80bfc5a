"""Links each picture of a page to its file, which a touch shows in full size on a phone, and cards to the explorer."""

import pathlib
import re

from mkdocs.utils import get_relative_url

IMAGE = re.compile(r"(<a [^>]*>\s*)?(<img [^>]*?src=\"([^\":]+\.(?:png|svg))\"[^>]*>)")
SLIDERS = pathlib.Path(__file__).resolve().parent / "explorer" / "pictures.js"


def layers():
    """The layers that the explorer shows."""
    return set(re.findall(r'"layer":"(\w+)"', SLIDERS.read_text(encoding="utf-8")))


def on_page_content(html, page, config, files):
    html = IMAGE.sub(
        lambda match: match[0] if match[1] else f'<a class="picture" href="{match[3]}">{match[2]}</a>', html
    )
    if page.file.src_uri.startswith("methods/") and page.title in layers():
        url = get_relative_url(files.get_file_from_path("explorer.md").url, page.url)
        link = f'<p><a href="{url}#{page.title}">Try it with a slider</a></p>'
        html = re.sub(r'(<p><a class="picture".*?</p>)', rf"\1\n{link}", html, count=1, flags=re.DOTALL)
    return html
