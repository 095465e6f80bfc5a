"""What people type into the search of the built site, in headless Chromium.

It needs `make docs` and Chromium; without them, it is skipped. tests/test_site.py tests the index without a browser.
"""

import functools
import http.server
import re
import shutil
import subprocess
import threading

import pytest
from harness import ROOT
from test_site import SEARCHED

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SITE = ROOT / "site"
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--virtual-time-budget=20000", "--dump-dom",
)  # fmt: skip

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not CHROMIUM or not (SITE / "index.html").exists(), reason="needs Chromium and `make docs`"),
]


@pytest.fixture(scope="module")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("words", SEARCHED)
def test_the_first_result(address, words, tmp_path):
    query = words.replace(" ", "+")
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path}", f"{address}/index.html?q={query}"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.findall(r'class="md-search-result__link" href="([^"]+)"', dom)
    pages = [re.sub(r"^.*?localhost:\d+/|[?#].*$", "", link) for link in found]
    assert pages and pages[0] == f"{SEARCHED[words]}.html", pages[:5]
