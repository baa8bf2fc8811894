# SPDX-License-Identifier: MIT
"""The interfaces as they are described, and as the daemon has them."""
import re
import xml.etree.ElementTree

import pytest

from fakedpsd import identity
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


# contract.h, from which dpsd and dpsctl are made

def contract():
    return (REPOSITORY / "src/basic/contract.h").read_text(encoding="utf-8")


KINDS = {"const": "CONST", "false": "UNTOLD"}


def test_the_contract_lists_the_properties_of_the_description():
    rows = re.findall(r'\bX\("(\w+)", +(\w), +\w+, +(\w+), +\w+\)', contract())
    described = [(p.get("name"), p.get("type"), KINDS[p.find("annotation").get("value")] if p.find("annotation") is not None else "EMITS_CHANGE")
                 for p in xml.etree.ElementTree.parse(REPOSITORY / f"data/{IDENTITY}.xml").iterfind("interface/property")]
    assert rows == described


def test_dpsctl_shows_the_properties_of_the_description(dpsctl, serve):
    serve(identity("gw"))
    shown = [line.split("=")[0] for line in dpsctl("show", "gw")[1].splitlines()]
    assert shown == [p.get("name") for p in
                     xml.etree.ElementTree.parse(REPOSITORY / f"data/{IDENTITY}.xml").iterfind("interface/property")]


def test_the_manual_and_the_help_have_every_exit_code(dpsctl):
    codes = re.findall(r"^ +EXIT_\w+ = (\d+),", contract(), re.MULTILINE)
    manual = (REPOSITORY / "man/dpsctl.1").read_text(encoding="utf-8")
    section = manual[manual.index(".Sh EXIT STATUS"):manual.index(".Sh EXAMPLES")]
    assert codes == re.findall(r"^\.It (\d+)$", section, re.MULTILINE)
    assert codes == re.findall(r"(\d) [a-z]", dpsctl("--help")[1].split("Exit codes: ")[1])


def test_the_manual_has_every_error():
    manual = (REPOSITORY / "man/io.dpsd.dps1.5").read_text(encoding="utf-8")
    errors = re.findall(r'#define DPS_BUS_ERROR_\w+ "io\.dpsd\.dps1\.Error\.(\w+)"', contract())
    assert len(errors) == 7 and set(errors) <= set(re.findall(r"^\.It Ql (\w+)$", manual, re.MULTILINE))
