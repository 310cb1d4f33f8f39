"""The environment's folder, its states, and the installer: with pip played by a stand-in, and once for real with a wheel made here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backend import environment, installation, machine
from backend.environment import MARKER_FILE, OWNER_FILE, Environment, Requirement, Status
from backend.errors import ResourceError, SetupError
from backend.installation import VerificationError
from backend.pip_process import Pip, PipWatch, Progress, silent

TORCH = next(pin for pin in environment.requirements() if pin.name == "torch")
CUDA_PACKAGES = ["filelock", 'nvidia-cublas==13.1; platform_system == "Linux"', "triton==3.7.1"]


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No test sees or touches this computer's own environment, or its GPU."""
    for name in ("COGRAD3D_ENV", "COGRAD3D_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setattr(machine, "nvidia_gpus", list)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "env"


def put_package(root: Path, pin: Requirement, build: str = "") -> Path:
    """An installed package of one file, as pip leaves it; returns that file."""
    site = root / ("Lib" if os.name == "nt" else "lib/python3.11") / "site-packages"
    name = pin.name.replace("-", "_")
    info = site / f"{name}-{pin.version}{build}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / f"{name}.py").write_text("answer = 42\n")
    (info / "RECORD").write_text(f"{name}.py,sha256=x,12\n{info.name}/RECORD,,\n")
    return site / f"{name}.py"


def put_environment(root: Path, *, marker: bool = True) -> Environment:
    """An environment with every pinned package."""
    made = Environment(root)
    made.python.parent.mkdir(parents=True)
    made.python.symlink_to(sys.executable)
    (root / OWNER_FILE).write_text("ours")
    for pin in environment.requirements():
        put_package(root, pin, "+cpu" if pin.name == "torch" else "")
    if marker:
        (root / MARKER_FILE).write_text(json.dumps({"requirements": environment.requirements_hash()}))
    return made


class TestLocation:
    def test_variable_wins_over_what_was_remembered(self, monkeypatch, tmp_path):
        assert environment.default_location() == environment.data_folder() / "env"
        environment.remember_location(tmp_path / "elsewhere")
        assert environment.default_location() == tmp_path / "elsewhere"
        monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "mine"))
        assert environment.default_location() == tmp_path / "mine"

    def test_is_forgotten(self, tmp_path):
        environment.remember_location(tmp_path / "elsewhere")
        environment.remember_location(None)
        assert environment.default_location() == environment.data_folder() / "env"

    @pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
    def test_follows_the_platform(self):
        assert environment.data_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/cograd3d")
        assert environment.data_folder({}) == Path.home() / ".local/share/cograd3d"


class TestRequirements:
    def test_every_line_is_an_exact_pin(self):
        pins = environment.requirements()
        assert {"torch", "numpy", "numba", "diffusers", "gsplat", "fast-simplification"} <= {pin.name for pin in pins}
        assert len({pin.name for pin in pins}) == len(pins)
        assert all(pin.version[0].isdigit() and "*" not in pin.version for pin in pins)

    def test_other_systems_are_left_out(self):
        text = 'a==1\n# comment\n\nb_B==2 ; sys_platform == "plan9"\nc.c==3 ; sys_platform == "' + sys.platform + '"\n'
        assert environment.requirements(text) == [Requirement("a", "1"), Requirement("c-c", "3")]

    @pytest.mark.parametrize("line", ["torch", "torch>=2", "torch==2 ; python_version > '3'", "-r other.txt"])
    def test_anything_else_is_refused(self, line):
        with pytest.raises(SetupError, match="no exact pin"):
            environment.requirements(line)


