"""Puts the notebooks, which lie outside of docs/, into the site as notebooks/<name>.ipynb, with a download link."""

import pathlib

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

HERE = pathlib.Path(__file__).resolve().parent


@event_priority(100)  # before mkdocs-jupyter looks for notebooks among the files
def on_files(files, config):
    for path in sorted(HERE.glob("*.ipynb")):
        name = f"{HERE.name}/{path.name}"
        files.append(File(name, str(HERE.parent), config.site_dir, config.use_directory_urls))
    return files


def on_page_content(html, page, config, files):
    """Below the title: mkdocs-jupyter copies the notebook beside its page."""
    name = page.file.src_uri.rsplit("/", 1)[-1]
    if not name.endswith(".ipynb"):
        return html
    return html.replace("</h1>", f'</h1>\n<p><a href="{name}" download>Download this notebook</a></p>', 1)


def on_serve(server, config, builder):
    server.watch(str(HERE))
    return server
