# SPDX-License-Identifier: MIT
"""dpsctl: exit codes, output, and messages when something is wrong."""
import base64
import hashlib
import hmac
import json
import subprocess
import threading
import time

import pytest

from fakedpsd import Refusal, identity
from gateway import Gateway
from process import DEADLINE, eventually, free_port, program

MINUTE = 60 * 1000000
DAY = 24 * 60 * MINUTE


def now():
    return time.time_ns() // 1000


# Exit codes

def test_status_is_0_when_all_are_assigned(dpsctl, serve):
    serve(identity("gw"), identity("north"))
    assert dpsctl("status")[0] == 0
    assert dpsctl("status", "gw")[0] == 0


def test_status_is_3_when_one_is_not(dpsctl, serve):
    serve(identity("gw"), identity("north", "provisioning"))
    assert dpsctl()[0] == 3
    assert dpsctl("status", "gw")[0] == 0
    assert dpsctl("--json=short")[0] == 3


def test_a_call_that_the_bus_does_not_deliver_because_of_a_flood_is_made_again(dpsctl, serve):
    fake = serve(identity("gw"))
    answer, refusals = fake.call_GetAllIdentities, [Refusal("org.freedesktop.DBus.Error.LimitsExceeded", "the queue is full")] * 2

    def refuse_twice(*arguments):
        if refusals:
            raise refusals.pop()
        return answer(*arguments)

    fake.call_GetAllIdentities = refuse_twice
    code, out, err = dpsctl("status")
    assert code == 0 and "gw" in out and not err
    assert fake.calls.count("GetAllIdentities") == 3


def test_strict_status_is_3_if_an_assigned_identity_has_an_error(dpsctl, serve):
    serve(identity("gw", Healthy=False))
    assert dpsctl("status")[0] == 0
    assert dpsctl("status", "--strict")[0] == 3


def test_status_without_identities_is_0_and_says_so(dpsctl, serve):
    serve()
    code, out, _ = dpsctl("status")
    assert code == 0 and "No identity is configured" in out


@pytest.mark.parametrize("arguments", [
    ["status", "nope"], ["show", "nope"], ["token", "nope"], ["connection", "nope"], ["history", "nope"],
    ["reprovision", "nope"], ["reprovision", "--wait", "nope"], ["wait", "nope"]])
def test_an_unknown_name_is_4(dpsctl, serve, arguments):
    serve(identity("gw"))
    code, _, err = dpsctl(*arguments)
    assert code == 4 and "nope" in err


@pytest.mark.parametrize("arguments", [
    ["status"], ["show"], ["token", "gw"], ["connection", "gw"], ["history"], ["reload"], ["forget", "gw"], ["log-level"],
    ["reprovision"], ["reprovision", "--wait"]])
def test_without_the_daemon_the_code_is_6_and_the_message_says_how_to_start_it(dpsctl, arguments):
    code, _, err = dpsctl(*arguments)
    assert code == 6 and "systemctl start dpsd" in err


@pytest.mark.parametrize("arguments", [["status"], ["reload"], ["reprovision"], ["reprovision", "--wait"]])
def test_without_a_bus_the_code_is_6(dpsctl, bus, arguments):
    bus.stop()
    code, _, err = dpsctl(*arguments)
    assert code == 6 and "bus" in err


@pytest.mark.parametrize("verb", ["status", "wait", "monitor"])
def test_a_host_that_cannot_be_reached_is_6(dpsctl, verb):
    code, _, err = dpsctl("-H", "nobody@host.invalid", verb)
    assert code == 6 and "host.invalid" in err


@pytest.mark.parametrize("arguments, method", [
    (["reload"], "Reload"), (["forget", "gw"], "Forget"), (["reprovision", "gw"], "Reprovision"),
    (["reprovision", "--wait", "gw"], "Reprovision"), (["token", "gw"], "GetToken"), (["connection", "gw"], "GetConnection"),
    (["log-level", "debug"], "Set")])
