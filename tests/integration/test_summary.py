# SPDX-License-Identifier: MIT
"""tests/summary, which counts the tests, needs tests too."""
import subprocess

import pytest

from process import REPOSITORY


@pytest.fixture
def summary(tmp_path):
    """summary({"unit.tsv": text, …}, ring, …): returns exit status and lines."""
    def run(files, *rings):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        done = subprocess.run(["/usr/bin/python3", REPOSITORY / "tests/summary", tmp_path, *rings], text=True,
                              capture_output=True, check=False)
        return done.returncode, done.stdout.splitlines()

    return run


JUNIT = """<testsuites><testsuite name="dps.conf"><testcase name="a" classname="dps.conf"/>
<testcase name="b" classname="dps.conf"><failure message="no"/></testcase>
<testcase name="c" classname="dps.conf"><error/></testcase>
<testcase name="d" classname="dps.conf"><skipped message="needs root"/></testcase></testsuite></testsuites>"""


def test_all_rings_are_summed(summary):
    code, lines = summary({"unit.xml": JUNIT, "lint.tsv": "passed\tlayout\n"}, "lint", "unit")
    assert (code, lines[-1]) == (1, "2 passed, 2 failed, 1 skipped")


def test_skipped_tests_are_named(summary):
    _, lines = summary({"boot.tsv": "skipped\treload: needs root\n"}, "boot")
    assert "skipped: boot: reload: needs root" in lines


def test_a_ring_that_fails_without_saying_why_is_a_failure(summary):
    code, lines = summary({"unit.tsv": "passed\ta\n", "unit.ended": "1 0.0 1.0"}, "unit")
    assert (code, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_a_run_without_tests_fails(summary):
    assert summary({}, "unit") == (1, ["unit: 0 passed, 0 failed, 0 skipped", "0 passed, 0 failed, 0 skipped"])


def test_a_run_with_only_skipped_tests_fails(summary):
    assert summary({"boot.tsv": "skipped\ta\n"}, "boot")[0] == 1


def test_the_exit_status_tells_success(summary):
    assert summary({"unit.tsv": "passed\ta\n", "unit.ended": "0 0.0 1.0"}, "unit")[0] == 0
