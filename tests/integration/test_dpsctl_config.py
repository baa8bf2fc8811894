# SPDX-License-Identifier: MIT
"""dpsctl on configuration files: verify-config, cat-config, and twins, which check finds too."""
import json
import pathlib
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from certificates import Issuer, name, pem
from gateway import can_change_user
from process import DEADLINE, program

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GOOD = "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\n[Attestation]\nKey=/etc/dps/gw.key\n"


def test_verify_config_is_1_and_names_the_lines_of_the_errors(dpsctl):
    path = dpsctl.etc / "gw.conf"
    path.write_text(GOOD)
    assert dpsctl("verify-config", str(path))[0] == 0
    path.write_text(GOOD + "[Hub]\nTokenLifetime=soon\n")
    code, out, _ = dpsctl("verify-config", str(path))
    assert code == 1 and f"error: {path}:7: " in out
    path.write_text(GOOD + "[Hub]\nTokenLifetim=1d\n")
    code, out, _ = dpsctl("verify-config")
    assert code == 0 and f"warning: {path}:7: " in out


def test_verify_config_reads_the_files_below_its_root(dpsctl):
    del dpsctl.environment["CONFIGURATION_DIRECTORY"]
    etc = dpsctl.directory / "image/etc/dps"
    etc.mkdir(parents=True)
    (etc / "gw.conf").write_text("[Provisioning]\nIdScope=\n")
    code, out, _ = dpsctl("verify-config", f"--root={dpsctl.directory}/image")
    assert code == 1 and f"{etc}/gw.conf" in out


def write_x509(dpsctl, certificate, root=""):
    (dpsctl.directory / root / "gw.pem").write_bytes(certificate)
    path = dpsctl.etc / "gw.conf"
    path.write_text("[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\n[Attestation]\nMethod=x509\n"
                    f"Certificate={'' if root else dpsctl.directory}/gw.pem\nPrivateKey=/etc/dps/gw.key\n")
    return path


def test_verify_config_warns_of_a_chain_without_its_intermediate(dpsctl):
    line = Issuer("line 7", Issuer("root"))
    leaf = pem(line.sign(name("gw-1"), ec.generate_private_key(ec.SECP256R1()), []))
    path = write_x509(dpsctl, leaf)
    code, out, _ = dpsctl("verify-config", str(path))
    assert code == 0 and f"warning: {path}:6: {dpsctl.directory}/gw.pem: the certificate of the device's issuer, \"line 7\"," in out
    write_x509(dpsctl, leaf + pem(line.certificate))
    assert dpsctl("verify-config", str(path))[1] == "The configuration has no errors.\n"


def test_verify_config_takes_a_self_signed_certificate(dpsctl):
    assert "warning" not in dpsctl("verify-config", str(write_x509(dpsctl, pem(Issuer("gw-1").certificate))))[1]


def test_verify_config_warns_of_a_key_that_azure_does_not_take(dpsctl):
    line = Issuer("line 7")
    leaf = line.sign(name("gw-1"), ed25519.Ed25519PrivateKey.generate(), [])
    out = dpsctl("verify-config", str(write_x509(dpsctl, pem(leaf, line.certificate))))[1]
    assert "gw.pem: its key is of type ED25519, but Azure takes RSA and EC keys only" in out and out.count("warning") == 1


def certificate_for(text, **dates):
    issuer = Issuer(text)
    return pem(issuer.sign(issuer.name, issuer.key, [], **dates))


def test_verify_config_tells_that_a_certificate_is_for_another_device(dpsctl):
    code, out, _ = dpsctl("verify-config", str(write_x509(dpsctl, certificate_for("gw-2"))))
    assert code == 1 and 'gw.pem: its common name is "gw-2", but must be the registration ID, "gw-1"\n' in out
    (dpsctl.directory / "image").mkdir()  # of any device
    path = write_x509(dpsctl, certificate_for("gw-2"), root="image")
    assert dpsctl("verify-config", f"--root={dpsctl.directory}/image", str(path))[0] == 0


@pytest.mark.parametrize("dates, words", [({"not_before": -9, "not_after": -1}, "has expired"), ({"not_before": 1}, "is not valid yet")])
def test_verify_config_warns_of_a_certificate_out_of_time(dpsctl, dates, words):
    code, out, _ = dpsctl("verify-config", str(write_x509(dpsctl, certificate_for("gw-1", **dates))))
    assert code == 0 and f"gw.pem: the certificate {words}, by the clock of this machine\n" in out and out.count("warning") == 1


def test_verify_config_reads_certificates_below_its_root(dpsctl):
    (dpsctl.directory / "image").mkdir()
    path = write_x509(dpsctl, pem(Issuer("line 7", Issuer("root")).sign(name("gw-1"), ec.generate_private_key(ec.SECP256R1()), [])),
                      root="image")
    assert "is not in the file" in dpsctl("verify-config", f"--root={dpsctl.directory}/image", str(path))[1]