def test_without_permission_the_code_is_5_and_the_message_says_what_to_do(dpsctl, serve, arguments, method):
    fake = serve(identity("gw"))
    fake.refuse[method] = Refusal("org.freedesktop.DBus.Error.AccessDenied", "This needs the right of rights")
    code, _, err = dpsctl(*arguments)
    assert code == 5 and "the right of rights" in err and "sudo" in err


@pytest.mark.parametrize("name, expected", [
    ("NotAssigned", 3), ("ClockNotTrusted", 1), ("NotSupported", 1), ("KeyUnavailable", 1)])
def test_if_there_is_no_token_the_message_says_why(dpsctl, serve, name, expected):
    serve(identity("gw")).refuse["GetToken"] = Refusal(name, "gw: for this reason")
    code, out, err = dpsctl("token", "gw")
    assert code == expected and not out and "gw: for this reason" in err


def test_too_many_reprovisions_are_8(dpsctl, serve):
    serve(identity("gw")).refuse["Reprovision"] = Refusal("RateLimited", "gw: asked too often, possible again in 50 s")
    code, _, err = dpsctl("reprovision", "gw")
    assert code == 8 and "50 s" in err


@pytest.mark.parametrize("arguments", [
    ["nonsense"], ["--nonsense"], ["token"], ["token", "a", "b"], ["reload", "x"], ["status", "--lifetime=1"], ["--json=xml"],
    ["explain", "nonsense"], ["show", "-p", "Nonsense"], ["show", "-p", ""], ["sas", "--id-scope=0ne"], ["derive-key", "a b"],
    ["token", "gw", "--redact"], ["token", "gw", "--lifetime=5ms"], ["reprovision", "--timeout=3"]])
def test_a_wrong_command_line_is_2(dpsctl, serve, arguments):
    serve(identity("gw"))
    code, out, err = dpsctl(*arguments)
    assert code == 2 and not out and "dpsctl: " in err


@pytest.mark.parametrize("arguments, code", [
    (["status"], 1), (["status", "--json=short"], 1), (["status", "north"], 3), (["connection", "gw"], 1), (["wait", "gw"], 1),
    (["monitor"], 1), (["monitor", "--json=short"], 1), (["check", "--offline"], 1), (["--help"], 1)])
def test_a_full_disk_is_a_failure_with_a_message(dpsctl, serve, arguments, code):
    serve(identity("gw"), *([identity("north", "failed")] if "north" in arguments else []))
    with open("/dev/full", "w", encoding="ascii") as full:
        process = subprocess.run([program("dpsctl"), *arguments], env=dpsctl.environment, stdout=full, stderr=subprocess.PIPE,
                                 text=True, timeout=DEADLINE, check=False)
    assert process.returncode == code and "standard output cannot be written" in process.stderr


@pytest.mark.parametrize("arguments", [["wait", "gw", "--timeout=5", "--help"], ["--help", "status"], ["help", "status"]])
def test_help_works_anywhere_on_the_command_line(dpsctl, arguments):
    code, out, err = dpsctl(*arguments)
    assert code == 0 and out.startswith("dpsctl [OPTION...]") and not err


@pytest.mark.parametrize("arguments", [["check"], ["verify-config"], ["cat-config"], ["expand", "x"], ["explain"], ["sas"]])
def test_verbs_without_the_daemon_take_no_host(dpsctl, arguments):
    code, out, err = dpsctl(*arguments, "-H", "gw.example")
    assert code == 2 and not out and "--host" in err


# status, show

def test_the_card_shows_the_error_and_ends_with_the_next_step(dpsctl, serve):
    serve(identity("gw", "provisioning", Waiting="throttled", NextAttemptAt=now() + 4 * MINUTE, Attempts=3,
                   LastError="DPS has too much to do (429001)", LastErrorId="throttled", LastErrorStep="register",
                   LastErrorCode=429001, LastErrorAt=now() - MINUTE, LastTrackingId="track-1", FailingSince=now() - 12 * MINUTE))
    _, out, _ = dpsctl("status")
    for words in ("gw - provisioning", "DPS has too much to do (429001)", "throttled, code 429001, at register", "track-1",
                  "What to do: ", "3 in a row, the first 12 min ago"):
        assert words in out
    assert out.splitlines()[-1].strip().startswith("next: throttled, asks DPS again in ")
    assert "DPS said to wait that long" in out.splitlines()[-1]


