# SPDX-License-Identifier: MIT
"""The fault matrix: whatever a peer does, dpsd says what is wrong, never floods, never spins, and recovers by itself."""
import re

import pytest

pytest.register_assert_rewrite("matrix")

from certificates import Pki
from conftest import Bus
from fault_rows import all_rows
from matrix import Matrix
from process import SLOWER

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(300)]
ROWS = {row.name: row for row in all_rows()}


@pytest.fixture(scope="module")
def matrix(request, tmp_path_factory):
    """Runs all selected rows in one daemon."""
    wanted = {item.callspec.params["name"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")}
    directory = tmp_path_factory.mktemp("faults")
    bus = Bus(directory).start()
    matrix = Matrix(directory / "gateway", bus, Pki(directory / "pki"), [ROWS[name] for name in ROWS if name in wanted] or [*ROWS.values()])
    matrix.start()
    yield matrix
    try:
        matrix.close()
    finally:
        bus.close()


@pytest.mark.parametrize("name", ROWS)
def test_fault(matrix, name, record_property):
    """The error is right, the assignment stays, no request is too early, and the identity is assigned when the fault has ended."""
    run = matrix.runs[name]
    run.is_over.wait()
    record_property("fault", [name, run.outcome, run.seconds, not run.failure])
    assert not run.failure, f"{run.failure}\n{log_of(matrix, name)}"


def log_of(matrix, name):
    return "\n".join(line for line in matrix.gateway.err.lines if name in line)


def test_status_is_answered_throughout(matrix, record_property):
    matrix.is_over.wait()
    record_property("measured", matrix.status.describe())
    assert not matrix.status.errors, matrix.status.errors[0]


def test_faults_make_nothing_spin(matrix, record_property):
    matrix.is_over.wait()
    record_property("measured", f"dpsd: {matrix.cpu_share:.1%} of a processor, {matrix.memory_kb} kB at most")
    assert matrix.cpu_share < 0.3


def test_faults_need_little_memory(matrix):
    matrix.is_over.wait()
    assert matrix.memory_kb < 200_000 * SLOWER


def test_faults_leave_no_file_open(matrix):
    """Counted when no connection is open any more."""
    matrix.is_over.wait()
    assert matrix.n_fds < 40


def test_systemd_is_told_when_all_faults_have_ended(matrix):
    matrix.is_over.wait()
    assert not [name for name, run in matrix.runs.items() if run.failure], "some rows failed"
    matrix.gateway.notify.wait_for_status(f"{len(matrix.runs)} of {len(matrix.runs)} identities assigned")


def test_a_restart_does_not_ask_dps(matrix):
    matrix.is_over.wait()
    assert not matrix.failure, matrix.failure
    assert not matrix.disturbed, matrix.disturbed


def test_no_secret_is_logged(matrix):
    matrix.is_over.wait()
    assert "SharedAccessSignature" not in matrix.gateway.log
    assert not any(key in matrix.gateway.log for run in matrix.runs.values() for key in run.keys)


def test_no_peer_writes_to_the_terminal(matrix):
    """Escape sequences, line ends and the like in an answer do not get into the log."""
    matrix.is_over.wait()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", matrix.gateway.log)
    assert all(line.startswith("<") for line in matrix.gateway.err.lines)
