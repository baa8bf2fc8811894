# SPDX-License-Identifier: MIT
"""dpsctl metrics: for Prometheus, once or in a file that is kept current; and what is shipped to look at them."""
import json
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from fakedpsd import identity
from process import DEADLINE, eventually

SOURCES = Path(__file__).resolve().parents[2]
MONITORING = SOURCES / "data/examples/monitoring"


def samples(text, parse=openmetrics):
    """{(metric, labels…): value}; a text that is not OpenMetrics raises."""
    return {(s.name, *sorted(s.labels.values())): s.value for family in parse(text) for s in family.samples}


@pytest.fixture
def followed(dpsctl, bus, tmp_path):
    """The file that a running `dpsctl metrics --follow` keeps current."""
    process = dpsctl.start("metrics", f"--follow={tmp_path}/dps.prom")
    yield tmp_path / "dps.prom"
    bus.stop()
    process.communicate(timeout=DEADLINE)


def wait_for_sample(path, *key, value=1):
    return eventually(lambda: path.exists() and samples(path.read_text()).get(key) == value, what=f"{key} {value}")


def test_metrics_tell_what_dpsd_shows(dpsctl, serve):
    at = 1790000000 * 10**6
    serve(identity("gw", Healthy=True, TokenExpiresAt=at + 500000, Generation=3, Transport="mqtt"),
          identity("north", "provisioning", Healthy=False, Waiting="throttled", LastErrorId="throttled", LastErrorStep="registering", Attempts=4,
                   FailingSince=at))
    code, text, _ = dpsctl("metrics")
    assert code == 0
    for parse in (openmetrics, prometheus_text):
        found = samples(text, parse)
        assert found["dps_up",] == 1
        assert found["dps_identity_state", "assigned", "gw"] == 1 and found["dps_identity_state", "failed", "gw"] == 0
        assert found["dps_identity_state", "north", "provisioning"] == 1
        assert found["dps_identity_healthy", "gw"] == 1 and found["dps_identity_healthy", "north"] == 0
        assert found["dps_identity_token_expiry_timestamp_seconds", "gw"] == at / 1e6 + 0.5
        assert ("dps_identity_token_expiry_timestamp_seconds", "north") not in found
        assert found["dps_identity_generation", "gw"] == 3 and found["dps_identity_attempts", "north"] == 4
        assert found["dps_identity_last_error", "north", "registering", "throttled"] == 1
        assert found["dps_identity_waiting", "north", "throttled"] == 1
        assert found["dps_identity_failing_since_timestamp_seconds", "north"] == at / 1e6


def test_metrics_have_no_ids_and_no_hubs(dpsctl, serve):
    serve(identity("gw", RegistrationId="secret-id", DeviceId="secret-device", AssignedHub="secret.hub", IdScope="0ne00SECRET",
                   LastError='the hub "secret.hub" …', LastErrorId="hub"))
    assert "secret" not in dpsctl("metrics")[1].lower()


def test_labels_are_escaped(dpsctl, serve):
    serve(identity("gw", ConnectionProfile='a"b\\c'))
    found = samples(dpsctl("metrics")[1])
    assert any(key[0] == "dps_identity_info" and 'a"b\\c' in key for key in found)


def test_the_file_follows_changes_and_the_daemon(followed, serve):
    fake = serve(identity("gw", "provisioning"))
    wait_for_sample(followed, "dps_identity_state", "gw", "provisioning")
    fake.change("gw", State="assigned", Healthy=True)
    wait_for_sample(followed, "dps_identity_state", "assigned", "gw")
    fake.add(identity("north"))
    wait_for_sample(followed, "dps_identity_configured", "north")
    fake.remove("north")
    eventually(lambda: "north" not in followed.read_text())
    fake.stop()
    wait_for_sample(followed, "dps_up", value=0)
    assert "gw" not in followed.read_text()


def test_errors_are_counted_by_id(followed, serve):
    fake = serve(identity("gw", "provisioning"))
    wait_for_sample(followed, "dps_identity_state", "gw", "provisioning")
    for n, (error, at) in enumerate([("timeout", 10), ("timeout", 20), ("401002", 30), ("401002", 30)]):
        fake.change("gw", LastErrorId=error, LastErrorAt=at, Attempts=n + 1)
        wait_for_sample(followed, "dps_identity_attempts", "gw", value=n + 1)
    assert samples(followed.read_text())["dps_identity_errors_total", "gw", "timeout"] == 2
    assert samples(followed.read_text())["dps_identity_errors_total", "401002", "gw"] == 1


def test_steps_of_attempts_are_counted_with_their_time(followed, serve):
    """No signal tells of AttemptStep."""
    fake = serve(identity("gw", "provisioning", AttemptSince=10, AttemptStep="connecting"))
    wait_for_sample(followed, "dps_identity_state", "gw", "provisioning")
    fake.identities["gw"]["AttemptStep"] = "registering"
    looks = fake.calls.count("GetAll")
    eventually(lambda: fake.calls.count("GetAll") > looks + 1)
    fake.identities["gw"]["AttemptStep"] = "polling"  # when the step before had begun was not seen, so only this one counts
    wait_for_sample(followed, "dps_identity_steps_total", "gw", "registering")
    found = samples(followed.read_text())
    assert found["dps_identity_step_seconds_total", "gw", "registering"] > 0
    assert ("dps_identity_steps_total", "connecting", "gw") not in found


def test_a_file_that_cannot_be_written_is_named(dpsctl, serve):
    serve(identity("gw"))
    code, _, errors = dpsctl("metrics", "--follow=/nonexistent/dps.prom")
    assert code == 1 and "/nonexistent" in errors


def expressions():
    alerts = re.findall(r"expr: (.*)", (MONITORING / "dps-alerts.yml").read_text())
    dashboard = json.loads((MONITORING / "dps-dashboard.json").read_text())
    return alerts + [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_alerts_and_dashboard_ask_for_metrics_that_exist(expression):
    code = (SOURCES / "src/dpsctl/metrics.c").read_text()
    known = set(re.findall(r'"(dps_\w+)"', code)) | {f"dps_identity_{n}" for n in re.findall(r'{ "(\w+)",\s*"', code)}
    asked = set(re.findall(r"\bdps_\w+", expression))
    assert asked and asked <= known


def test_the_journal_catalog_explains_each_message_id():
    ids = set(re.findall(r'MESSAGE_ID_\w+ "([0-9a-f]{32})"', (SOURCES / "src/dpsd/log.h").read_text()))
    explained = re.findall(r"^-- ([0-9a-f]{32})$", (SOURCES / "data/dps.catalog").read_text(), re.M)
    assert len(ids) > 3 and sorted(ids) == sorted(explained)