def test_the_table_is_aligned_and_ends_with_the_next_step(dpsctl, serve):
    serve(identity("gateway", RenewAt=now() + 26 * DAY + MINUTE, NextAttemptAt=now() + 26 * DAY + MINUTE),
          identity("n", "provisioning"))
    lines = dpsctl("status")[1].splitlines()
    assert lines[0].index("STATE") == lines[1].index("assigned") == lines[2].index("provisioning")
    assert "renews in 26 days" in lines[1]
    assert lines[-2].startswith("1 of 2 identities assigned, 1 provisioning")
    assert lines[-1].startswith("next: gateway renews in 26 days")


@pytest.mark.parametrize("arguments", [
    ["status"], ["status", "gw"], ["show"], ["history"], ["wait"], ["reprovision", "--wait"], ["reload"], ["forget", "gw"]])
def test_control_characters_are_not_shown(dpsctl, serve, arguments):
    evil = "\033]0;evil\007\033[2J"
    fake = serve(identity("gw", "failed", LastError=evil, LastErrorId=evil, AssignedHub=evil), identity("north"))
    fake.history = {"gw": [(1, "failed", evil)]}
    fake.on_reprovision = lambda name, job: fake.finish(name, job, False, evil)
    fake.refuse |= {"Reload": Refusal("Config", f"a{evil}\nb{evil}"), "Forget": Refusal("Config", evil)}
    _, out, err = dpsctl(*arguments)
    assert "evil" in out + err and not set(out + err) & {"\033", "\007"}


def test_no_legend_prints_only_the_rows(dpsctl, serve):
    serve(identity("a"), identity("b"))
    assert len(dpsctl("status", "--no-legend")[1].splitlines()) == 2


def test_without_a_terminal_there_are_no_colours(dpsctl, serve):
    serve(identity("a"), identity("b", "failed"))
    assert "\033" not in dpsctl("status")[1]


def test_quiet_status_prints_nothing(dpsctl, serve):
    serve(identity("a", "failed"))
    assert dpsctl("status", "-q") == (3, "", "")


def test_json_has_the_properties_unchanged(dpsctl, serve):
    gw = identity("gw", TokenExpiresAt=now() + DAY)
    serve(gw)
    for mode in ("pretty", "short"):
        assert json.loads(dpsctl("status", f"--json={mode}")[1]) == {"version": 1, "identities": [gw]}
    assert dpsctl("status", "--json=short")[1].count("\n") == 1


def test_status_of_a_thousand_identities_takes_one_call(dpsctl, serve):
    fake = serve(*(identity(f"dev-{k:04}") for k in range(1000)))
    code, out, _ = dpsctl("status", "--json=short")
    assert code == 0 and len(json.loads(out)["identities"]) == 1000
    assert fake.calls == ["GetAllIdentities"]


def test_status_of_an_older_daemon_is_the_same(dpsctl, serve):
    fake = serve(*(identity(name, RenewAt=now() + DAY) for name in ("b", "a")))
    new = dpsctl("status", "--json=short")
    fake.refuse["GetAllIdentities"] = Refusal("org.freedesktop.DBus.Error.UnknownMethod", "Unknown method")
    assert dpsctl("status", "--json=short") == new and [row["Name"] for row in json.loads(new[1])["identities"]] == ["a", "b"]


def test_properties_of_a_newer_daemon_do_no_harm(dpsctl, serve):
    serve(identity("gw") | {"Novelty": "new"})
    assert dpsctl("status")[0] == 0


@pytest.mark.parametrize("columns", [
    {"Name": ("as", ["a", "b"]), "State": ("as", ["assigned"])}, {"Name": ("as", ["a"]), "Generation": ("at", [1, 2])},
    {"State": ("as", ["assigned"]), "Name": ("as", ["a"])}, {"Generation": ("at", [1])}],
    ids=["too few values", "too many values", "values before names", "no names"])
