"""How the Blender sessions arrange what they need: used where it is there, installed where that is allowed, else said plainly."""

from __future__ import annotations

import os
import sys

import pytest

from tests.blender import provide_blender, system_packages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Blender is provided from Debian's packages")
NOTHING = {"libsurely-not-there.so.7": "libsurely7"}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, script="exit 0"):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return folder / name

    return add


def test_what_is_there_needs_nothing(programs):
    programs("Xvfb")
    assert system_packages.arrange({"libc.so.6": "libc6"}, {"Xvfb": "xvfb"}) == []


def test_without_root_the_line_to_run_is_told(programs, monkeypatch):
    programs("apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(system_packages.PackagesMissing, match=r"Run: sudo apt-get install -y --no-install-recommends libsurely7 xvfb$"):
        system_packages.arrange(NOTHING, {"Xvfb": "xvfb"})


def test_without_apt_the_packages_are_told(programs):
    with pytest.raises(system_packages.PackagesMissing, match=r"libsurely7.*its package manager"):
        system_packages.arrange(NOTHING)


def test_root_installs(programs, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    told = tmp_path / "told"
    # the stand-in for apt-get "installs" the program that is missing
    script = f'echo "$@" >> {told}\n[ "$1" = install ] && echo "#!/bin/sh" > "$PATH/Xvfb" && /bin/chmod +x "$PATH/Xvfb"\nexit 0'
    programs("apt-get", script)
    assert system_packages.arrange(programs={"Xvfb": "xvfb"}) == ["xvfb"]
    assert told.read_text().splitlines() == ["-qq update", "install -y --no-install-recommends xvfb"]


def test_an_installation_that_fails_says_what_apt_said(programs, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    programs("apt-get", "echo 'E: no network' >&2; exit 100")
    with pytest.raises(system_packages.PackagesMissing, match="E: no network"):
        system_packages.arrange(NOTHING)


def test_a_provided_blender_is_used_again(programs, tmp_path):
    executable = tmp_path / "trixie" / "blender"
    executable.parent.mkdir()
    executable.write_text("#!/bin/sh\necho Blender 4.3.2\n")
    executable.chmod(0o755)
    assert provide_blender.provide("4.3", tmp_path) == executable
    assert provide_blender.version_of(executable) == "4.3.2"


@pytest.mark.parametrize("there", [(), ("patchelf",), ("patchelf", "dpkg-deb", "tar")])
def test_without_the_tools_it_says_which_one_is_missing(programs, tmp_path, there):
    for name in there:
        programs(name)
    with pytest.raises(provide_blender.CannotProvide, match="is not on this system"):
        provide_blender.provide("4.3", tmp_path)


def test_a_failed_download_names_the_way_out(programs, tmp_path, monkeypatch):
    for name in ("patchelf", "dpkg-deb", "tar"):
        programs(name)
    programs("id", "echo somebody")
    programs("apt-get", "echo 'E: no network' >&2; exit 100")
    monkeypatch.setenv("DEBIAN_MIRROR", "file:///nowhere")
    monkeypatch.setattr(provide_blender, "KEYRING", tmp_path)
    monkeypatch.setattr(provide_blender.platform, "machine", lambda: "x86_64")
    with pytest.raises(provide_blender.CannotProvide, match=r"(?s)E: no network.*BLENDER_EXECUTABLE"):
        provide_blender.provide("4.3", tmp_path)
    assert not (tmp_path / "trixie" / "blender").exists()


def test_a_program_that_is_no_blender_is_refused(programs):
    with pytest.raises(provide_blender.CannotProvide, match="does not run"):
        provide_blender.version_of(programs("blender", "echo nothing"))
