# SPDX-License-Identifier: MIT
"""libdps as others find it: installed, with its headers and dps.pc; what it exports; and what programs and modules share."""
import functools
import os
import pathlib
import re
import subprocess

import pytest

from process import BUILD, REPOSITORY

pytestmark = pytest.mark.xdist_group("library")  # which is installed once

LIBRARY = BUILD / "src/libdps/libdps.so.0"
HEADERS = sorted((REPOSITORY / "include/dps").glob("*.h"))
SHARED = BUILD / "src/transport/transport.so"  # from which other modules take functions
CHECK = BUILD / "src/check/check.so"
MODULES = [BUILD / "tests/module/example.so", BUILD / "src/credential/hardware-key.so", BUILD / "src/credential/issuance.so", BUILD / "src/transport/mqtt.so", SHARED, CHECK,
           *filter(pathlib.Path.exists, [BUILD / "src/credential/tpm.so", BUILD / "src/transport/https.so", BUILD / "src/dpsd/api.so"])]
# What links an instrumented library must be instrumented, too.
INSTRUMENTED = {"sanitize": ["-fsanitize=address,undefined"], "threads": ["-fsanitize=thread"]}.get(os.environ.get("DPS_SANITIZE"), [])


def run(*command, **options):
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def symbols(path, *options):
    """The names that nm prints, without their versions."""
    return {line.split()[0].split("@")[0] for line in run("nm", "--format=posix", *options, path).splitlines()}


@functools.cache
def functions(path, kinds="tT"):
    """All that the object or archive defines, static functions too; but not the compiler's, such as _init."""
    lines = run("nm", "--format=posix", "--defined-only", path).splitlines()
    return {words[0] for words in map(str.split, lines) if len(words) > 1 and words[1] in kinds and words[0][0] != "_"}


@functools.cache
def inline_functions():
    """Those of the headers: an object has them where the compiler did not put them into their callers."""
    text = "".join(path.read_text() for path in (REPOSITORY / "src").glob("*/*.h"))
    return set(re.findall(r"^static inline [^(]*?(\w+)\(", text, re.MULTILINE)) | {
        f"{name}p" for name in re.findall(r"DEFINE_FREEP\([^,]+, (\w+)\)", text)}