class TestState:
    def test_absent(self, root):
        assert Environment(root).state().status is Status.ABSENT
        root.mkdir()
        assert Environment(root).state().status is Status.ABSENT

    def test_foreign(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        assert Environment(root).state().status is Status.FOREIGN

    def test_a_file_in_its_place_is_foreign(self, root):
        root.write_text("precious")
        assert Environment(root).state().status is Status.FOREIGN

    def test_ready_with_a_build_of_torch(self, root):
        state = put_environment(root).state(thorough=True)
        assert (state.status, state.packages) == (Status.READY, ())

    def test_interrupted(self, root):
        assert put_environment(root, marker=False).state().status is Status.INTERRUPTED

    @pytest.mark.parametrize("content", ["", "{", "[]", "null"])
    def test_a_damaged_marker_is_none(self, root, content):
        made = put_environment(root)
        made.marker_file.write_text(content)
        assert made.state().status is Status.INTERRUPTED

    def test_outdated(self, root):
        made = put_environment(root)
        made.marker_file.write_text(json.dumps({"requirements": "of another version"}))
        assert made.state().status is Status.OUTDATED

    def test_python_that_is_gone(self, root):
        made = put_environment(root)
        made.python.unlink()
        made.python.symlink_to(root / "nowhere")
        assert made.state().status is Status.DAMAGED

    def test_missing_package(self, root):
        made = put_environment(root)
        next(root.rglob("numpy-*.dist-info/RECORD")).unlink()
        state = made.state()
        assert (state.status, [pin.name for pin in state.packages]) == (Status.DAMAGED, ["numpy"])

    def test_the_folder_of_packages_is_listed_once(self, root, monkeypatch):
        """Blender looks every few seconds while it is not ready."""
        made, listed = put_environment(root, marker=False), []
        list_folders = Environment.metadata_folders
        monkeypatch.setattr(Environment, "metadata_folders", lambda self: listed.append(self) or list_folders(self))
        assert made.state().packages == () and len(listed) == 1

    def test_another_version_is_missing(self, root):
        made = put_environment(root)
        folder = next(root.rglob("numpy-*.dist-info"))
        folder.rename(folder.with_name("numpy-0.1.dist-info"))
        assert [pin.name for pin in made.state().packages] == ["numpy"]

    @pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("answer"), lambda file: file.write_text("")])
    def test_damaged_files_show_when_looked_at_thoroughly(self, root, damage):
        made = put_environment(root)
        damage(next(root.rglob("site-packages/scipy.py")))
        assert made.state().status is Status.READY
        state = made.state(thorough=True)
        assert (state.status, [pin.name for pin in state.packages]) == (Status.DAMAGED, ["scipy"])


