# SPDX-License-Identifier: MIT
"""Completion of dpsctl's command line, in the shells themselves: a key is typed, and the shell prints what became of the line."""
import subprocess

import pytest

from fakedpsd import identity
from process import DEADLINE, REPOSITORY, program
from terminal import Terminal

FILES = REPOSITORY / "data" / "completions"
# What each shell is told first.
SHELLS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"],
             ". /usr/share/bash-completion/bash_completion; . {files}/dpsctl; bind 'set enable-bracketed-paste off'; PS1=REA''DY:"),
    "zsh": (["zsh", "-f", "-i"], "fpath=({files} $fpath); autoload -Uz compinit; compinit -D -u; unsetopt zle_bracketed_paste; PS1=REA''DY:"),
}
LINES = [
    ("dpsctl repro", "dpsctl reprovision"),
    ("dpsctl show gate", "dpsctl show gateway-north"),
    ("dpsctl token gate", "dpsctl token gateway-north"),
    ("dpsctl forget gate", "dpsctl forget gateway-north"),
    ("dpsctl report-hub-failure gate", "dpsctl report-hub-failure gateway-north"),
    ("dpsctl report-hub-failure gateway-north thr", "dpsctl report-hub-failure gateway-north throttled"),
    ("dpsctl show -p RegistrationI", "dpsctl show -p RegistrationId"),
    ("dpsctl explain tls-na", "dpsctl explain tls-name"),
    ("dpsctl log-level deb", "dpsctl log-level debug"),
    ("dpsctl wait --fre", "dpsctl wait --fresh"),
    ("dpsctl check --off", "dpsctl check --offline"),
    ("dpsctl sas --registr", "dpsctl sas --registration-id"),
    ("dpsctl --json=sho", "dpsctl --json=short"),
]


@pytest.fixture
def at_daemon(dpsctl, serve, tmp_path):
    """An environment in which dpsctl is the one to test, and has an identity to complete."""
    serve(identity("gateway-north"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dpsctl").symlink_to(program("dpsctl"))
    return {"PATH": f"{tmp_path}/bin:{dpsctl.environment['PATH']}", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_the_line(dpsctl, at_daemon, shell):
    command, setup = SHELLS[shell]
    terminal = Terminal(dpsctl, command=command, columns=200, **at_daemon)
    terminal.type(setup.format(files=FILES) + "\n")
    terminal.wait_for("READY:")
    for n, (typed, completed) in enumerate(LINES):
        # The line is completed, and then printed: ^A goes to its begin. What is typed is shown as well, but with two quotes.
        terminal.type(f"{typed}\t\001echo 'LI''NE{n}=' \n")
        terminal.wait_for(f"LINE{n}= {completed}")
    terminal.hang_up()


def test_fish_completes_the_line(dpsctl, at_daemon):
    """fish says itself what it would complete, and why, with a tab in between."""
    for typed, completed in LINES:
        out = subprocess.run(["fish", "--no-config", "-c", f"source {FILES}/dpsctl.fish; complete -C '{typed}'"],
                             env=dpsctl.environment | at_daemon, stdout=subprocess.PIPE, text=True, check=True, timeout=DEADLINE).stdout
        assert completed.split()[-1]in [line.split("\t")[0] for line in out.splitlines()], f"{typed}: {out}"