def test_an_answer_whose_parts_do_not_agree_is_no_status(dpsctl, serve, columns):
    serve().call_GetAllIdentities = lambda _: ("a{sv}", (columns,))
    code, out, err = dpsctl("status")
    assert code == 1 and not out and "GetAllIdentities" in err and "different versions" in err


def test_show_is_for_scripts(dpsctl, serve):
    serve(identity("gw", RenewAt=17, LastError="two\nlines"))
    out = dpsctl("show", "gw")[1].splitlines()
    assert "State=assigned" in out and "RenewAt=17" in out and "Healthy=yes" in out and "LastError=two?lines" in out
    assert dpsctl("show", "-p", "State,RenewAt")[1] == "State=assigned\nRenewAt=17\n"
    assert json.loads(dpsctl("show", "-p", "State", "--json=short")[1])["identities"] == [{"State": "assigned"}]


def test_redacted_output_shows_no_private_value(dpsctl, serve):
    serve(identity("a", "failed", LastError="0ne00AABBCC does not know reg-a"), identity("b"))
    for arguments in (["status"], ["status", "a"], ["--json=short"], ["show"], ["connection", "b"], ["wait"]):
        _, out, err = dpsctl(*arguments, "--redact")
        for secret in ("0ne00AABBCC", "reg-a", "reg-b", "contoso"):
            assert secret not in out + err, arguments


# wait

def test_wait_goes_on_until_all_are_assigned(dpsctl, serve):
    fake = serve(identity("gw", "provisioning"))
    process = dpsctl.start("wait", "--timeout=60")
    wait_for_call(fake, "GetManagedObjects")
    fake.change("gw", State="assigned", AssignedHub="hub", DeviceId="gw")
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0 and out == "gw: assigned to hub as gw\n"
    assert fake.calls == ["GetManagedObjects"]  # it does not poll


def wait_for_call(fake, member):
    end = time.monotonic() + DEADLINE
    while member not in fake.calls:
        assert time.monotonic() < end, f"{member} was not called"
        time.sleep(0.01)


def test_wait_is_3_when_one_has_failed(dpsctl, serve):
    serve(identity("gw"), identity("north", "failed", LastError="the enrollment is disabled", LastErrorId="auth"))
    code, _, err = dpsctl("wait")
    assert code == 3 and "north: failed: the enrollment is disabled" in err
    assert dpsctl("wait", "gw")[0] == 0
    assert dpsctl("wait", "--any")[0] == 0


def waits_in_vain(dpsctl, words, *arguments):
    """What it says in the end, which should contain these words. On a busy machine 200 ms may be over before the daemon has answered."""
    for timeout in ("200ms", "2s", f"{DEADLINE / 2}s"):
        code, _, err = dpsctl(*arguments, f"--timeout={timeout}")
        assert code == 7, err
        if words in err:
            return err
    raise AssertionError(err)


def test_wait_is_7_after_the_timeout_and_names_the_identity(dpsctl, serve):
    serve(identity("gw", "provisioning", Waiting="network"))
    assert "waits for the network" in waits_in_vain(dpsctl, "gw: provisioning", "wait")


def test_wait_ignores_identities_that_are_not_required(dpsctl, serve):
    serve(identity("gw"), identity("extra", "provisioning", RequiredForProvisioned=False))
    assert dpsctl("wait", "--timeout=60")[0] == 0


def test_wait_fresh_needs_an_answer_since_the_boot(dpsctl, serve, stranger):
    fake = serve(identity("gw", LastSuccessAt=1))
    assert dpsctl("wait")[0] == 0
    waits_in_vain(dpsctl, "DPS has not answered since the boot", "wait", "--fresh")
    before, n = stranger.clients(), fake.answered.count("GetManagedObjects")
    process = dpsctl.start("wait", "--fresh", "--timeout=60")
    victim = stranger.wait_for_newcomer(before)
    eventually(lambda: fake.answered.count("GetManagedObjects") > n, what="the list")
    stranger.wait_until_handled(victim)  # and so it is still there
    fake.change("gw", LastSuccessAt=now())
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def test_wait_waits_for_the_daemon(dpsctl, serve):
    process = dpsctl.start("wait", "--timeout=60")
    assert "waiting for it" in process.stderr.readline()
    serve(identity("gw"))
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def test_wait_waits_for_the_bus(dpsctl, bus, serve):
    bus.stop()
    process = dpsctl.start("wait", "--timeout=60")
    bus.start()
    serve(identity("gw"))
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def test_wait_without_the_daemon_is_7_and_says_so(dpsctl):
    code, _, err = dpsctl("wait", "--timeout=200ms")
    assert code == 7 and "systemctl start dpsd" in err


