"""The extension's zip: what is in it, what builds it, and that what is in it runs and leaves its own folder alone."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from backend import __version__, cli, environment, packaging, request
from backend.environment import PACKAGE_ROOT
from backend.errors import OutputError, SetupError
from backend.job import JobFolder
from backend.preflight import ASSET_FORMATS

MANIFEST = tomllib.loads((PACKAGE_ROOT / packaging.MANIFEST).read_text("utf-8"))
needs_shell = pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for Blender")


@pytest.fixture
def source(tmp_path) -> Path:
    """A small extension with some dirt in it."""
    root = tmp_path / "source"
    for name in (
        "__init__.py", "LICENSE", "README.md", "notes.txt", "noxfile.py", ".gitignore", ".git/config", "docs/method.md", "tests/test_it.py",
        "backend/__init__.py", "backend/requirements.txt", "backend/presets/quality/draft.toml",
        "backend/embedded/shapes/suzanne.safetensors", "backend/__pycache__/cli.cpython-311.pyc",
        "backend/__pycache__/renderer.draw-1.py311.nbi", "backend/.hidden.py", "backend/cli.py~", "backend/cli.py.orig",
        "backend/embedded/weights/model_index.json", "backend/evaluation/gallery/weights/judge.json",
        "backend/.ruff_cache/x.json", "cograd3d_addon/ui/__init__.py",
        "cograd3d_addon/ui/icon.png", "dist/cograd3d-0.0.9.zip", "jobs/a/spec.json", "results-work/x.py", "cograd3d-0.0.9.zip",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / packaging.MANIFEST).write_text('id = "cograd3d"\nversion = "1.2.3"\n')
    return root


def of_git() -> list[str]:
    """The files of this checkout that git keeps or would keep."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this is no checkout of git: {error}")
    return [name for name in done.stdout.split("\0") if name and (PACKAGE_ROOT / name).is_file()]


def excluded(name: str, patterns: list[str]) -> bool:
    """Whether a path matches one of .gitignore's patterns, of which the manifest uses the simplest kinds."""
    parts = name.split("/")
    for pattern in patterns:
        anchored, folder, glob = pattern.startswith("/"), pattern.endswith("/"), pattern.strip("/")
        depth = len(glob.split("/"))
        starts = [0] if anchored else range(len(parts))
        for start in starts:
            end = start + depth
            if fnmatch.fnmatchcase("/".join(parts[start:end]), glob) and (end < len(parts) or not folder):
                return True
    return False


class TestSelection:
    def test_what_runs_and_nothing_else(self, source):
        assert packaging.selection(source) == [
            "LICENSE",
            "__init__.py",
            "backend/__init__.py",
            "backend/embedded/shapes/suzanne.safetensors",
            "backend/embedded/weights/model_index.json",
            "backend/presets/quality/draft.toml",
            "backend/requirements.txt",
            packaging.MANIFEST,
            "cograd3d_addon/ui/__init__.py",
            "cograd3d_addon/ui/icon.png",
        ]

    def test_is_what_git_keeps_of_these_folders(self):
        """A file of a new kind must not be forgotten; trained judges, which only evaluations need, are left out on purpose."""
        folders = tuple(f"{folder}/" for folder in packaging.FOLDERS)
        kept = [name for name in of_git() if (name.startswith(folders) or name in packaging.ROOT_FILES)]
        kept = [name for name in kept if not name.startswith("backend/evaluation/gallery/weights/")]
        assert packaging.selection() == sorted(kept)

    def test_is_what_the_manifests_patterns_select(self):
        """So that `blender --command extension build` in a fresh checkout makes the same zip."""
        patterns = MANIFEST["build"]["paths_exclude_pattern"]
        assert packaging.selection() == sorted(name for name in of_git() if not excluded(name, patterns))

    @pytest.mark.parametrize("file", [".gitignore", packaging.MANIFEST])
    def test_what_the_readmes_commands_leave_in_a_checkout_belongs_to_neither(self, file):
        patterns = MANIFEST["build"]["paths_exclude_pattern"]
        if file == ".gitignore":
            patterns = [line for line in (PACKAGE_ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
        pictures = ("cat.mtl", "cat.png", "cat.gif", "cat-views.png", "cat-turntable.webp")
        for name in (*(f"cat{suffix}" for suffix in ASSET_FORMATS), *pictures, "report/index.html", "dist/cograd3d-0.3.0.zip"):
            assert excluded(name, patterns), name

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("tests/x.py", True),
            ("backend/tests/x.py", False),
            ("backend/__pycache__/x.pyc", True),
            ("backend/.hidden", True),
            (".ci/run", True),
            ("old.zip", True),
            ("backend/old.zip", False),
            ("backend/evaluation/gallery/weights/x", True),
            ("docs", False),
        ],
    )
    def test_patterns_are_read_as_git_reads_them(self, name, expected):
        assert excluded(name, ["__pycache__/", ".*", "/*.zip", "/backend/evaluation/gallery/weights/", "/docs/", "/tests/"]) == expected


