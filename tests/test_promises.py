"""Each promise names tests, and they exist; each figure of docs/faults.md is one that `make faults` prints."""
import ast
import re

import pytest

from tools.notebooks import ROOT

PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
KEPT, NOT_PROMISED = PROMISES.split("## What is not promised")
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", KEPT)


def defined_in(path):
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_named_test_exists(file, name):
    assert name in defined_in(ROOT / "tests" / file)


def test_each_promise_names_a_test():
    promises = [line for line in KEPT.splitlines() if line.startswith("- ")]
    assert len(promises) > 10
    for promise in promises:
        assert re.search(r"`test_\w+\.py::test_\w+`", promise), promise


def test_each_test_of_faults_is_named_or_counted():
    "What is tried for long stands in the table; so its words are those of a test."
    table = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    sources = "".join(re.sub(r"\{\w+(?:\.\w+)?\}", "", (ROOT / "tests" / f"test_{name}.py").read_text(encoding="utf-8"))
                      for name in ("faults", "fuzz"))
    rows = re.findall(r"^\| (?!what|---)(.+?) \| [\d,]+ \|", table, re.M)
    assert len(rows) > 10
    for row in rows:
        words = re.sub(r"`(study|train)`|SIG(KILL|INT)", "", row)
        assert re.sub(r"\s+", "", words) in re.sub(r"[\s`]+", "", sources), row
