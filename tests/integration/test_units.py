# SPDX-License-Identifier: MIT
"""Units say only what the systemd of the distribution that they are built for understands."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
# The part of meson.build that systemd/ needs.
PROJECT = "project('units', version : '0')\nsystemd_dep = dependency('libsystemd')\nhas_tpm = false\nsubdir('systemd')\n"
SINCE = {"ImportCredential=dps_*": 254, "RestartSteps=8": 254, "RestartMaxDelaySec=1min": 254, "Type=notify-reload": 259,
         "RefreshOnReload=credentials": 260}


def service(directory, release):
    """The lines of dpsd.service as it is built where libsystemd is of this release."""
    shutil.copytree(SOURCE / "systemd", directory / "systemd")
    (directory / "meson.build").write_text(PROJECT)
    (directory / "libsystemd.pc").write_text(f"Name: systemd\nDescription: systemd\nVersion: {release}\n")
    subprocess.run(["meson", "setup", directory / "build", directory], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                   env={**os.environ, "PKG_CONFIG_PATH": str(directory)})
    return (directory / "build/systemd/dpsd.service").read_text().splitlines()


@pytest.mark.parametrize("release", [252, 253, 254, 257, 258, 259, 260, 262])
def test_a_unit_says_what_this_release_understands(tmp_path, release):
    lines = service(tmp_path, release)
    assert [line for line in SINCE if line in lines] == [line for line, since in SINCE.items() if release >= since]
    assert len([line for line in lines if line.startswith("Type=")]) == 1 and ("Type=notify" in lines) == (release < 259)
    assert not [line for line in lines if re.search("@[A-Z_]+@", line)]