class TestManifest:
    """What Blender's tool would refuse, where there is none to ask."""

    def test_version(self):
        assert MANIFEST["version"] == __version__

    def test_texts_have_the_length_and_form_that_blender_wants(self):
        for text in (MANIFEST["tagline"], *MANIFEST["permissions"].values()):
            assert 0 < len(text) <= 64 and text[-1].isalnum()

    def test_oldest_blender(self):
        assert tuple(map(int, MANIFEST["blender_version_min"].split(".")[:2])) == packaging.OLDEST_BLENDER


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A computer without a Blender: `bare(name, script)` puts a program on its PATH."""
    monkeypatch.delenv("BLENDER_EXECUTABLE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(packaging, "_USUAL_PLACES", ())
    monkeypatch.setattr(packaging, "_wheel_scripts", lambda: iter(()))

    def put(name: str, script: str) -> Path:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return put


def says(version: str) -> str:
    return f"echo 'Color management: using fallback'; echo 'Blender {version}'; echo '  build date: 2026-01-01'"


@needs_shell
class TestFinding:
    def test_none(self, bare):
        with pytest.raises(SetupError, match="There is no Blender") as caught:
            packaging.find_tool()
        assert "--blender" in caught.value.remedy and "BLENDER_EXECUTABLE" in caught.value.remedy
        assert packaging.find_blender() is None

    def test_order(self, bare, monkeypatch):
        on_path, of_variable, named = bare("blender", says("4.2.1")), bare("variable", says("4.5.0")), bare("named", says("5.0.0"))
        assert packaging.find_blender() == on_path
        monkeypatch.setenv("BLENDER_EXECUTABLE", str(of_variable))
        assert packaging.find_blender() == of_variable
        assert packaging.find_blender(named) == named
        tool = packaging.find_tool(named)
        assert "Blender 5.0.0" in tool.name and tool.command[0] == str(named) and "--factory-startup" in tool.command

    def test_where_installers_put_it(self, bare, monkeypatch, tmp_path):
        for version in ("4.2", "4.5"):
            (tmp_path / f"Blender {version}").mkdir()
            (tmp_path / f"Blender {version}" / "blender.exe").touch()
        monkeypatch.setattr(packaging, "_USUAL_PLACES", (f"{tmp_path}/Blender */blender.exe", "C:/not/here/*"))
        assert packaging.find_blender() == tmp_path / "Blender 4.5" / "blender.exe"

    def test_one_that_is_named_must_be_there(self, bare, monkeypatch, tmp_path):
        with pytest.raises(SetupError, match="is no program"):
            packaging.find_blender(tmp_path / "nowhere")
        monkeypatch.setenv("BLENDER_EXECUTABLE", "nowhere")
        with pytest.raises(SetupError, match="BLENDER_EXECUTABLE names nowhere"):
            packaging.find_blender()

    @pytest.mark.parametrize(
        ("script", "words"), [(says("4.1.1"), "knows no extensions"), ("echo hello", "is no Blender"), ("exit 1", "is no Blender")]
    )
    def test_too_old_or_no_blender_at_all(self, bare, script, words):
        with pytest.raises(SetupError, match=words):
            packaging.find_tool(bare("blender", script))

    def test_the_wheel(self, bare, monkeypatch, tmp_path):
        monkeypatch.undo()
        monkeypatch.setattr(packaging, "find_blender", lambda chosen: None)
        scripts = tmp_path / "site" / "bpy" / "4.5" / "scripts"
        tool = scripts / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
        tool.parent.mkdir(parents=True)
        tool.touch()
        (tmp_path / "site" / "bpy" / "__init__.py").write_text("raise AssertionError('a whole Blender was started')")
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.delitem(sys.modules, "bpy", raising=False)
        found = packaging.find_tool()
        assert found.command == (sys.executable, str(tool)) and str(tmp_path / "site" / "bpy") in found.name


@needs_shell
class TestBuilding:
    """With a stand-in for Blender's tool."""

    BUILDS = (
        'case "$*" in *--version*) echo Blender 9.9.9;; *" build "*) for name; do last=$name; done; echo zip > "$last";; '
        '*) test -d "$BLENDER_USER_RESOURCES";; esac'
    )

    ZIPS = """
import pathlib, sys, zipfile
if "--version" in sys.argv:
    print("Blender 9.9.9")
elif "build" in sys.argv:
    source, target = (pathlib.Path(sys.argv[sys.argv.index(name) + 1]) for name in ("--source-dir", "--output-filepath"))
    with zipfile.ZipFile(target, "w") as archive:
        for path in source.rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(source))
"""

    def test_the_command(self, bare, tmp_path, capsys):
        """The zip of Blender's own tool is looked at by tests/blender/test_package.py."""
        (tmp_path / "tool.py").write_text(self.ZIPS)
        bare("blender", f'exec "{sys.executable}" "{tmp_path / "tool.py"}" "$@"')
        assert cli.main(["package", "--output", str(tmp_path / "new" / "dist")]) == 0
        made = tmp_path / "new" / "dist" / f"cograd3d-{__version__}.zip"
        with zipfile.ZipFile(made) as archive:
            assert sorted(archive.namelist()) == packaging.selection()
            assert all(archive.read(name) == (PACKAGE_ROOT / name).read_bytes() for name in packaging.selection())
        assert f"{made}: {made.stat().st_size / 1000:,.0f} kB, {len(packaging.selection())} files" in capsys.readouterr().out

    def test_an_older_zip_is_replaced_only_by_a_valid_one(self, bare, source, tmp_path, monkeypatch):
        output = tmp_path / "dist"
        output.mkdir()
        (output / "cograd3d-1.2.3.zip").write_text("older")
        for failing in ("validate", "build"):
            refuses = f'case "$*" in *--version*) echo Blender 9.9.9;; *" {failing} "*) echo bad tag >&2; exit 1;; esac'
            with pytest.raises(OutputError, match="bad tag"):
                packaging.build(output, packaging.find_tool(bare("blender", refuses)), source)
            assert [path.name for path in output.iterdir()] == ["cograd3d-1.2.3.zip"]
            assert (output / "cograd3d-1.2.3.zip").read_text() == "older"

    def test_each_task_has_a_profile_of_its_own(self, bare, monkeypatch, tmp_path):
        monkeypatch.setenv("BLENDER_USER_RESOURCES", str(tmp_path / "mine"))
        tool = packaging.find_tool(
            bare("blender", 'case "$*" in *--version*) echo Blender 9.9.9;; *) echo "$BLENDER_USER_RESOURCES";; esac')
        )
        profiles = [tool("validate", "."), tool("validate", ".")]
        assert len({*profiles, str(tmp_path / "mine")}) == 3 and not any(map(os.path.exists, profiles))

    def test_a_folder_that_cannot_be_made(self, bare, source, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError):
            packaging.build(tmp_path / "file" / "dist", packaging.find_tool(bare("blender", self.BUILDS)), source)


