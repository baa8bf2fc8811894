# SPDX-License-Identifier: MIT
"""The example programs for D-Bus, in Python and in C, run as their readers would run them."""
import subprocess

import pytest

from process import BUILD, DEADLINE, REPOSITORY, Program, clean_environment

COMMANDS = {
    "python": ["/usr/bin/python3", "-B", REPOSITORY / "data/examples/dps-client.py"],
    "c": [BUILD / "data/dps-client"],
}


class Example(Program):
    def __init__(self, command, gateway):
        super().__init__(gateway.directory, "example")
        self.arguments = command
        self.gateway = gateway

    def command(self, *arguments):
        return [*map(str, self.arguments), "gateway", *arguments]

    def environment(self):
        return clean_environment(self.directory, DBUS_SYSTEM_BUS_ADDRESS=self.gateway.bus_address)

    def run(self, *arguments):
        done = subprocess.run(self.command(*arguments), env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[0]

    def start(self, *arguments):
        self.process = subprocess.Popen(self.command(*arguments), env=self.environment(), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.readers = [self.out.follow(self.process.stdout), self.err.follow(self.process.stderr, self.log_file)]

    def wait_for_line(self, line):
        self.out.wait_for(lambda lines: line in lines, DEADLINE, f"{line!r} of the example (it says: {self.log})")


@pytest.fixture(params=COMMANDS)
def example(request, gateway):
    example = Example(COMMANDS[request.param], gateway)
    yield example
    example.process and example.process.kill()
    example.end()


def line_of(properties):
    return " ".join(str(properties[key]) for key in ("AssignedHub", "DeviceId", "Generation"))


def test_an_example_gets_the_connection(gateway, example):
    gateway.identity()
    gateway.start()
    expected = line_of(gateway.wait_for(State="assigned"))
    assert example.run("get") == expected


def test_an_example_waits_for_the_first_assignment(gateway, emulator, example):
    gateway.identity()
    emulator.stop()
    gateway.start()
    example.start("watch")
    gateway.wait_for(check=lambda p: p["LastErrorId"] == "refused")
    emulator.start()
    gateway.dpsctl("reprovision", "gateway")
    example.wait_for_line(line_of(gateway.wait_for(State="assigned")))


def test_an_example_sees_the_hub_move(gateway, emulator, example):
    gateway.identity("gateway", key=emulator.enroll("gateway", iotHubs=["hub-1.example"]))
    gateway.start()
    example.start("watch")
    example.wait_for_line(line_of(gateway.wait_for(State="assigned", AssignedHub="hub-1.example")))
    emulator.set("gateway", iotHubs=["hub-2.example"])
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    example.wait_for_line(line_of(gateway.wait_for(AssignedHub="hub-2.example")))


def test_an_example_may_start_before_the_daemon(gateway, example):
    gateway.identity()
    example.start("watch")
    gateway.start()
    example.wait_for_line(line_of(gateway.wait_for(State="assigned")))


def test_an_example_reports_that_it_connected_to_the_hub(gateway, example):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned", HubLastSeenAt=0)
    example.run("connected")
    gateway.wait_for(check=lambda p: p["HubLastSeenAt"] > 0)


def test_an_example_reports_that_the_hub_refused_it(gateway, emulator, example):
    gateway.identity(provisioning={"Splay": "0"})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert example.run("failed", "auth", "401") == "DPS is asked"
    emulator.wait_for_requests(2, "register")


def test_an_example_reports_a_busy_hub_and_dps_is_not_asked(gateway, emulator, example):
    gateway.identity(provisioning={"Splay": "0"})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert example.run("failed", "throttled", "429") == "DPS is not asked"
