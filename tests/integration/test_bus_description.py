# SPDX-License-Identifier: MIT
"""The interfaces as they are described, and as the daemon has them."""
import re
import xml.etree.ElementTree

import pytest

from gateway import IDENTITY, MANAGER, ROOT
from process import REPOSITORY

INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"


def interfaces(text):
    """Name of the interface, and all that a generator of code would read in it."""
    def described(element):
        return (element.tag, tuple(sorted(element.attrib.items())), tuple(described(child) for child in element))

    root = xml.etree.ElementTree.fromstring(text)
    return {interface.get("name"): sorted(described(member) for member in interface) for interface in root.findall("interface")}


def told(gateway, path):
    client = gateway.client()
    try:
        return interfaces(client.call(path, INTROSPECTABLE, "Introspect")[0])
    finally:
        client.close()


@pytest.mark.parametrize("name", [MANAGER, IDENTITY])
def test_the_installed_description_is_what_the_daemon_tells(gateway, name):
    gateway.identity()
    gateway.start()
    path = ROOT if name == MANAGER else gateway.path("gateway")
    installed = interfaces((REPOSITORY / "data" / f"{name}.xml").read_text(encoding="utf-8"))
    assert told(gateway, path)[name] == installed[name]


@pytest.mark.parametrize("name", [MANAGER, IDENTITY])
def test_the_manual_names_every_member(name):
    manual = (REPOSITORY / "man/io.dpsd.dps1.5").read_text(encoding="utf-8")
    start, end = (".Sh MANAGER", ".Sh IDENTITY") if name == MANAGER else (".Sh IDENTITY", ".Sh CONNECTION")
    section = manual[manual.index(start):manual.index(end)]
    described = {word for line in re.findall(r"^\.It (?:Va|Fn) (.*)", section, re.MULTILINE) for word in re.findall(r"[A-Z]\w+", line)}
    installed = xml.etree.ElementTree.parse(REPOSITORY / "data" / f"{name}.xml").find("interface")
    assert {member.get("name") for member in installed} <= described
