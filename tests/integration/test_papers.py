# SPDX-License-Identifier: MIT
"""What people read says what the programs do: README, NEWS, and the manual pages for those who look for help."""
import json
import re
import subprocess

import pytest

from process import BUILD, DEADLINE, REPOSITORY, clean_environment, program


def run(*command):
    return subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def text_of(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


VERSION = run(program("dpsctl"), "--version").split()[1]


def test_news_begins_with_this_version():
    assert re.findall(r"^(\d+\.\d+\.\d+)$", text_of("NEWS"), re.M)[0] == VERSION


def test_the_readme_shows_this_version():
    assert re.findall(r"dpsd (\d+\.\d+\.\d+) is ready", text_of("README.md")) == [VERSION]


def test_the_readme_prepares_all_that_check_needs(tmp_path):
    [block] = re.findall(r"```sh\n(.*?)```", text_of("README.md"), re.S)
    lines = [line for line in block.splitlines() if not line.startswith(("dbus-run-session", "dps-emulator"))]
    (tmp_path / "build").symlink_to(BUILD)
    (tmp_path / "key").write_text("a2V5IG9mIGEgdGVzdCwgMTYgYnl0ZXM=\n")
    (tmp_path / "key").chmod(0o600)
    conf = f"[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gateway\n[Attestation]\nKey={tmp_path}/key\n"
    script = "\n".join([*lines, f"printf '%s' '{conf}' >try/etc/gateway.conf", "dpsctl check --offline gateway"])
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=2 * DEADLINE, check=False,
                          env=clean_environment(tmp_path, DPS_DAEMON=program("dpsd"),
                                                  DBUS_SESSION_BUS_ADDRESS=f"unix:path={tmp_path}/none"))
    assert "has no errors" in done.stdout and "signs" in done.stdout, done


def test_the_readme_shows_hub_env_as_it_is(gateway):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    keys = re.compile(r"^(IOTHUB_\w+)=", re.M)
    assert keys.findall(text_of("README.md")) == keys.findall((gateway.run / "gateway/hub.env").read_text())


def test_the_readme_names_the_packages_of_the_build():
    [needed] = re.findall(r"packages_to_build=\((.*?)\)", text_of("tests/common.sh"), re.S)
    [line] = re.findall(r"apt-get install ((?:.*\\\n)*.*)", text_of("README.md"))
    assert sorted(line.replace("\\\n", " ").split()) == sorted([*needed.split(), "mosquitto"])


def test_the_readme_shows_the_unit_of_the_recipe():
    unit = text_of("data/examples/recipes/app.service").split("\n", 1)[1]
    assert f"```ini\n{unit}```" in text_of("README.md")


def test_the_readme_names_every_manual_page():
    names = {f"{path.stem}({path.suffix[1:]})" for path in (REPOSITORY / "man").glob("*.[1-8]")}
    assert names <= set(re.findall(r"`([\w.-]+\(\d\))`", text_of("README.md")))


def test_licence_readme_and_news_are_installed():
    installed = set(json.loads(run("meson", "introspect", "--installed", BUILD)).values())
    assert {f"/usr/share/doc/dps/{name}" for name in ("LICENSE", "NEWS", "README.md")} <= installed


TROUBLESHOOTING = text_of("man/dps-troubleshooting.7")
PAGES = {name: text_of(f"man/{name}") for name in ("dps-troubleshooting.7", "dps-recipes.7")}


def items(page, macro):
    """The texts of the items of a page's lists, and what stands below each."""
    return re.findall(rf"^\.It {macro} (.*)\n((?:(?!\.It |\.El).*\n)*)", page, re.M)


def messages():
    """All strings of the sources, each as a whole."""
    for path in (REPOSITORY / "src").glob("*/*.[ch]"):
        for literals in re.findall(r'(?:"(?:[^"\\\n]|\\.)*"(?:\s+|\s*[A-Z_]+\s*(?="))*)+', path.read_text(encoding="utf-8")):
            yield "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', literals))


def test_every_error_id_has_an_entry():
    ids = {row["Id"] for row in json.loads(run(program("dpsctl"), "explain", "--json=short"))["errors"]}
    shown = [word for word, _ in items(TROUBLESHOOTING, "Sy")]
    assert sorted(shown) == sorted(ids)


def test_each_code_of_dps_stands_with_its_id():
    found = 0
    for word, text in items(TROUBLESHOOTING, "Sy"):
        for code in re.findall(r"\b4\d{5}\b", text):
            [row] = json.loads(run(program("dpsctl"), "explain", code, "--json=short"))["errors"]
            assert (code, row["Id"]) == (code, word)
            found += 1
    assert found > 5


def test_every_message_that_is_quoted_exists():
    known = "\n".join(messages())
    for quoted, _ in items(TROUBLESHOOTING, "Qq"):
        for part in re.split(r"\.\.\.|^waits for ", quoted):
            assert part.strip() in known, quoted


def commands(page):
    """Those of dpsctl, without what follows a pipe."""
    text = page.replace("\\e\n", " ").replace("\\(aq", "'")
    for line in re.findall(r"^(?:\.Q[lq] |[#$] |\t*)?.*\bdpsctl .*$", text, re.M):
        for command in re.findall(r"\bdpsctl((?: +[^ |;&)\\]+)*)", line):
            yield command.split()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_dpsctl_exists(page):
    options = set(re.findall(r"--[a-z-]+", run(program("dpsctl"), "--help") + text_of("man/dpsctl.1").replace(" Fl -", " --").replace("Fl -", "--")))
    verbs = set(re.findall(r"^\.It Cm ([a-z-]+)", text_of("man/dpsctl.1"), re.M))
    literal = [words for words in commands(page_of(page)) if words]
    assert literal
    for words in literal:
        verb = next((word for word in words if not word.startswith("-")), None)
        assert verb is None or verb in verbs, words
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, words


def page_of(name):
    """What is typed: the literal blocks, and what is marked so in the text."""
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed\n", PAGES[name], re.M | re.S)
    return "\n".join([*blocks, *re.findall(r"^\.Ql (dpsctl .*)$", PAGES[name], re.M)])


def test_each_attack_in_the_table_has_its_test():
    rows = re.findall(r"^\| .* \| `(test_\w+\.py)`: `(\w+)` \|$", text_of("HACKING.md"), re.M)
    assert len(rows) > 10
    missing = [row for row in rows if f"def test_{row[1]}(" not in text_of(f"tests/integration/{row[0]}")]
    assert not missing