def test_wait_is_4_if_its_identity_is_not_configured_any_more(dpsctl, serve):
    fake = serve(identity("gw", "provisioning"), identity("north", "provisioning"))
    named, rest = dpsctl.start("wait", "gw"), dpsctl.start("wait")
    while fake.calls.count("GetManagedObjects") < 2:
        time.sleep(0.01)
    fake.remove("gw")
    assert "gw is not configured any more" in named.communicate(timeout=DEADLINE)[1] and named.returncode == 4
    fake.change("north", State="assigned", AssignedHub="hub", DeviceId="dev")
    assert rest.communicate(timeout=DEADLINE)[0] == "north: assigned to hub as dev\n" and rest.returncode == 0


def test_wait_with_nothing_to_wait_for_is_0_and_says_so(dpsctl, serve):
    serve(identity("gw", "provisioning", RequiredForProvisioned=False))
    assert dpsctl("wait") == (0, "No identity has to be waited for: RequiredForProvisioned=no is set for all.\n", "")


def test_wait_does_not_succeed_while_nothing_is_configured(dpsctl, serve):
    serve()
    code, out, err = dpsctl("wait")
    assert code == 3 and not out and "no identity is configured" in err


def test_wait_ends_once_nothing_is_configured_any_more(dpsctl, serve):
    fake = serve(identity("gw", "provisioning"))
    waiting = dpsctl.start("wait")
    eventually(lambda: "GetManagedObjects" in fake.calls)
    fake.remove("gw")
    assert "no identity is configured" in waiting.communicate(timeout=DEADLINE)[1] and waiting.returncode == 3


def test_a_verb_that_is_misspelt_is_guessed(dpsctl):
    code, _, err = dpsctl("reprovison")
    assert code == 2 and "did you mean reprovision?" in err
    code, _, err = dpsctl("frobnicate")
    assert code == 2 and "dpsctl --help lists them" in err


def test_json_without_a_word_is_pretty(dpsctl):
    bare, pretty = dpsctl("--json", "explain", "dns"), dpsctl("--json=pretty", "explain", "dns")
    assert bare == pretty and bare[0] == 0 and bare[1].startswith("{\n")


def test_wait_for_many_counts_them(dpsctl, serve):
    serve(*(identity(f"dev-{k:02}") for k in range(20)))
    lines = dpsctl("wait")[1].splitlines()
    assert len(lines) == 9 and lines[-1] == "20 of 20 identities assigned"


def test_quiet_wait_prints_only_identities_that_are_not_assigned(dpsctl, serve):
    serve(identity("a"), identity("b", "failed", LastError="disabled"))
    code, out, err = dpsctl("wait", "-q")
    assert code == 3 and not out and err.startswith("dpsctl: b: failed: disabled; next: ")


# reprovision

def test_reprovision_does_not_wait(dpsctl, serve):
    fake = serve(identity("a"), identity("b"))
    assert dpsctl("reprovision")[0] == 0
    assert fake.calls.count("Reprovision") == 2


@pytest.mark.parametrize("wait", [[], ["--wait"]])
def test_without_permission_to_reprovision_there_is_one_message(dpsctl, serve, wait):
    fake = serve(identity("a"), identity("b"))
    fake.refuse["Reprovision"] = Refusal("org.freedesktop.DBus.Error.AccessDenied", "the right of rights")
    code, _, err = dpsctl("reprovision", *wait)
    assert code == 5 and err.count("the right of rights") == fake.calls.count("Reprovision") == 1
    dpsctl("reprovision", "a", "b")  # which polkit may see differently
    assert fake.calls.count("Reprovision") == 3


