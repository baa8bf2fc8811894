# SPDX-License-Identifier: MIT
"""What is installed is in the packages: a file that packaging/ forgets would be missed on a gateway first."""
import fnmatch
import os
import subprocess

from process import BUILD, REPOSITORY

PACKAGING = REPOSITORY / "packaging"


def installed_files(directory):
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, env=os.environ | {"DESTDIR": str(directory)})
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def listed(path):
    """The patterns of a file of debhelper's, without where else the files may go."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def test_each_installed_file_is_in_one_debian_package(tmp_path):
    files = installed_files(tmp_path)
    lists = [*PACKAGING.glob("debian/*.install"), PACKAGING / "debian/not-installed"]
    packages = {file: [] for file in files}
    for path in lists:
        for pattern in listed(path):
            found = [file for file in files if fnmatch.fnmatch(file, pattern) or fnmatch.fnmatch(file, f"{pattern}/*")]
            assert found, f"{path.name}: nothing is installed as {pattern}"
            for file in found:
                packages[file].append(path.name)
    assert {file: where for file, where in packages.items() if len(where) != 1} == {}


def test_each_module_is_in_the_recipe_for_yocto(tmp_path):
    [recipe] = PACKAGING.glob("yocto/meta-dps/recipes-connectivity/dps/dps_*.bb")
    text = recipe.read_text(encoding="utf-8")
    modules = [os.path.basename(file) for file in installed_files(tmp_path) if "/dps/modules/" in file]
    assert modules and [name for name in modules if f"/dps/modules/{name}" not in text] == []
