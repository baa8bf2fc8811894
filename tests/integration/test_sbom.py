# SPDX-License-Identifier: MIT
"""The bill of materials tells what this build really needs."""
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ["DPS_BUILD"])
PROJECTS = {  # by the names of their libraries
    "libcrypto": "openssl", "libssl": "openssl", "libjson-c": "json-c", "libmosquitto": "mosquitto", "libsystemd": "systemd",
    "libcurl": "curl", "libmicrohttpd": "libmicrohttpd", "libgnutls": "gnutls", "libtss2-esys": "tpm2-tss", "libtss2-mu": "tpm2-tss",
    "libtss2-rc": "tpm2-tss", "libtss2-tctildr": "tpm2-tss"}
OURS_OR_LIBC = {"libdps", "libc", "libm", "ld-linux-x86-64", "ld-linux-aarch64", "ld-linux-armhf", "libasan", "libubsan", "libtsan"}


@pytest.fixture(scope="module")
def sbom():
    return json.loads((BUILD / "data/sbom/dps.spdx.json").read_text())


ALWAYS = ("dpsd/dpsd", "dpsctl", "libdps", "transport/mqtt.so", "transport/transport.so", "check/check.so", "credential/issuance.so")


def needed(places):
    """The projects whose libraries these programs and modules, or those of these directories, are linked with."""
    projects = set()
    for path in (p for place in places for p in ([BUILD / "src" / place] if "/" in place else (BUILD / "src" / place).iterdir())):
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF" and path.suffix in ("", ".so", ".0"):
            output = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
            names = {n.split(".so")[0] for n in re.findall(r"\(NEEDED\).*\[(.*)\]", output)} - OURS_OR_LIBC
            projects |= {PROJECTS[n] for n in names}
    return projects


def related(sbom, kind):
    ids = {p["SPDXID"]: p["name"] for p in sbom["packages"]}
    ends = [(r["spdxElementId"], r["relatedSpdxElement"]) for r in sbom["relationships"] if r["relationshipType"] == kind]
    return {ids[end] for pair in ends for end in pair if end in ids} - {"dps"}


def test_sbom_names_each_library_that_programs_are_linked_with(sbom):
    always = needed(ALWAYS)
    assert {"openssl", "json-c", "mosquitto", "systemd"} <= always
    assert related(sbom, "DEPENDS_ON") == always
    rooms = [d.name for d in (BUILD / "src").iterdir() if d.is_dir()]
    assert related(sbom, "OPTIONAL_DEPENDENCY_OF") == needed(rooms) - always


def test_sbom_has_what_spdx_demands(sbom):
    assert sbom["spdxVersion"] == "SPDX-2.3" and sbom["SPDXID"] == "SPDXRef-DOCUMENT" and sbom["dataLicense"] == "CC0-1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", sbom["creationInfo"]["created"])
    for package in sbom["packages"]:
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", package["SPDXID"])
        assert re.match(r"\d", package["versionInfo"]), package
        assert package["licenseDeclared"] and package["downloadLocation"]
    about = [r["relatedSpdxElement"] for r in sbom["relationships"] if r["relationshipType"] == "DESCRIBES"]
    assert about == ["SPDXRef-dps"]