class TestProcesses:
    def test_what_blender_sets_does_not_leak(self):
        outer = {
            "PYTHONHOME": "/blender",
            "PYTHONPATH": "/blender/lib",
            "LD_LIBRARY_PATH": "/blender/so",
            "PATH": "/bin",
            "HTTPS_PROXY": "p",
        }
        inner = environment.child_environ(outer)
        assert "PYTHONHOME" not in inner and "LD_LIBRARY_PATH" not in inner
        assert inner["PYTHONPATH"] == str(environment.PACKAGE_ROOT)
        assert (inner["PATH"], inner["HTTPS_PROXY"], inner["OMP_WAIT_POLICY"]) == ("/bin", "p", "PASSIVE")

    def test_the_users_wait_policy_is_kept(self):
        assert environment.child_environ({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"
        assert Path(environment.child_environ({"COGRAD3D_CACHE": "/cache"})["NUMBA_CACHE_DIR"]) == Path("/cache/numba")
        assert environment.child_environ({"NUMBA_CACHE_DIR": "/mine"})["NUMBA_CACHE_DIR"] == "/mine"

    @pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for Python")
    def test_a_command_goes_on_in_the_chosen_python(self, tmp_path):
        python = tmp_path / "python"
        python.write_text('#!/bin/sh\necho "$@"\necho "home=$PYTHONHOME libraries=$LD_LIBRARY_PATH wait=$OMP_WAIT_POLICY"\nexit 7\n')
        python.chmod(0o755)
        environ = {**os.environ, "COGRAD3D_PYTHON": str(python), "LD_LIBRARY_PATH": "/elsewhere"}
        answer = subprocess.run(
            [sys.executable, "-m", "backend", "worker", "--job", "a job"],
            cwd=environment.PACKAGE_ROOT, env=environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert answer.returncode == 7, answer.stderr
        assert answer.stdout == "-P -m backend.cli worker --job a job\nhome= libraries= wait=PASSIVE\n"

    def test_a_chosen_python_that_is_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setenv("COGRAD3D_PYTHON", str(tmp_path / "gone"))
        with pytest.raises(SetupError, match="does not exist"):
            environment.ready_python()

    def test_only_a_ready_environment_has_a_python(self, root):
        assert environment.ready_python(Environment(root)) is None
        made = put_environment(root)
        assert environment.ready_python(made) == made.python
        made.marker_file.unlink()
        assert environment.ready_python(made) is None


class TestPlan:
    def test_says_size_and_place(self, root):
        text = installation.plan(Environment(root)).describe()
        assert "384 MB to download" in text and str(root) in text and not root.exists()

    def test_build_follows_the_machine(self, root, monkeypatch):
        assert installation.plan(Environment(root)).build == "cpu"
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0"])
        plan = installation.plan(Environment(root))
        assert plan.build == "cuda" and "2.9 GB" in plan.describe()

    def test_takes_for_granted_what_is_known(self, root, monkeypatch):
        """For a dialog, which cannot wait for a driver, nor for a look at every file."""
        made = put_environment(root, marker=False)
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: pytest.fail("looked for"))
        monkeypatch.setattr(environment, "_record_holds", lambda record: pytest.fail("thorough"))
        builds = [installation.plan(made, thorough=False, gpus=gpus).build for gpus in ((), ("GPU 0",))]
        assert builds == (["cpu", "cpu"] if sys.platform == "darwin" else ["cpu", "cuda"])

    def test_refuses_somebody_elses_folder(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        with pytest.raises(SetupError, match="not an environment of CoGrad3D"):
            installation.plan(Environment(root))

    def test_refuses_a_full_disk(self, root, monkeypatch):
        monkeypatch.setattr(machine, "free_disk", lambda path: 1_000_000_000)
        with pytest.raises(ResourceError, match=r"needs 1\.9 GB of disk, and .* has 1\.0 GB free"):
            installation.plan(Environment(root))
        put_environment(root, marker=False)  # nothing much is missing any more
        installation.plan(Environment(root))

    def test_refuses_a_folder_without_wheels(self, root, tmp_path):
        with pytest.raises(SetupError, match="no folder with wheels"):
            installation.plan(Environment(root), wheels=tmp_path)


class FakePip:
    """Plays the processes of an installation: what is asked of pip is recorded, and happens at once.

    Attributes:
        reachable: whether PyTorch's own index answers.
        general: what the general index's torch requires.
        break_at: ends the installation at the package of this name, as kill would.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reachable = True
        self.general = CUDA_PACKAGES
        self.break_at = ""
        self.calls: list[list[str]] = []
        self.installed: list[str] = []

    def run(self, command: list[str], hear: Callable[[str], None] = lambda line: None) -> int:
        if command[1:3] == ["-m", "venv"]:
            put_environment(self.root, marker=False)
            for info in self.root.rglob("*.dist-info"):
                (info / "RECORD").unlink()
                info.rmdir()
            return 0
        assert command[2:4] == ["-m", "pip"]
        arguments = command[4:]
        self.calls.append(arguments)
        own_index = any(installation.TORCH_INDEX in argument for argument in arguments)
        if own_index and not self.reachable:
            hear("ERROR: No matching distribution found for torch")
            return 1
        if "--dry-run" in arguments:
            assert "--no-deps" in arguments  # else pip would download whatever it looks at
            report = {"install": [{"metadata": {"name": "torch", "requires_dist": ["filelock"] if own_index else self.general}}]}
            Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps(report))
        elif "--requirement" in arguments:
            for pin in Environment(self.root).state(thorough=True).packages:
                if pin.name == self.break_at:
                    raise KeyboardInterrupt
                put_package(self.root, pin)
                self.installed.append(pin.name)
        elif own_index:
            put_package(self.root, TORCH, "+cpu")
            self.installed.append("torch")
        return 0

    @property
    def downloads(self) -> list[list[str]]:
        """The calls that install packages of ours, without those that only look and pip's own update."""
        return [call for call in self.calls if call[0] == "install" and "--dry-run" not in call and installation.PIP not in call]


@pytest.fixture
def pip(root, monkeypatch) -> FakePip:
    fake = FakePip(root)
    monkeypatch.setattr(Pip, "run", lambda self, command, hear=lambda line: None: fake.run(command, hear))
    monkeypatch.setattr(installation, "verify", lambda environment, report: {"torch": TORCH.version})
    return fake


def install(root: Path, **options) -> dict:
    return installation.install(installation.plan(Environment(root)), **options)


class TestInstall:
    def test_cpu_build_from_pytorchs_index_then_the_rest(self, root, pip):
        marker = install(root)
        first, second = pip.downloads
        assert f"{installation.TORCH_INDEX}/cpu" in first and "--no-deps" in first and str(TORCH) in first
        assert "--requirement" in second and "--index-url" not in second
        assert Environment(root).state(thorough=True).status is Status.READY
        assert marker["verified"] == {"torch": TORCH.version} and marker["packages"]["torch"] == TORCH.version

    def test_plain_pin_where_that_index_is_out_of_reach(self, root, pip):
        pip.reachable, pip.general = False, ["filelock", "numpy"]
        install(root)
        assert [("--requirement" in call) for call in pip.downloads] == [True]

    def test_never_cuda_packages_on_a_cpu_machine(self, root, pip):
        pip.reachable = False
        with pytest.raises(SetupError, match=r"only the CUDA build, 2\.9 GB") as error:
            install(root)
        assert "--offline-wheels" in error.value.remedy and "--allow-cuda" in error.value.remedy
        assert pip.downloads == [] and pip.installed == []
        assert Environment(root).state().status is Status.INTERRUPTED

    def test_unless_they_are_wanted(self, root, pip):
        pip.reachable = False
        installation.install(installation.plan(Environment(root), allow_cuda=True))
        assert Environment(root).state().status is Status.READY

    @pytest.mark.skipif(sys.platform != "linux", reason="where the general index has CUDA builds")
    def test_the_plain_pin_is_the_cuda_build_where_there_is_a_gpu(self, root, pip, monkeypatch):
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0"])
        install(root)
        assert not any(installation.TORCH_INDEX in argument for call in pip.calls for argument in call)

    def test_offline_asks_no_index(self, root, pip, tmp_path):
        (tmp_path / "torch.whl").touch()
        installation.install(installation.plan(Environment(root), wheels=tmp_path))
        assert pip.downloads and all("--no-index" in call for call in pip.calls)

    def test_interrupted_then_completed(self, root, pip):
        pip.break_at = "safetensors"
        with pytest.raises(KeyboardInterrupt):
            install(root)
        assert Environment(root).state().status is Status.INTERRUPTED
        before, pip.break_at = list(pip.installed), ""
        pip.installed.clear()
        install(root)
        assert "torch" in before and "safetensors" in pip.installed and not set(before) & set(pip.installed)
        assert Environment(root).state(thorough=True).status is Status.READY

    def test_a_damaged_package_alone_is_installed_again(self, root, pip):
        put_environment(root)
        file = next(root.rglob("site-packages/scipy.py"))
        file.write_text("")
        (file.parent / "numpy-0.1.dist-info").mkdir()  # a left-over of another version beside the right one
        install(root)
        assert pip.installed == ["scipy"] and file.read_text() == "answer = 42\n"

    def test_nothing_to_do(self, root, pip):
        put_environment(root)
        install(root)
        assert pip.calls == []

    def test_what_does_not_work_is_not_ready(self, root, pip, monkeypatch):
        def broken(environment, report):
            raise VerificationError("The environment does not work: illegal instruction.")

        monkeypatch.setattr(installation, "verify", broken)
        with pytest.raises(VerificationError):
            install(root)
        assert Environment(root).state().status is Status.INTERRUPTED

    def test_repair_makes_it_anew_when_nothing_is_missing_and_it_does_not_work(self, root, pip, monkeypatch):
        put_environment(root)
        answers = [VerificationError("The environment does not work."), None]

        def verify(environment, report):
            if error := answers.pop(0):
                raise error
            return {}

        monkeypatch.setattr(installation, "verify", verify)
        install(root, verify_again=True, rebuild=True)
        assert "torch" in pip.installed and not answers
        assert Environment(root).state(thorough=True).status is Status.READY

    def test_pips_reason_is_told(self, root, pip, monkeypatch):
        def fails(self, command, hear=lambda line: None):
            hear("ERROR: Could not find a version that satisfies the requirement numpy==2.4.6\n")
            hear("ERROR: No matching distribution found\n")
            return 1 if "--requirement" in command else 0

        put_environment(root, marker=False)
        next(root.rglob("numpy-*.dist-info/RECORD")).unlink()
        monkeypatch.setattr(Pip, "run", fails)
        with pytest.raises(
            SetupError, match=r"could not be installed: Could not find a version that satisfies the requirement numpy==2\.4\.6\."
        ):
            install(root)

    def test_a_second_installer_waits_and_finds_the_work_done(self, root, pip, monkeypatch):
        plan, told = installation.plan(Environment(root)), threading.Event()
        texts: list[str] = []

        def report(progress: Progress) -> None:
            texts.append(progress.text)
            told.set()

        with installation._installer_lock(root, None):
            second = threading.Thread(target=installation.install, args=(plan, report))
            second.start()
            assert told.wait(10) and "waiting" in texts[0]
            put_environment(root)
        second.join(10)
        assert not second.is_alive() and pip.calls == [] and len(texts) == 1


class TestRemove:
    def test_ours(self, root):
        put_environment(root)
        assert installation.remove(Environment(root)) is True
        assert not root.exists() and not list(root.parent.glob(".*removed*"))
        assert installation.remove(Environment(root)) is False

    def test_an_interrupted_one(self, root):
        put_environment(root, marker=False)
        assert installation.remove(Environment(root)) is True

    def test_somebody_elses_is_left_alone(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        with pytest.raises(SetupError, match="left alone"):
            installation.remove(Environment(root))
        assert (root / "thesis.tex").read_text() == "precious"

    def test_not_while_it_is_being_installed(self, root):
        put_environment(root)
        with installation._installer_lock(root, None), pytest.raises(SetupError, match="Another process"):
            installation.remove(Environment(root))


class TestPipWatch:
    def test_counts_downloads_cached_files_and_bytes(self):
        watch = PipWatch(1_000_000)
        assert watch.hear("Collecting numpy==2.4.6") is None
        assert watch.hear("  Downloading numpy-2.4.6-cp311.whl.metadata (6 kB)") is None
        assert watch.hear("Downloading numpy-2.4.6-cp311.whl (400.0 kB)\n") == Progress("Fetching numpy", 0.0)
        assert watch.hear("Progress 100000 of 400000") == Progress("Fetching numpy", 0.1)
        assert watch.hear("Progress 400000 of 400000") == Progress("Fetching numpy", 0.4)
        assert watch.hear("Using cached torch-2.13.0+cpu.whl (0.5 MB)") == Progress("Fetching torch", 0.4)
        assert watch.hear("Downloading x-1.whl (9.9 GB)") == Progress("Fetching x", 0.9)
        assert watch.hear("Progress 9900000000 of 9900000000") == Progress("Fetching x", 1.0)

    def test_counts_wheels_of_a_folder(self, tmp_path):
        wheel = tmp_path / "numpy-2.whl"
        wheel.write_bytes(bytes(250))
        watch = PipWatch(1000)
        watch.hear(f"Processing {wheel} (from -r requirements.txt (line 6))")
        assert watch.hear("Processing /gone/scipy-1.whl") == Progress("Fetching scipy", 0.25)

    def test_keeps_the_first_error(self):
        watch = PipWatch(1)
        for line in ("ERROR: No space left on device.", "ERROR: and more", "Installing collected packages: a, b"):
            told = watch.hear(line)
        assert watch.failure == "No space left on device" and told == Progress("Installing 2 package(s)")


class TestBasePython:
    def test_this_one(self):
        assert installation._python_version(installation.base_python()) == sys.version_info[:2]

    @pytest.mark.parametrize("wish", ["/nowhere/python", "true"])
    def test_what_is_no_python(self, wish):
        with pytest.raises(SetupError, match=r"is no Python 3\.11, 3\.12 or 3\.13"):
            installation.base_python(wish)


# --- For real, with pip itself and a wheel made here


def make_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,{len(text)}\n" for path, text in files.items()) + f"{info}/RECORD,,\n")


@pytest.mark.slow
def test_offline_installation_damage_and_repair(root, tmp_path, monkeypatch):
    pins = tmp_path / "requirements.txt"
    pins.write_text("quokka==1.0\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", pins)
    monkeypatch.setattr(installation, "REQUIREMENTS", pins)
    monkeypatch.setattr(installation, "verify", lambda environment, report: {})
    make_wheel(tmp_path / "wheels", "quokka", "1.0")
    target = Environment(root)

    def install() -> None:
        installation.install(installation.plan(target, wheels=tmp_path / "wheels"))

    def answer() -> str:
        return subprocess.run([target.python, "-c", "import quokka; print(quokka.answer)"], capture_output=True, text=True).stdout

    install()
    assert target.state(thorough=True).status is Status.READY and answer() == "42\n"
    next(root.rglob("quokka.py")).write_text("answer =")
    assert target.state(thorough=True).status is Status.DAMAGED
    install()
    assert target.state(thorough=True).status is Status.READY and answer() == "42\n"
    assert "--no-index" in target.log_file.read_text()

    # A new version of the pinned set.
    pins.write_text("quokka==1.1\n")
    make_wheel(tmp_path / "wheels", "quokka", "1.1")
    assert target.state().status is Status.OUTDATED
    install()
    assert target.state(thorough=True).status is Status.READY

    # A virtual environment whose pip is broken is made anew.
    next(root.rglob("pip/__main__.py")).write_text("raise SystemExit(3)")
    target.marker_file.unlink()
    install()
    assert target.state(thorough=True).status is Status.READY and answer() == "42\n"


@pytest.mark.skipif(os.name != "posix", reason="locks are handed on as file descriptors")
def test_the_lock_outlives_a_killed_installer_as_long_as_its_pip(root):
    script = (
        "import sys; from backend import environment, installation, pip_process\n"
        "target = environment.Environment(sys.argv[1]); plan = installation.plan(target)\n"
        "with installation._installer_lock(target.root, None) as lock:\n"
        "    target.root.mkdir(); print('holds', flush=True)\n"
        "    pip_process.Pip(target, plan.download_bytes, pip_process.silent, lock).run(['sleep', '2'])\n"
    )
    first = subprocess.Popen([sys.executable, "-c", script, str(root)], cwd=environment.PACKAGE_ROOT, stdout=subprocess.PIPE)
    assert first.stdout is not None and first.stdout.readline() == b"holds\n"
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with pytest.raises(SetupError, match="Another process"), installation._installer_lock(root, None):
        pass
    with installation._installer_lock(root, silent):  # waits for the two seconds to pass
        pass
    first.stdout.close()