def test_reprovision_wait_is_0_if_dps_assigns(dpsctl, serve):
    fake = serve(identity("gw"))

    def answer(name, job):
        fake.finish(name, job + 1, False, "somebody else's")
        fake.change(name, AssignedHub="new-hub")
        fake.finish(name, job, True)

    fake.on_reprovision = answer
    code, out, _ = dpsctl("reprovision", "--wait", "gw")
    assert code == 0 and out == "gw: assigned to new-hub as reg-gw\n"


def test_reprovision_wait_is_1_with_the_reason_if_dps_refuses(dpsctl, serve):
    fake = serve(identity("gw"), identity("north"))
    fake.on_reprovision = lambda name, job: fake.finish(name, job, name == "gw", "" if name == "gw" else "DPS refused the token")
    code, out, err = dpsctl("reprovision", "--wait")
    assert code == 1 and "north: DPS refused the token" in err and "gw: assigned" in out
    report = json.loads(dpsctl("reprovision", "--wait", "--json=short")[1])
    assert report["reprovisions"] == [{"Name": "gw", "Ok": True, "Error": ""},
                                      {"Name": "north", "Ok": False, "Error": "DPS refused the token"}]


def test_reprovision_wait_is_7_if_no_answer_comes(dpsctl, serve):
    serve(identity("gw"))
    waits_in_vain(dpsctl, "gw: no answer", "reprovision", "--wait", "gw")


def test_reprovision_wait_is_6_if_the_daemon_stops(dpsctl, serve):
    fake = serve(identity("gw"))
    fake.on_reprovision = lambda name, job: threading.Thread(target=fake.stop).start()
    assert dpsctl("reprovision", "--wait", "gw")[0] == 6


# The other verbs

def test_token_and_connection_print_nothing_else_on_standard_output(dpsctl, serve):
    serve(identity("gw"))
    assert dpsctl("token", "gw", "--lifetime=2h") == (0, "SharedAccessSignature sr=gw&se=7200\n", "")
    assert json.loads(dpsctl("token", "gw", "--json=short")[1])["ExpiresAt"] == 1700000000000000
    assert json.loads(dpsctl("connection", "gw")[1])["password"] == "secret"
    assert json.loads(dpsctl("connection", "gw", "--redact")[1])["password"] == "***"


def test_reload_prints_a_line_for_each_error(dpsctl, serve):
    fake = serve(identity("gw"))
    assert dpsctl("reload")[0] == 0
    fake.reload_errors = ["/etc/dps/a.conf:3: bad", "/etc/dps/b.conf:4: worse"]
    code, _, err = dpsctl("reload")
    assert code == 1 and err.startswith("/etc/dps/a.conf:3: bad\n/etc/dps/b.conf:4: worse\n")
    code, out, _ = dpsctl("reload", "--json=short")
    assert code == 1 and json.loads(out)["errors"] == fake.reload_errors and json.loads(out)["reloaded"] == "part"


def test_forget_of_an_unknown_name_says_where_records_are(dpsctl, serve):
    serve().refuse["Forget"] = Refusal("NoSuchIdentity", "There is no record of an identity named 'gw'")
    code, _, err = dpsctl("forget", "gw")
    assert code == 4 and "dpsctl status" not in err and "/var/lib/dps" in err


def test_log_level_is_read_and_set(dpsctl, serve):
    fake = serve()
    assert dpsctl("log-level") == (0, "info\n", "")
    assert dpsctl("log-level", "debug")[0] == 0
    assert fake.log_level == "debug"


@pytest.mark.parametrize("arguments, expected", [
    (["reload"], {"reloaded": "all", "errors": [], "warnings": [], "added": [], "changed": [], "retired": [], "unchanged": 0}),
    (["forget", "gw"], {"forgotten": "gw"}), (["log-level"], {"LogLevel": "info"})])
def test_verbs_for_the_daemon_as_a_whole_print_json(dpsctl, serve, arguments, expected):
    serve()
    assert json.loads(dpsctl(*arguments, "--json=short")[1]) == {"version": 1} | expected