@pytest.fixture
def unpacked(tmp_path) -> Path:
    """The extension's folder as Blender makes it."""
    root = tmp_path / "extensions" / "cograd3d"
    for name in packaging.selection():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE_ROOT / name, root / name)
    return root


def backend(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of the unpacked extension, started as Blender starts workers: with an input that stays open."""
    outer = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | variables
    reading, writing = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-P", "-m", "backend.cli", *arguments],
            env=environment.child_environ(outer) | {"PYTHONPATH": str(root)},
            stdin=reading, capture_output=True, text=True, encoding="utf-8", timeout=600,
        )  # fmt: skip
    finally:
        os.close(reading)
        os.close(writing)


def contents(root: Path) -> dict[str, bytes]:
    """All files, except the bytecode that Python itself keeps."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def small_job(folder: Path, prior: str) -> JobFolder:
    """A new job that takes seconds."""
    overrides = {
        "prior.name": prior, "prior.views": 150, "optimizer.iterations": 40, "optimizer.resolution_steps": [[0.0, 64]],
        "gaussians.count": 400, "surface.resolution": 48, "surface.views": 12, "surface.faces": 1000, "texture.size": 128,
        "texture.views": 8,
    }  # fmt: skip
    return JobFolder.create(folder / "jobs", *request.make_request("a red cat", quality="draft", overrides=overrides))


class TestUnpacked:
    def test_answers(self, unpacked):
        before = contents(unpacked)
        assert "cat" in json.loads(backend(unpacked, "words", "--json").stdout)["objects"]
        report = json.loads(backend(unpacked, "doctor", "--json", COGRAD3D_ENV=str(unpacked.parent / "no environment")).stdout)
        assert report["version"] == __version__ and not report["able_to_run"]
        assert backend(unpacked, "generate", "--help").returncode == 0
        assert contents(unpacked) == before

    @pytest.mark.slow
    @pytest.mark.parametrize("prior", ["builtin:exact", "builtin:learned"])
    def test_a_run_writes_nothing_into_the_extensions_folder(self, prior, unpacked, tmp_path):
        """Blender removes that folder with the extension, and it may be read-only. Caches are empty before, so everything is made."""
        pytest.importorskip("torch")
        before = contents(unpacked)
        job = small_job(tmp_path, prior)
        cache = tmp_path / "cache"
        done = backend(unpacked, "worker", "--job", str(job.path), COGRAD3D_CACHE=str(cache), COGRAD3D_PYTHON=sys.executable)
        assert done.returncode == 0, done.stdout + done.stderr
        assert job.asset_path.is_file()
        assert contents(unpacked) == before
        assert list((cache / "numba").rglob("*.nbi")) and (cache / "views").exists() == (prior == "builtin:exact")

    @pytest.mark.slow
    @pytest.mark.parametrize("prior", ["builtin:exact", "builtin:learned"])
    def test_a_run_goes_on_when_the_extension_is_removed_under_it(self, prior, unpacked, tmp_path):
        """As it may be by an uninstallation or an update while a worker runs on without Blender."""
        pytest.importorskip("torch")
        job = small_job(tmp_path, prior)
        removing = threading.Thread(target=remove_once, args=(unpacked, job.trace_path))
        removing.start()
        done = backend(unpacked, "worker", "--job", str(job.path), COGRAD3D_CACHE=str(tmp_path), COGRAD3D_PYTHON=sys.executable)
        removing.join()
        assert done.returncode == 0, done.stdout + done.stderr
        assert job.asset_path.is_file() and not unpacked.exists()


def remove_once(folder: Path, sign: Path, patience: float = 300.0) -> None:
    """Remove a folder as soon as a file is there."""
    deadline = time.monotonic() + patience
    while not sign.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(folder)
