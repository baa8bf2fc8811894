# SPDX-License-Identifier: MIT
"""Files that are named on the command line, or in what is named there: what is no file is told at once, and not waited for."""
import os

import pytest

from process import REPOSITORY

KINDS = {
    "fifo": "not a regular file",
    "directory": "Is a directory",
    "device": "not a regular file",
    "huge": "large",
}

CONF = "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw\n{}[Attestation]\nKey=credential:gw.key\n"


@pytest.fixture
def path(tmp_path, request):
    path = tmp_path / "named.conf"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "directory":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(1 << 30)
    return path


def write_conf(path, line):
    conf = path.with_name("gw.conf")
    conf.write_text(CONF.format(f"{line}={path}\n"))
    return conf


DPSCTL = {
    "derive-key": lambda path: ["derive-key", "gw", f"--key={path}"],
    "sas": lambda path: ["sas", f"--key={path}", "--hub=hub.example", "--device-id=gw"],
    "import-key": lambda path: ["import-key", "gw", path],
    "import-config": lambda path: ["import-config", path],
    "verify-config": lambda path: ["verify-config", path],
    "verify-config of PayloadFile=": lambda path: ["verify-config", write_conf(path, "PayloadFile")],
    "verify-config of CaFile=": lambda path: ["verify-config", write_conf(path, "CaFile")],
    "expand": lambda path: ["expand", f"%{{file:{path}}}"],
    "cat-config": lambda path: ["cat-config", "named"],
}


@pytest.mark.parametrize("verb", DPSCTL)
@pytest.mark.parametrize("path", KINDS, indirect=True)
def test_dpsctl_names_what_is_no_file_at_once(lone_gateway, path, request, verb):
    if verb == "import-key" and os.geteuid() != 0:
        pytest.skip("only root imports keys")
    kind = request.node.callspec.params["path"]
    done = lone_gateway.dpsctl(*DPSCTL[verb](path), DPS_LIBEXEC=REPOSITORY / "src/dpsctl", CONFIGURATION_DIRECTORY=path.parent)
    said = done.out + done.err
    if verb == "cat-config":  # shows what can be shown
        assert done.code in (0, 4) and ("named.conf" in done.err), said
        return
    assert done.code == 1, said
    assert str(path) in said and KINDS[kind] in said, said


@pytest.mark.parametrize("path", KINDS, indirect=True)
@pytest.mark.parametrize("words", [["--port=0", "--https-port=0", "--enrollments={}"], ["ctl", "enroll", "{}"]], ids=["start", "ctl"])
def test_the_emulator_names_what_is_no_file_at_once(lone_gateway, tmp_path, path, request, words):
    state = tmp_path / "state"
    state.mkdir()
    done = lone_gateway.execute("dps-emulator", *(word.format(path) for word in [*words[:1], f"--state={state}", *words[1:]]))
    assert done.code == 1 and (str(path) in done.err or "/dev/zero" in done.err), done.out + done.err
    assert KINDS[request.node.callspec.params["path"]] in done.err


@pytest.mark.parametrize("path", ["fifo", "device"], indirect=True)
@pytest.mark.parametrize("words", [["metrics", "--follow={}/file"], ["verify-config", "--root={}"], ["cat-config", "--root={}"]],
                         ids=["follow", "verify-root", "cat-root"])
def test_what_is_no_directory_is_named_at_once(lone_gateway, path, words):
    done = lone_gateway.dpsctl(*(word.format(path) for word in words))
    assert done.code in (1, 2) and str(path) in done.err and "Not a directory" in done.err, done.out + done.err
