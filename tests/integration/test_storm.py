# SPDX-License-Identifier: MIT
"""A throttled fleet: DPS is never asked before the time that it told, and in the end all are assigned."""

SEC = 1_000_000
N = 24


def throttled(emulator):
    return [r for r in emulator.requests("register") if r["status"] == 429]


def registered_too_early(emulator, in_flight):
    """Registrations between a refusal and the time that it told, except those that were in flight at the refusal."""
    registers, early = emulator.requests("register"), []
    for refusal in throttled(emulator):
        until = refusal["time"] + refusal["retryAfter"] * SEC
        within = [r for r in registers if refusal["time"] < r["time"] < until]
        early += within[in_flight:]
    return early


def start_fleet(gateway, emulator, in_flight):
    gateway.write_conf("dpsd", f"[Daemon]\nMaxAttempts={in_flight}\n")
    for k in range(N):
        gateway.identity(f"device-{k}")
    gateway.start()


def test_when_dps_throttles_one_identity_its_whole_scope_waits(gateway, emulator):
    for k in range(N):
        emulator.enroll(f"device-{k}")
    emulator.script("device-3", "register:429,retry-after=5")
    start_fleet(gateway, emulator, in_flight=2)
    for k in range(N):
        gateway.wait_for(f"device-{k}", State="assigned", Healthy=True)
    assert len(throttled(emulator)) == 1 and len(emulator.requests("register")) == N + 1
    assert not registered_too_early(emulator, in_flight=2)


def test_after_a_refusal_the_fleet_keeps_the_quota(gateway, emulator):
    """Twenty-four devices with a quota of six a minute: after the first refusal none asks before the time that it told."""
    emulator.ctl("set", "*", "quotas.registrationsPerMinute=6")
    start_fleet(gateway, emulator, in_flight=4)
    emulator.wait_for_requests(7, "register")
    gateway.wait_for("device-0", check=lambda p: True)
    refusal = throttled(emulator)[0]
    for k in range(N):
        properties = gateway.wait_for(f"device-{k}", check=lambda p: p["State"] == "assigned" or p["Waiting"] == "throttled")
        if properties["State"] != "assigned":
            assert properties["NextAttemptAt"] >= refusal["time"] + refusal["retryAfter"] * SEC
    granted = [r for r in emulator.requests("register") if r["status"] != 429 and r["time"] < refusal["time"] + refusal["retryAfter"] * SEC]
    assert len(granted) == 6
    assert not registered_too_early(emulator, in_flight=4)
