"""What people type into the search of the built site, opened as a file, in headless Chromium.

It needs `make docs` and Chromium; without them, it is skipped. tests/test_site.py tests the index without a browser.
"""

import re
import shutil
import subprocess

import pytest
from harness import ROOT
from test_site import SEARCHED

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SITE = ROOT / "site"
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--virtual-time-budget=30000", "--dump-dom",
)  # fmt: skip

SEVERAL = ("dropout", "batch normalization")  # three pages answer this as well

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not CHROMIUM or not (SITE / "index.html").exists(), reason="needs Chromium and `make docs`"),
]


@pytest.mark.parametrize("words", SEARCHED)
def test_the_first_result(words, tmp_path):
    page = f"{(SITE / 'index.html').as_uri()}?q={words.replace(' ', '+')}"
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path}", page]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.findall(r'<a href="([^"]+)" class="md-search-result__link"', dom)
    pages = [re.sub(r"^.*/site/|[?#].*$", "", link) for link in found]
    first = list(dict.fromkeys(pages))[: 3 if words in SEVERAL else 1]
    assert f"{SEARCHED[words]}.html" in first, first
