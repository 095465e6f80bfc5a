"""Puts the notebooks, which lie outside of docs/, into the site as notebooks/<name>.ipynb.

Each page links to its notebook, and to the files of examples/ that the notebook imports.
"""

import pathlib

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from needed_files import needed_files

HERE = pathlib.Path(__file__).resolve().parent


@event_priority(100)  # before mkdocs-jupyter looks for notebooks among the files
def on_files(files, config):
    notebooks = sorted(HERE.glob("*.ipynb"))
    for path in notebooks:
        name = f"{HERE.name}/{path.name}"
        files.append(File(name, str(HERE.parent), config.site_dir, config.use_directory_urls))
    for path in {path for notebook in notebooks for path in needed_files(notebook.with_suffix(".py"))}:
        files.append(File.generated(config, f"{HERE.name}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_content(html, page, config, files):
    """Below the title: mkdocs-jupyter copies the notebook beside its page."""
    name = page.file.src_uri.rsplit("/", 1)[-1]
    if not name.endswith(".ipynb"):
        return html
    others = "".join(
        f', <a href="{path.name}" download>{path.name}</a>' for path in needed_files((HERE / name).with_suffix(".py"))
    )
    return html.replace("</h1>", f'</h1>\n<p><a href="{name}" download>Download this notebook</a>{others}</p>', 1)


def on_serve(server, config, builder):
    server.watch(str(HERE))
    return server
