# SPDX-License-Identifier: MIT
"""dpsctl at a terminal: colours, width, pager, and typing a key."""
import base64
import hashlib
import hmac
import json
import os
import subprocess

import pytest

from fakedpsd import Refusal, identity
from process import DEADLINE, Lines, eventually, program
from terminal import Terminal

KEY = base64.b64encode(bytes(range(32))).decode()
DERIVED = base64.b64encode(hmac.digest(bytes(range(32)), b"gw-1", hashlib.sha256)).decode()


@pytest.fixture
def terminal(dpsctl):
    """terminal("status", ..., columns=80, VARIABLE="x"): exit code and text."""
    return lambda *arguments, **more: Terminal(dpsctl, *arguments, **more).end()


# Looks

def test_a_terminal_gets_colours(terminal, serve):
    serve(identity("a"), identity("b", "failed"))
    assert "\033[1;31mfailed\033[0m" in terminal("status", "--no-pager")[1]


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_no_color_and_a_dumb_terminal_turn_colours_off(terminal, serve, environment):
    serve(identity("a"), identity("b", "failed"))
    code, out = terminal("status", "--no-pager", **environment)
    assert code == 3 and "failed" in out and "\033" not in out


@pytest.mark.parametrize("locale, bullet, dots", [("C.UTF-8", "●", "…"), ("C", "*", "...")])
def test_a_table_fits_a_narrow_terminal(terminal, serve, locale, bullet, dots):
    serve(identity("a", AssignedHub="h"), identity("b", "provisioning", Waiting="network"))
    out = terminal("status", "--no-pager", "--no-legend", columns=60, NO_COLOR="1", LANG=locale)[1]
    assert [line[0] for line in out.splitlines()] == [bullet, bullet]
    assert max(map(len, out.splitlines())) <= 60
    assert terminal("status", "--no-pager", "--no-legend", columns=40, NO_COLOR="1", LANG=locale)[1].count(dots) == 2


def test_columns_overrides_the_width_of_the_terminal(terminal, serve):
    serve(identity("a"), identity("b"))
    out = terminal("status", "--no-pager", "--no-legend", columns=200, NO_COLOR="1", COLUMNS="60")[1]
    assert out.count("…") == 2


# The pager

@pytest.mark.parametrize("variable", ["SYSTEMD_PAGER", "PAGER"])
def test_the_pager_gets_the_output_and_the_exit_code_stays(terminal, serve, variable):
    serve(identity("a"), identity("b", "failed"))
    code, out = terminal("status", **{variable: "sed -n $="})
    assert code == 3 and out == "6\n"


def test_the_pager_may_run_no_commands(terminal, serve, tmp_path):
    script = tmp_path / "pager"
    script.write_text('#!/bin/sh\ncat >/dev/null; echo "$LESS $LESSSECURE"\n')
    script.chmod(0o755)
    serve(identity("a"))
    assert terminal("status", PAGER=str(script))[1] == "FRXMK 1\n"
    assert terminal("status", PAGER=str(script), SYSTEMD_LESS="S")[1] == "S 1\n"


@pytest.mark.parametrize("arguments, environment", [
    (["--no-pager"], {}), (["--json=short"], {}), ([], {"PAGER": "cat"}), ([], {"PAGER": ""}), ([], {"PAGER": "/nowhere/pager"}),
    ([], {"TERM": "dumb"}), ([], {"SYSTEMD_PAGER": ""})])
def test_without_a_pager_the_output_is_printed_directly(terminal, serve, arguments, environment):
    serve(identity("a"))
    code, out = terminal("status", *arguments, **({"PAGER": "sed -n $="} | environment))
    assert code == 0 and "contoso" in out


def test_a_pager_that_ends_early_is_not_an_error(terminal, serve):
    serve(*(identity(f"dev-{k:04}") for k in range(1000)))
    assert terminal("show", PAGER="head -n 1") == (0, "Name=dev-0000\n")


# A key that is typed

