"""Caches of the test run go to a folder of their own: it proves the code as it is, not what an earlier one left."""
import os
import sys

import pytest

from tools.notebooks import ROOT, run


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    "The cache folder of this test run ($CELEBA_NB_CACHE if that is set)."
    folder = os.environ.setdefault("CELEBA_NB_CACHE", str(tmp_path_factory.mktemp("cache")))
    return folder


@pytest.fixture(scope="session")
def sketch_faces(cache_folder):
    "Draws the sketch faces that a notebook finds where CELEBA_ROOT is unset: once, before the notebooks ask for them."
    drawn, printed = run([sys.executable, "-c", "from celeba_nb.data import find_root; find_root()"], ROOT,
                         {"CELEBA_ROOT": None, "CELEBA_NB_CACHE": cache_folder}, timeout=900)
    assert drawn, printed


def pytest_terminal_summary(terminalreporter):
    "How long each notebook took."
    reports = [r for r in terminalreporter.stats.get("passed", []) if dict(r.user_properties).get("seconds")]
    if reports:
        terminalreporter.section("seconds per notebook")
    for report in reports:
        terminalreporter.write_line(f"{dict(report.user_properties)['seconds']:7.1f}  {report.nodeid}")
