# SPDX-License-Identifier: MIT
"""dpsctl -H sends its calls through ssh only. A substitute for ssh runs the command on this machine, on the gateway's bus."""
import pytest

# Takes the arguments of ssh: options, --, the host, and the command. It sets the address of the "remote" bus.
SSH = """#!/bin/sh
printf '%s\\n' "$@" >'{arguments}'
while [ "$1" != -- ]; do shift; done
shift 2
exec "$@" --bus-path='{bus}'
"""


class Remote:
    """dpsctl on a machine that has no bus of its own, with the substitute for ssh first in its PATH."""

    def __init__(self, directory, gateway):
        self.gateway = gateway
        self.recorded = directory / "arguments"
        self.programs = directory / "bin"
        self.programs.mkdir()
        ssh = self.programs / "ssh"
        ssh.write_text(SSH.format(arguments=self.recorded, bus=gateway.bus_address))
        ssh.chmod(0o755)

    def dpsctl(self, *arguments, host="root@gw.example"):
        return self.gateway.dpsctl("-H", host, *arguments, PATH=f"{self.programs}:/usr/bin:/bin",
                                   DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={self.programs}/no-bus")

    @property
    def arguments(self):
        """The arguments that ssh was started with."""
        return self.recorded.read_text().splitlines()


@pytest.fixture
def remote(tmp_path, gateway):
    return Remote(tmp_path, gateway)


@pytest.fixture
def assigned(gateway):
    """The properties of the only identity of the remote gateway."""
    gateway.identity()
    gateway.start()
    return gateway.wait_for(State="assigned")


def test_status_shows_the_hub_of_the_remote_gateway(remote, assigned):
    result = remote.dpsctl("status", "gateway")
    assert result.code == 0 and assigned["AssignedHub"] in result.out


def test_show_prints_a_property_of_the_remote_gateway(remote, assigned):
    result = remote.dpsctl("show", "gateway", "-p", "AssignedHub")
    assert (result.code, result.out) == (0, f"AssignedHub={assigned['AssignedHub']}\n")


def test_reprovision_wait_shows_the_new_hub_of_the_remote_gateway(remote, assigned, gateway, emulator):
    hub = "hub-2.example" if assigned["AssignedHub"] == "hub-1.example" else "hub-1.example"
    emulator.set("gateway", iotHubs=hub)
    result = remote.dpsctl("reprovision", "gateway", "--wait")
    assert result.code == 0, result.err
    assert gateway.properties("gateway")["AssignedHub"] == hub


@pytest.mark.parametrize("arguments", [["status"], ["show"], ["reprovision", "--wait"]])
def test_without_a_remote_daemon_it_exits_6_and_says_how_to_start_it(remote, arguments):
    result = remote.dpsctl(*arguments)
    assert result.code == 6 and "systemctl start dpsd" in result.err


@pytest.mark.parametrize("host", ["gw.example", "root@gw.example", "gw -oProxyCommand=true", "gw,argv9=x;y", "$(id)"])
def test_the_host_is_one_argument_of_ssh_after_its_options(remote, host):
    remote.dpsctl("status", host=host)
    assert remote.arguments[remote.arguments.index("--") + 1:] == [host, "systemd-stdio-bridge"]


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "-oProxyCommand=x@gw", "root@-oProxyCommand=x", "", "root@", "@gw"])
@pytest.mark.parametrize("verb", ["status", "wait"])
def test_a_host_that_is_an_option_or_empty_exits_2_without_ssh(remote, verb, host):
    result = remote.dpsctl(verb, host=host)
    assert result.code == 2 and "--host=" in result.err
    assert not remote.recorded.exists()
