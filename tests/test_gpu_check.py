"""The report of scripts/gpu_check.py: what passed is told, whatever else happened."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = """<testsuites><testsuite>
<testcase classname="a" name="one" time="1.5"/>
<testcase classname="a" name="two" time="0.5"><failure message="it broke&#10;here"/></testcase>
<testcase classname="a" name="three" time="0"><skipped message="its time was up"/></testcase>
<testcase classname="a" name="four" time="0"><skipped message="its time was up"/></testcase>
<testcase classname="a" name="five" time="0"><error message="no such file"/></testcase>
</testsuite></testsuites>"""


def test_tests_are_counted_and_told_with_their_reasons(tmp_path: Path) -> None:
    read_tests = runpy.run_path(str(ROOT / "scripts/gpu_check.py"))["read_tests"]
    path = tmp_path / "tests.xml"
    assert "wrote no report" in read_tests(path)["broken"]
    path.write_text(REPORT)
    found = read_tests(path)
    assert found == {
        "passed": 1,
        "failed": {"a::two": "it broke", "a::five": "no such file"},
        "skipped": {"its time was up": ["a::three", "a::four"]},
        "seconds": 2.0,
    }
    for code, told in (("1", False), ("124", True)):  # some failed; `timeout` ended it
        (tmp_path / "tests.code").write_text(code)
        assert ("its time was up before it ended" in read_tests(path)["skipped"]) == told
