"""A real browser for the tests of pages, where one is installed."""

import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)
# No sandbox, since tests may run as root; nothing that calls home.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"]

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium: `make browser` installs it on Debian"
)