def test_capitals_that_a_specifier_gives_are_warned_of_where_a_key_is_derived(dpsctl):
    path = dpsctl.etc / "gw.conf"
    (dpsctl.directory / "id").write_text("Box-7\n")
    derived = GOOD.replace("gw-1", f"%{{file:{dpsctl.directory}/id}}").replace("\nKey=", "\nGroupKey=")
    path.write_text(derived)
    code, out, _ = dpsctl("verify-config", str(path))
    assert code == 0 and f'{path}:3: RegistrationId=: "Box-7" has capital letters' in out
    assert "Box-7" not in dpsctl("verify-config", "--redact", str(path))[1]
    path.write_text(derived.replace("GroupKey=", "Key="))
    assert "capital" not in dpsctl("verify-config", str(path))[1]


def test_quotes_around_a_specifier_are_reported(dpsctl):
    path = dpsctl.etc / "gw.conf"
    path.write_text(GOOD.replace("gw-1", '"gw-%{machine-id}"').replace("/etc/dps/gw.key", '"/etc/dps/%{machine-id}.key"'))
    code, out, _ = dpsctl("verify-config", str(path))
    assert code == 1 and out.count("(remove the quotes)") == 2 and f"error: {path}:3: RegistrationId=" in out


def test_a_misspelt_section_is_reported_where_its_key_is_missing(dpsctl):
    path = dpsctl.etc / "gw.conf"
    path.write_text(GOOD.replace("[Attestation]", "[Atestation]"))
    code, out, _ = dpsctl("verify-config", str(path))
    assert code == 1
    assert f"error: {path}:5: Key= is missing in [Attestation]; is [Atestation], where this line is, meant to be it?" in out


def write_twins(dpsctl, first="gw-1", second="GW-1"):
    paths = [dpsctl.etc / f"{name}.conf" for name in ("a", "b")]
    for path, registration_id in zip(paths, (first, second)):
        path.write_text(GOOD.replace("gw-1", registration_id))
    return paths


def test_verify_config_finds_twins_among_the_files(dpsctl):
    a, b = write_twins(dpsctl)
    for files in ((a, b), (b, a), ()):
        code, out, _ = dpsctl("verify-config", *map(str, files))
        assert code == 1 and out.count("\n") == 1 and out.startswith(f"error: {b}:3: ") and f" a ({a})" in out
    assert dpsctl("verify-config", str(b))[0] == 0


def remember(dpsctl, name, registration_id, **more):
    """Writes the record of an identity that is assigned."""
    state = dpsctl.directory / "state"
    state.mkdir(exist_ok=True)
    dpsctl.environment["STATE_DIRECTORY"] = str(state)
    record = {"version": 1, "idScope": "0ne00AABBCC", "registrationId": registration_id, "assignedHub": "hub.example"} | more
    (state / f"{name}.json").write_text(json.dumps(record))


@pytest.mark.parametrize("verb", [["verify-config"], ["check", "--offline"]])
def test_of_twins_the_one_that_holds_the_assignment_keeps_the_device(dpsctl, verb):
    a, b = write_twins(dpsctl)
    remember(dpsctl, "a", "gw-1", assignedHub="")
    remember(dpsctl, "b", "gw-1")
    code, out, _ = dpsctl(*verb)
    assert code == 1 and 'b.conf and a.conf both have registration id "gw-1" and ID scope "0ne00AABBCC": change one' in out
    assert verb[0] == "check" or f"error: {a}:3: b.conf" in out and f"; b ({b}) holds the assignment\n" in out
    remember(dpsctl, "b", "gw-0")  # of the device that it was
    assert "a.conf and b.conf both have" in dpsctl(*verb)[1]


def test_verify_config_warns_of_a_twin_that_is_installed(dpsctl):
    gateway = dpsctl.etc / "gateway.conf"
    gateway.write_text(GOOD)
    for name, words in (("spare", "gateway.conf and spare.conf both"), ("again", "again.conf and gateway.conf both")):
        other = dpsctl.directory / f"{name}.conf"
        other.write_text(GOOD)
        code, out, _ = dpsctl("verify-config", str(other))
        assert code == 0 and out.startswith("warning: ") and words in out and out.count("\n") == 1
    assert dpsctl("verify-config", str(gateway))[1] == "The configuration has no errors.\n"


@pytest.mark.parametrize(("first", "second", "are_twins"), [
    ("%{file:%s/id}", "gw-1", True), ("x-%{mac:nope0}", "x-%{mac:nope0}", True), ("x-%{mac:nope0}", "y-%{mac:nope0}", False),
    ("%{cert-cn}", "%{cert-cn}", False),
])
def test_twins_are_compared_after_expansion(dpsctl, first, second, are_twins):
    (dpsctl.directory / "id").write_text("gw-1\n")
    write_twins(dpsctl, first.replace("%s", str(dpsctl.directory)), second)
    assert dpsctl("verify-config")[0] == (1 if are_twins else 0)


