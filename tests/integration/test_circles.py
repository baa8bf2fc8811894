# SPDX-License-Identifier: MIT
"""tests/circles, with which tests/lint finds files that need each other."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CIRCLES = Path(__file__).resolve().parent.parent / "circles"
INTERNAL = "/* SPDX */\n#pragma once\n/*\n * May call each other:\n *\n *      a.c   one\n *      b.c   the other\n */\n"
A_CALLS_B = {"src/room/a.c": "void b(void); void a(void) { b(); }\n", "src/room/b.c": "void b(void) {}\n"}
CIRCLE = {**A_CALLS_B, "src/room/b.c": "void a(void); void b(void) { a(); }\n"}


@pytest.fixture
def circles(tmp_path):
    """Builds files, and gives what tests/circles says of them: exit code and output."""

    def run(files):
        (tmp_path / "tests").mkdir()
        shutil.copy(CIRCLES, tmp_path / "tests")
        commands = []
        for name, text in {"include/dps/none.h": "", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if path.suffix == ".c":
                output = name.replace("/", "_") + ".o"
                subprocess.run(["cc", "-c", path, "-o", output], cwd=tmp_path, check=True)
                commands.append({"directory": str(tmp_path), "file": name, "output": output})
        (tmp_path / "compile_commands.json").write_text(json.dumps(commands))
        done = subprocess.run([sys.executable, tmp_path / "tests/circles", tmp_path], capture_output=True, text=True)
        return done.returncode, done.stdout

    return run


def test_files_that_call_in_one_direction_are_no_circle(circles):
    assert circles(A_CALLS_B) == (0, "")


def test_files_that_call_each_other_are_reported_with_the_symbols(circles):
    code, out = circles(CIRCLE)
    assert code == 1
    assert "a circle of calls, 2 files: src/room/a.c, src/room/b.c" in out
    assert "src/room/a.c -> src/room/b.c: b" in out and "src/room/b.c -> src/room/a.c: a" in out


def test_a_circle_may_pass_through_other_rooms(circles):
    code, out = circles({
        "src/low/a.c": "void b(void); void a(void) { b(); }\n",
        "src/mid/b.c": "void c(void); void b(void) { c(); }\n",
        "src/top/c.c": "void a(void); void c(void) { a(); }\n",
    })
    assert code == 1 and "3 files: src/low/a.c, src/mid/b.c, src/top/c.c" in out


def test_files_of_one_module_may_call_each_other_if_its_header_says_so(circles):
    assert circles({**CIRCLE, "src/room/x-internal.h": INTERNAL}) == (0, "")


def test_a_header_permits_only_the_files_that_it_lists(circles):
    code, out = circles({**CIRCLE, "src/room/x-internal.h": INTERNAL.replace("b.c", "c.c")})
    assert code == 1 and "a circle of calls" in out


def test_a_permission_that_nobody_needs_is_an_error(circles):
    code, out = circles({**A_CALLS_B, "src/room/x-internal.h": INTERNAL})
    assert code == 1 and "src/room/x-internal.h" in out and "no circle needs that" in out


def test_headers_that_include_each_other_are_reported(circles):
    code, out = circles({
        "src/room/a.c": "",
        "src/room/a.h": '#pragma once\n#include "room/b.h"\n',
        "src/room/b.h": '#pragma once\n#include "room/a.h"\n',
    })
    assert code == 1 and "a circle of includes, 2 files: src/room/a.h, src/room/b.h" in out


def test_functions_of_one_name_in_two_programs_are_not_confused(circles):
    assert circles({
        "src/one/a.c": "void b(void); void a(void) { b(); }\n",
        "src/one/b.c": "void b(void) {}\n",
        "src/two/b.c": "void a(void) {} void b(void) { a(); }\n",
    }) == (0, "")


def test_a_directory_without_objects_is_an_error(circles):
    code, _ = circles({"include/dps/a.h": ""})
    assert code == 1
