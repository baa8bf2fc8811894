# SPDX-License-Identifier: MIT
"""What the programs, the library and the modules have in them against the consequences of a bug."""
import os
import re
import subprocess

import pytest

from process import BUILD

IS_PLAIN = not os.environ.get("DPS_SANITIZE")
PROGRAMS = [BUILD / "src" / name for name in ("dpsd/dpsd", "dpsctl/dpsctl", "consumers/dps-consumers",
                                              "emulator/dps-emulator")]
LIBRARIES = [BUILD / "src/libdps/libdps.so.0", *sorted((BUILD / "src").glob("*/*.so"))]
ALL = [path for path in PROGRAMS + LIBRARIES if not path.is_symlink()]


def read(path, *options):
    return subprocess.run(["readelf", "-W", *options, path], capture_output=True, text=True, check=True).stdout


def names(paths):
    return [path.name for path in paths]


def machine(path):
    return re.search(r"Machine:\s+(.*)", read(path, "-h"))[1]


@pytest.fixture(scope="module", params=ALL, ids=names(ALL))
def path(request):
    return request.param


def test_all_that_is_built_is_looked_at():
    assert {"dpsd", "dpsctl", "libdps.so.0", "mqtt.so", "transport.so", "check.so", "issuance.so", "hardware-key.so"} <= set(names(ALL))


@pytest.mark.parametrize("program", PROGRAMS, ids=names(PROGRAMS))
def test_a_program_can_be_loaded_anywhere(program):
    assert "DYN (Position-Independent Executable file)" in read(program, "-h") and "FLAGS_1" in read(program, "-d")
    assert re.search(r"FLAGS_1\).*\bPIE\b", read(program, "-d"))


def test_all_functions_are_found_before_the_start_and_their_table_is_sealed(path):
    dynamic = read(path, "-d")
    assert re.search(r"\(FLAGS_1\).*\bNOW\b", dynamic) and "GNU_RELRO" in read(path, "-l")
    sections = re.findall(r"\] (\.\S+)\s+\S+\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", read(path, "-S"))
    [(start, size)] = re.findall(r"GNU_RELRO\s+\S+ 0x([0-9a-f]+) 0x[0-9a-f]+ 0x[0-9a-f]+ 0x([0-9a-f]+)", read(path, "-l"))
    sealed = range(int(start, 16), int(start, 16) + int(size, 16))
    [got] = [int(address, 16) for name, address, _ in sections if name == ".got"]
    assert got in sealed and not [name for name, _, _ in sections if name == ".got.plt"]


def test_no_code_is_changed_and_no_data_is_executed(path):
    assert "TEXTREL" not in read(path, "-d")
    segments = re.findall(r"^\s+(LOAD|GNU_STACK)\s(?:\s*0x[0-9a-f]+){5} ([R ][W ][E ])", read(path, "-l"), re.MULTILINE)
    assert len(segments) > 2 and ("GNU_STACK", "RW ") in segments
    assert all(not ("W" in flags and "E" in flags) for _, flags in segments)


def test_functions_that_are_called_by_address_say_so(path):
    """Their first instruction is a landing pad. That a file has no other ones, its header says only where the C library agrees.
    On x86 Linux knows no landing pads for programs."""
    pads = {"AArch64": [b"\x5f\x24\x03\xd5", b"\x3f\x23\x03\xd5"]}
    if machine(path) in pads:
        assert sum(map(path.read_bytes().count, pads[machine(path)])) > 2


@pytest.mark.skipif(not IS_PLAIN, reason="sanitizers check the same by themselves")
def test_the_compiler_was_told_to_protect_each_source(path):
    told = {line for line in re.findall(r"GNU C17 [^\n]*", read(path, "-p", ".debug_str")) if "-fPI" in line}
    if not told:  # another compiler does not leave its options behind
        compiled_by = read(path, "-p", ".comment")
        assert "GCC" not in compiled_by
        return
    for options in told:
        for option in ("-fstack-protector-strong", "-fstack-clash-protection", "-ftrivial-auto-var-init=zero",
                       "-fasynchronous-unwind-tables", "-fno-omit-frame-pointer"):
            assert option in options, options


@pytest.mark.skipif(not IS_PLAIN, reason="sanitizers have a C library of their own")
def test_the_c_library_checks_what_it_is_given(path):
    symbols = read(path, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    if path.name in ("dpsd", "dpsctl", "libdps.so.0"):
        assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", ""))


def unwinding(path):
    """Where the caller's frame is, from an address on, as the tables have it: [(address, register and offset)]."""
    rows = re.findall(r"^([0-9a-f]{16}) (\S+)", read(path, "--debug-dump=frames-interp"), re.MULTILINE)
    return dict(sorted((int(address, 16), rule) for address, rule in rows))


@pytest.mark.skipif(not IS_PLAIN, reason="the sanitizers' code is not ours")
@pytest.mark.parametrize("program", PROGRAMS[:2], ids=names(PROGRAMS[:2]))
def test_a_backtrace_can_begin_at_every_instruction(program):
    """Each instruction that moves the stack pointer has its row in the tables, where they count from the stack pointer."""
    if machine(program) != "Advanced Micro Devices X86-64":
        return
    lines = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], capture_output=True, text=True, check=True).stdout
    ours = "\n".join(function for function in lines.split("\n\n") if not re.match(r"[0-9a-f]+ <(_|frame_dummy)", function))  # the others are the C library's
    code = [(int(address, 16), text) for address, text in re.findall(r"^ +([0-9a-f]+):\t(.*)", ours, re.MULTILINE)]
    table, rule, n_moves, wrong = unwinding(program), None, 0, []
    for (address, text), (following, _) in zip(code, code[1:]):
        rule = table.get(address, rule)
        if rule and rule.startswith("rsp") and re.match(r"(push|pop) ", text):
            n_moves += 1
            if table.get(following, rule) == rule:
                wrong.append(f"{address:x}: {text}")
    assert n_moves > 100 and not wrong