def test_two_files_of_the_same_name_are_not_twins(dpsctl):
    path = dpsctl.etc / "gw.conf"
    other = dpsctl.directory / "gw.conf"
    for one in (path, other):
        one.write_text(GOOD)
    assert dpsctl("verify-config", str(path), str(other))[0] == 0


@pytest.mark.parametrize("asked", [(), ("b",)])
def test_check_compares_with_all_configured_identities(dpsctl, asked):
    write_twins(dpsctl)
    code, out, _ = dpsctl("check", "--offline", "--json=short", *asked)
    rows = [row for row in json.loads(out)["checks"] if "both have registration id" in row["Text"]]
    assert code == 1 and [(row["Name"], row["Result"]) for row in rows] == [("b", "failed")]
    assert "a.conf and b.conf" in rows[0]["Text"]


def test_check_masks_the_ids_of_twins(dpsctl):
    write_twins(dpsctl)
    _, out, _ = dpsctl("check", "--offline", "--redact")
    assert "both have registration id" in out and "gw-1" not in out.lower() and "0ne00AABBCC" not in out


@pytest.mark.parametrize("file, words", [
    ("gw.txt", "dpsd reads only files named NAME.conf"), ("-gw.conf", "dpsd skips this file, because its name is not a valid name")])
def test_verify_config_warns_of_a_name_that_is_not_read(dpsctl, file, words):
    path = dpsctl.directory / file
    path.write_text(GOOD)
    code, out, _ = dpsctl("verify-config", str(path))
    assert code == 0 and out.startswith(f"warning: {path}: {words}")


def test_verify_config_prints_json(dpsctl):
    path = dpsctl.directory / "gw.conf"
    path.write_text(GOOD + "[Hub]\nTokenLifetime=soon\nSpeed=1\n")
    code, out, _ = dpsctl("verify-config", str(path), "--json=short")
    remarks = json.loads(out)["remarks"]
    assert code == 1 and sorted(row["Severity"] for row in remarks) == ["error", "warning"]
    assert all(row["Text"].startswith(f"{path}:") for row in remarks)


def test_cat_config_prints_json(dpsctl):
    path = dpsctl.etc / "gw.conf"
    path.write_text(GOOD)
    rows = json.loads(dpsctl("cat-config", "gw", "--json=short")[1])["configuration"]
    assert [row["Name"] for row in rows] == ["gw"]
    assert rows[0]["Lines"][1] == {"Section": "Provisioning", "Key": "RegistrationId", "Value": "gw-1", "File": str(path),
                                   "Line": 3}


@pytest.mark.parametrize("verb", [["verify-config"], ["cat-config"], ["expand", "x"]])
@pytest.mark.parametrize("root", ["", "/nowhere/image", "/etc/passwd"])
def test_a_root_that_is_not_a_directory_is_2(dpsctl, verb, root):
    code, out, err = dpsctl(*verb, f"--root={root}")
    assert code == 2 and not out and f"--root={root}: " in err


def test_verify_config_warns_if_nothing_is_configured(dpsctl):
    code, out, _ = dpsctl("verify-config")
    assert code == 0 and f"warning: {dpsctl.etc}: no identity is configured" in out


def test_cat_config_names_files_and_hides_secrets(dpsctl):
    (dpsctl.etc / "gw.conf").write_text(GOOD.replace("/etc/dps/gw.key", KEY))
    drop_in = dpsctl.etc / "gw.conf.d/10-site.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Provisioning]\nSplay=5min\nProxy=http://me:pass@proxy:1\n")
    code, out, err = dpsctl("cat-config", "gw")
    assert code == 0 and f"# {drop_in}\nSplay=5min" in out
    assert KEY not in out + err and "pass" not in out + err and "Key=(not shown)" in out
    assert dpsctl("cat-config", "nope")[0] == 4


def test_dpsctl_is_one_program(dpsctl, tmp_path):
    """Copied alone into an image, or an initrd, it has all verbs but import-config, which needs Python."""
    alone = tmp_path / "bin/dpsctl"
    alone.parent.mkdir()
    shutil.copy(program("dpsctl"), alone)
    (dpsctl.etc / "gw.conf").write_text(GOOD)
    environment = {**dpsctl.environment, "LD_LIBRARY_PATH": str(pathlib.Path(program("dpsctl")).parents[1] / "libdps")}
    for arguments, code in ((["expand", "--", "-x%%"], 0), (["verify-config"], 0), (["check", "--offline"], 1), (["status"], 6),
                            (["enrollment"], 6), (["metrics"], 6), (["import-key", "gw", "/nowhere"], 1 if can_change_user() else 5)):
        ended = subprocess.run([alone, *arguments], env=environment, capture_output=True, text=True, timeout=DEADLINE)
        assert ended.returncode == code, (arguments, ended)