def declared_functions(header):
    text = re.sub(r"/\*.*?\*/|//[^\n]*|^\s*#.*?$", "", header.read_text(), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\b(dps_\w+)\s*\(", text))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where everything is installed."""
    destination = tmp_path_factory.mktemp("installed")
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", env=os.environ | {"DESTDIR": str(destination)})
    return destination


@pytest.fixture(scope="module")
def pkg_config(installed):
    """Asks dps.pc as it is installed, and it alone."""
    [pc] = installed.glob("usr/**/pkgconfig/dps.pc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(pc.parent)}
    return lambda *options: run("pkg-config", f"--define-variable=prefix={installed}/usr", *options, "dps", env=environment).split()


def test_the_example_works_with_the_installed_library_alone(installed, pkg_config, tmp_path):
    source, program = installed / "usr/share/doc/dps/examples/dps-registration.c", tmp_path / "dps-registration"
    flags = pkg_config("--cflags", "--libs")
    assert [flag for flag in flags if flag.startswith("-l")] == ["-ldps"]
    run("cc", "-Wall", "-Wextra", "-Werror", *INSTRUMENTED, "-o", program, source, *flags)
    [library] = pkg_config("--variable=libdir")
    output = run(program, env={"LD_LIBRARY_PATH": library})
    assert output.splitlines() == [
        "client id: gw-1",
        f"user name: 0ne00111111/registrations/gw-1/api-version=2019-03-31&ClientVersion=dpsd%2F{pkg_config('--modversion')[0]}",
        "password: SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fgw-1"
        "&sig=PBimLIXCalxgcjkwDPSxstBxRY8JtUZ%2Fbpe%2Fkr0iiRs%3D&se=1700003600&skn=registration",
        "subscribe: $dps/registrations/res/#",
        "connect",
        'publish: $dps/registrations/PUT/iotdps-register/?$rid=1 {"registrationId":"gw-1","payload":{"site":"north"}}',
        "received: $dps/registrations/res/429/?$rid=1&retry-after=5",
        "failed: DPS answered 429001, there are too many requests: Throttled",
        "disconnect",
        "wait until 5000 ms",
        "connect",
        'publish: $dps/registrations/PUT/iotdps-register/?$rid=2 {"registrationId":"gw-1","payload":{"site":"north"}}',
        "received: $dps/registrations/res/202/?$rid=2&retry-after=3",
        "wait until 8000 ms",
        "publish: $dps/registrations/GET/iotdps-get-operationstatus/?$rid=3&operationId=4.7 (empty)",
        "received: $dps/registrations/res/200/?$rid=3",
        "assigned: device gw-1 at hub-1.azure-devices.net",
    ]


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
@pytest.mark.parametrize("compiler", [("clang", "-std=c11", "-xc"), ("clang++", "-std=c++11", "-xc++")], ids=["C", "C++"])
def test_an_installed_header_needs_nothing_before_it(pkg_config, tmp_path, header, compiler):
    source = tmp_path / "source"
    source.write_text(f"#include <dps/{header.name}>\n")
    run(*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror", "-fsyntax-only", source,
        *pkg_config("--cflags"))


def test_a_program_in_cpp_links_with_c_names(pkg_config, tmp_path):
    source, object_file = tmp_path / "source.cpp", tmp_path / "source.o"
    calls = ", ".join(f"(void *) {name}" for header in HEADERS for name in sorted(declared_functions(header)))
    source.write_text("".join(f"#include <dps/{header.name}>\n" for header in HEADERS) + f"void *functions[] = {{ {calls} }};\n")
    run("clang++", "-c", "-o", object_file, source, *pkg_config("--cflags"))
    assert symbols(object_file, "--undefined-only") == set().union(*map(declared_functions, HEADERS))


def test_the_library_exports_what_its_headers_declare():
    declared = set().union(*map(declared_functions, HEADERS))
    exported = symbols(LIBRARY, "--dynamic", "--defined-only") - {"DPS_0"}
    assert len(declared) > 50 and exported == declared


def test_every_exported_symbol_has_a_version():
    lines = run("nm", "--dynamic", "--defined-only", "--with-symbol-versions", LIBRARY).splitlines()
    assert lines and all(line.endswith("@@DPS_0") or line.split()[-1].startswith("DPS_0") for line in lines)


def test_public_headers_include_no_private_ones():
    for header in HEADERS:
        included = re.findall(r'#include ["<](\S+)[">]', header.read_text())
        assert all(name.startswith("dps/") or "/" not in name for name in included), header


def listed_for_modules():
    text = re.sub(r"/\*.*?\*/", "", (REPOSITORY / "src/module.sym").read_text(), flags=re.DOTALL)
    return set(re.findall(r"(\w+);", text))


def rooms():
    """The archives that dpsd and dpsctl are made of; others are parts of modules, for tests."""
    parts = {"libtransport-parts.a", "libhttps-route.a", "libissuance.a"}
    return sorted(path for path in pathlib.Path(BUILD / "src").glob("*/lib*.a") if path.name not in parts)


def test_the_daemon_gives_modules_what_is_listed_and_no_more():
    ours = set().union(*map(functions, rooms()))
    exported = symbols(BUILD / "src/dpsd/dpsd", "--dynamic", "--defined-only")
    assert exported & ours == listed_for_modules()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_carries_no_code_that_the_program_or_libdps_has(module):
    # Names of static functions may be the same by chance.
    theirs = functions(LIBRARY, "T") | set().union(*(functions(room, "T") for room in rooms()))
    if module == CHECK:  # which shares with dpsctl what dpsd does not have
        theirs &= functions(LIBRARY, "T") | functions(BUILD / "src/dpsd/dpsd")
    runtime = functions(BUILD / "tests/integration/test-world.so")  # what every shared object has, such as frame_dummy
    assert functions(module) & theirs <= runtime | inline_functions()
    exported = {name for name in symbols(module, "--dynamic", "--defined-only") if name[0] != "_"} - runtime
    assert "dps_module" in exported and (exported == {"dps_module"}) == (module != SHARED)


def test_the_daemon_starts_without_what_only_registrations_need():
    needed = re.findall(r"NEEDED.*\[(.*?)\.so", run("readelf", "--dynamic", BUILD / "src/dpsd/dpsd"))
    assert "libcrypto" in needed and not {"libmosquitto", "libssl", "libcurl"} & set(needed), needed


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_takes_from_the_program_only_what_is_listed(module):
    missing, ours = symbols(module, "--dynamic", "--undefined-only"), set().union(*map(functions, rooms()))
    if module.parent == SHARED.parent:
        missing -= functions(SHARED, "T")
    assert missing & ours and missing & ours <= listed_for_modules()
    of_libdps = {name for name in missing if name.startswith("dps_")}
    assert of_libdps <= symbols(LIBRARY, "--dynamic", "--defined-only")
    assert of_libdps or module.name == "hardware-key.so"  # which speaks with nobody but the chip


@pytest.mark.parametrize("path", [LIBRARY, BUILD / "src/dpsd/dpsd", BUILD / "src/dpsctl/dpsctl"], ids=lambda path: path.name)
def test_a_backtrace_can_pass_through_every_function(path):
    ranges = [(int(start, 16), int(end, 16)) for start, end in
              re.findall(r"FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)", run("readelf", "--debug-dump=frames", path))]
    lines = [line.split() for line in run("nm", "--format=posix", "--defined-only", path).splitlines()]
    ours = {words[0]: int(words[2], 16) for words in lines if words[1] in "tT" and len(words) > 3}  # those that have a size
    assert len(ours) > 50
    assert not [name for name, address in ours.items() if not any(start <= address < end for start, end in ranges)]