def test_a_key_that_is_typed_is_not_shown(dpsctl):
    terminal = Terminal(dpsctl, "derive-key", "gw-1")
    terminal.wait_for_silence()
    terminal.type(KEY + "\n")
    code, out = terminal.end()
    assert code == 0 and out.endswith(f"\n{DERIVED}\n") and KEY not in out


def test_ctrl_c_at_the_key_prompt_resets_the_terminal(dpsctl):
    terminal = Terminal(dpsctl, "derive-key", "gw-1")
    terminal.wait_for_silence()
    terminal.type("\x03")
    assert terminal.process.wait(DEADLINE) != 0
    assert terminal.echoes()
    assert DERIVED not in terminal.end()[1]


# ---- text that comes from elsewhere ----


EVIL = "\033[2Jevil\u202egnp.exe\u2066\x9b\u200b\ufeff\U000e00411m"
SHOWN = "?[2Jevil???gnp.exe?????" + 10 * "?" + "1m"  # a mark for each byte


HIDDEN = "\033\u202e\u2066\x9b\u200b\u2060\ufeff\U000e0041\u00ad\u3164"
VERBS = [["token", "gw"], ["log-level"], ["connection", "gw"], ["status", "gw"], ["status"], ["--json=short"], ["monitor"], ["show"],
         ["history"], ["enrollment"], ["reload"], ["check", "gw"], ["wait", "gw"], ["reprovision", "gw"], ["forget", "gw"],
         ["explain", EVIL], ["report-hub-failure", "gw", "auth"], ["report-hub-connected", "gw"]]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_what_comes_from_elsewhere_cannot_control_the_terminal(dpsctl, serve, verb):
    fake = serve(identity("gw", "failed", LastError=EVIL, LastErrorId="service", AssignedHub=EVIL))
    fake.log_level = EVIL
    fake.call_GetToken = lambda path, lifetime_sec: ("st", (EVIL, 1700000000000000))
    fake.call_GetConnection = lambda path: ("s", (json.dumps({"hub": EVIL, "generation": 1}, ensure_ascii=False).replace("\033", ""),))
    fake.call_GetHistory = lambda path: ("a(tss)", ([(1700000000000000, "failed", EVIL)],))
    fake.call_GetEnrollment = lambda path: ("s", (json.dumps({"method": "x509", "certificateFile": EVIL, "registrationId": EVIL}),))
    fake.call_ReloadWithReport = lambda path: ("asasasasasu", ([EVIL], [EVIL], [EVIL], [EVIL], [EVIL], 1))
    row = {"Name": "gw", "Check": "clock", "Result": "failed", "Text": EVIL}
    fake.call_Check = lambda path, name, options: ("s", (json.dumps({"version": 1, "checks": [row], "names": ["gw"]}),))
    for refused in ("Reprovision", "Forget", "ReportHubFailure", "ReportHubConnected"):
        fake.refuse[refused] = Refusal("Config", EVIL)
    terminal = Terminal(dpsctl, *verb, PAGER="cat", NO_COLOR="1", IOTHUB_GENERATION="1")
    terminal.wait_for("gnp.exe")
    terminal.wait_for("1m")
    shown = terminal.text()
    terminal.process.kill()
    terminal.process.wait()
    assert SHOWN.removeprefix("?") in shown  # JSON writes the first character as \\u001b
    assert not set(shown) & set(HIDDEN), shown


def test_what_comes_from_elsewhere_is_for_programs_as_it_is(dpsctl, serve):
    fake = serve(identity("gw"))
    fake.call_GetToken = lambda path, lifetime_sec: ("st", (EVIL, 1700000000000000))
    assert dpsctl("token", "gw") == (0, f"{EVIL}\n", "")


def test_configuration_cannot_control_the_terminal(dpsctl):
    (dpsctl.etc / "gw.conf").write_text(f"[Provisioning]\nIdScope={EVIL}\n", encoding="utf-8")
    terminal = Terminal(dpsctl, "cat-config", "gw", PAGER="cat", NO_COLOR="1")
    terminal.wait_for("1m")
    terminal.process.wait()
    assert f"IdScope={SHOWN}" in terminal.text()