def test_history_is_sorted_by_time(dpsctl, serve):
    fake = serve(identity("a"), identity("b"))
    fake.history = {"a": [(1000000, "provisioning", "first"), (3000000, "assigned", "third")], "b": [(2000000, "failed", "second")]}
    rows = dpsctl("history")[1].splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["first", "second", "third"]
    assert [row["Name"] for row in json.loads(dpsctl("history", "--json=short")[1])["transitions"]] == ["a", "b", "a"]


# Without the daemon

KEY = base64.b64encode(bytes(range(32))).decode()


def test_a_derived_key_is_the_hmac_of_the_registration_id(dpsctl):
    expected = base64.b64encode(hmac.digest(bytes(range(32)), b"gw-1", hashlib.sha256)).decode()
    assert dpsctl("derive-key", "gw-1", stdin=KEY + "\n") == (0, expected + "\n", "")
    key = dpsctl.directory / "key"
    key.write_text(KEY)
    assert dpsctl("derive-key", "gw-1", f"--key={key}")[1] == expected + "\n"


def test_derive_key_warns_of_capitals(dpsctl):
    code, out, err = dpsctl("derive-key", "GW-1", stdin=KEY + "\n")
    assert code == 0 and out.endswith("=\n") and "the registration id has capital letters" in err
    assert dpsctl("derive-key", "-q", "GW-1", stdin=KEY + "\n")[1:] == (out, "")


def test_a_key_that_is_not_valid_is_not_shown(dpsctl):
    code, out, err = dpsctl("derive-key", "gw-1", stdin="not-a-key")
    assert code == 1 and not out and "not-a-key" not in err


@pytest.mark.parametrize("content, words", [
    (KEY * 9, "more than one key"), ("", "is empty"), ("AAAA", "16 to 64 bytes"), (None, "directory")])
def test_the_message_says_why_a_key_is_not_valid(dpsctl, content, words):
    path = dpsctl.directory / "key"
    path.mkdir() if content is None else path.write_text(content)
    code, out, err = dpsctl("derive-key", "gw-1", f"--key={path}")
    assert code == 1 and not out and words in err and f"{path}" in err


def test_sas_makes_tokens_for_dps_and_for_hubs(dpsctl):
    code, token, _ = dpsctl("sas", "--id-scope=0ne", "--registration-id=gw", "--expiry=1700000000", stdin=KEY)
    assert code == 0 and "sr=0ne%2Fregistrations%2Fgw&" in token and "se=1700000000&skn=registration" in token
    code, token, _ = dpsctl("sas", "--hub=h.azure-devices.net", "--device-id=gw", "--lifetime=1h", stdin=KEY)
    assert code == 0 and "sr=h.azure-devices.net%2Fdevices%2Fgw&" in token and "skn" not in token


@pytest.mark.parametrize("arguments", [
    ["sas", "--hub=", "--device-id=gw"], ["sas", "--hub=h.azure-devices.net", "--device-id="],
    ["sas", "--hub=h/x", "--device-id=gw"],
    ["sas", "--id-scope=", "--registration-id=gw"], ["sas", "--id-scope=0ne", "--registration-id=gw."],
    ["sas", "--id-scope=0ne", "--registration-id=gw", "--expiry=18446744073709551615"],
    ["sas", "--id-scope=0ne", "--registration-id=gw", "--expiry=0"],
    ["sas", "--id-scope=0ne", "--registration-id=gw", "--expiry=1", "--lifetime=1h"], ["derive-key", ""], ["derive-key", "gw."]])
def test_ids_that_are_not_valid_give_no_key_and_no_token(dpsctl, arguments):
    code, out, err = dpsctl(*arguments, stdin=KEY)
    assert code == 2 and not out and "dpsctl: " in err


def test_expand_says_why_it_fails(dpsctl):
    assert dpsctl("expand", "gw-%%")[1] == "gw-%\n"
    code, out, err = dpsctl("expand", "%{mac:nope0}")
    assert code == 1 and not out and "nope0" in err


@pytest.mark.parametrize("word, members", [
    ("throttled", {"Id": "throttled"}), ("401002", {"Id": "auth", "Code": 401002})])
