# SPDX-License-Identifier: MIT
"""What people read says what the programs do: README, NEWS, and the manual pages for those who look for help."""
import json
import re
import subprocess

from process import BUILD, REPOSITORY, program


def run(*command):
    return subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def text_of(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


VERSION = run(program("dpsctl"), "--version").split()[1]


def test_news_begins_with_this_version():
    assert re.findall(r"^(\d+\.\d+\.\d+)$", text_of("NEWS"), re.M)[0] == VERSION


def test_the_readme_shows_this_version():
    assert re.findall(r"dpsd (\d+\.\d+\.\d+) is ready", text_of("README.md")) == [VERSION]


def test_licence_readme_and_news_are_installed():
    installed = set(json.loads(run("meson", "introspect", "--installed", BUILD)).values())
    assert {f"/usr/share/doc/dps/{name}" for name in ("LICENSE", "NEWS", "README.md")} <= installed