def test_explain_prints_json(dpsctl, word, members):
    errors = json.loads(dpsctl("explain", word, "--json=short")[1])["errors"]
    assert len(errors) == 1 and members.items() <= errors[0].items() and errors[0].keys() - members == {
        "Meaning", "Advice", "Cause", "Apart", "ByItself", "Commands"}


def test_explain_says_all_that_a_manual_page_would(dpsctl):
    for row in json.loads(dpsctl("explain", "--json=short")[1])["errors"]:
        assert all(row[key] for key in ("Meaning", "Advice", "Cause", "Apart", "ByItself", "Commands")), row
        shown = dpsctl("explain", row["Id"])[1]
        assert all(row[key] in shown for key in ("Meaning", "Advice", "Cause", "Apart", "ByItself"))
        assert shown.splitlines()[-len(row["Commands"].splitlines()):] == [f"     {line}" for line in row["Commands"].splitlines()]


@pytest.mark.parametrize("code", ["123456", "999", "400999", "100", "418", "0", "-1", "4012020"])
def test_explain_refuses_a_code_that_nobody_defined(dpsctl, code):
    result, out, err = dpsctl("explain", "--", code)
    assert result == 2 and not out and code in err


def test_explain_knows_ids_and_codes(dpsctl):
    assert "What to do" in dpsctl("explain", "throttled")[1]
    assert dpsctl("explain", "401002")[1].startswith("auth (401002")
    assert len(dpsctl("explain")[1].splitlines()) > 20


def test_help_fits_on_a_screen(dpsctl):
    code, out, _ = dpsctl("--help")
    assert code == 0 and len(out.splitlines()) <= 24 and max(map(len, out.splitlines())) <= 80
    assert dpsctl("--version")[1].startswith("dpsctl ")


# With the real daemon, and no DPS in reach

@pytest.fixture
def offline(tmp_path, bus):
    """A gateway whose endpoint refuses connections."""
    port = free_port()
    gateway = Gateway(tmp_path / "gateway", bus.address)
    key = gateway.write_key("gw.key", KEY)
    gateway.write_conf("gw", f"[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\nEndpoint=127.0.0.1\nMqttPort={port}\n"
                             f"[Attestation]\nKey={key}\n")
    gateway.start()
    yield gateway
    gateway.close()


def test_the_real_daemon_and_dpsctl_understand_each_other(offline):
    offline.wait_for("gw", State="provisioning", LastErrorId="refused")
    status = offline.dpsctl("status", "--json=short")
    assert status.code == 3 and status.json["identities"][0]["LastErrorId"] == "refused"
    assert set(status.json["identities"][0]) == set(offline.properties("gw"))
    assert "asks DPS again" in offline.dpsctl("status").out
    assert offline.dpsctl("token", "gw").code == 3
    assert offline.dpsctl("history").code == 0
    assert offline.dpsctl("wait", "--timeout=200ms").code == 7
    assert offline.dpsctl("forget", "gw").code == 1
    assert offline.dpsctl("status", "nope").code == 4
    assert offline.dpsctl("log-level", "debug").code == 0
    assert offline.dpsctl("log-level").out == "debug\n"


def test_a_failed_reprovision_of_the_real_daemon_has_its_reason(offline):
    result = offline.dpsctl("reprovision", "--wait", "gw")
    assert result.code == 1 and "refused" in result.err


def test_the_real_daemon_limits_reprovisions(offline):
    codes = [offline.dpsctl("reprovision", "gw").code for _ in range(6)]
    assert codes == [0, 0, 0, 0, 0, 8]


def test_reload_of_the_real_daemon_lists_the_errors(offline):
    conf = offline.configuration / "gw.conf"
    good = conf.read_text()
    conf.write_text(good + "nonsense\n")
    result = offline.dpsctl("reload")
    assert result.code == 1 and f"{conf}:8:" in result.err
    conf.unlink()
    assert offline.dpsctl("reload").code == 0
    assert offline.dpsctl("status").code == 0
    conf.write_text(good)
    assert offline.dpsctl("reload").code == 0
    assert offline.dpsctl("status").code == 3
