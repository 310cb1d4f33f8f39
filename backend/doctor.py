"""What this computer has, what CoGrad3D found on it, and what to do about what is missing. Standard library only."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__, environment, installation, machine, model_files, models, packaging
from .environment import Environment, Status
from .errors import SetupError

LOW_MEMORY_BYTES = 2e9
LOW_DISK_BYTES = 1e9
LEARNED_PRIOR = Path(__file__).parent / "embedded" / "weights"

OK, WARNING, MISSING = "ok", "warning", "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: ok, warning (it works, but), or missing (it does not work).
        text: what was found.
        remedy: the command or the step that mends it; empty where nothing is wrong.
        data: the same for programs.
    """

    name: str
    status: str
    text: str
    remedy: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def examine(target: Environment | None = None) -> list[Finding]:
    """Every finding, in the order of the report."""
    target = target or Environment()
    found = [_python(), _computer(), _memory(), _disk(target)]
    environment_finding, facts = _environment(target)
    found.append(environment_finding)
    found += _inside(facts) if facts else []
    return [*found, *_priors(), _blender()]


def able_to_run(findings: list[Finding]) -> bool:
    """Whether `generate` would work now."""
    return all(finding.status != MISSING for finding in findings)


def _python() -> Finding:
    version = platform.python_version()
    data = {"version": version, "executable": sys.executable}
    if installation.OLDEST_PYTHON <= sys.version_info[:2] <= installation.NEWEST_PYTHON:
        return Finding("Python", OK, f"{version} ({sys.executable})", data=data)
    return Finding(
        "Python",
        WARNING,
        f"{version} ({sys.executable}): some packages have no wheels for it",
        "Name a Python 3.11, 3.12 or 3.13: python3 -m backend setup --python PATH",
        data,
    )


def _computer() -> Finding:
    return Finding(
        "computer", OK, machine.describe(), data={"system": platform.system(), "machine": platform.machine(), "cores": machine.cores()}
    )


def _memory() -> Finding:
    total, available = machine.memory()
    data = {"total": total, "available": available}
    if available is None:
        return Finding("memory", OK, "cannot be told on this system", data=data)
    text = f"{machine.format_bytes(available)} free" + (f" of {machine.format_bytes(total)}" if total else "")
    if available < LOW_MEMORY_BYTES:
        return Finding("memory", WARNING, text, "Close other programs, or use --quality draft.", data)
    return Finding("memory", OK, text, data=data)


def _disk(target: Environment) -> Finding:
    folder = environment.data_folder()
    free = machine.free_disk(folder)
    data = {"folder": str(folder), "free": free, "environment_free": machine.free_disk(target.root)}
    text = f"{machine.format_bytes(free)} free for jobs and caches ({folder})"
    if free < LOW_DISK_BYTES:
        return Finding("disk", WARNING, text, "Free some space, or put jobs elsewhere with `generate --job DIR`.", data)
    return Finding("disk", OK, text, data=data)


def _environment(target: Environment) -> tuple[Finding, dict[str, Any]]:
    """The state of the environment, and what Python finds inside it."""
    python = environment.chosen_python()
    if python is not None:
        data: dict[str, Any] = {"location": str(python), "status": "chosen"}
        name = f"{python}, as COGRAD3D_PYTHON says"
        remedy = "Correct that variable, or unset it."
    else:
        state = target.state(thorough=True)
        data = {"location": str(target.root), "status": state.status.value}
        name = str(target.root)
        remedy = _setup_that_mends(target, state.status)
        if state.status is not Status.READY:
            detail = state.detail if str(target.root) in state.detail else f"{target.root}: {state.detail}"
            return Finding("environment", MISSING, detail.rstrip("."), remedy, data), {}
        python = target.python
    facts = _facts(python)
    if "error" in facts:
        return Finding("environment", MISSING, f"{name} does not work: {facts['error']}", remedy, data), {}
    return Finding("environment", OK, f"{name}, complete", data=data), facts


def _setup_that_mends(target: Environment, status: Status) -> str:
    if status is Status.FOREIGN:
        if environment.location_of_variable() == target.root:  # which wins over --location
            return "Correct the variable COGRAD3D_ENV, or unset it."
        return "python3 -m backend setup --location DIR"
    return "python3 -m backend setup" if status is Status.ABSENT else "python3 -m backend setup --repair"


def _facts(python: Path) -> dict[str, Any]:
    try:
        answer = subprocess.run(
            [str(python), "-P", "-m", "backend.verification", "--facts"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment.child_environ(),
            timeout=300,
            check=False,
        )
        facts = json.loads(answer.stdout.strip().splitlines()[-1])
        return facts if isinstance(facts, dict) else {"error": "it answers nonsense"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    except (ValueError, IndexError):
        return {"error": (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]}


def _inside(facts: dict[str, Any]) -> list[Finding]:
    names = facts.get("gpus") or []
    device = {"cpu": "the processor", "mps": "the GPU of this Mac", "cuda": ", ".join(names) or "an NVIDIA GPU"}.get(
        facts["device"], facts["device"]
    )
    torch = Finding(
        "PyTorch",
        OK,
        f"{facts['torch']}, computing on {device}, {facts['threads']} threads",
        data={key: facts[key] for key in ("torch", "torch_cuda", "device", "gpus", "threads")},
    )
    cards = machine.nvidia_gpus()
    if cards and facts["device"] != "cuda":
        if facts["torch_cuda"] is None:
            remedy = "python3 -m backend setup --remove, then python3 -m backend setup"
            text = f"{facts['torch']} has no CUDA, and there is an NVIDIA GPU"
        else:
            remedy = "Update the graphics driver."
            text = f"{facts['torch']} was built for CUDA {facts['torch_cuda']}, which the driver does not offer"
        torch = Finding("PyTorch", WARNING, f"{text}: computing on {device}", remedy, torch.data)
    return [
        torch,
        Finding(
            "rasteriser",
            OK,
            f"{facts['rasterizer']}: {facts['rasterizer_reason']}",
            data={"name": facts["rasterizer"], "reason": facts["rasterizer_reason"]},
        ),
    ]


def _priors() -> list[Finding]:
    learned = (LEARNED_PRIOR / "model_index.json").is_file()
    return [
        Finding(
            "built-in prior",
            OK,
            "exact" + (", learned" if learned else "; no learned weights in this copy"),
            data={"exact": True, "learned": learned},
        ),
        _image_models(),
    ]


def _image_models() -> Finding:
    """The image models besides the built-in ones."""
    found, best = model_files.scan(), models.recommend(machine.gpus())
    text = f"{len(found.models)} on this computer" if found.models else "none besides the built-in one"
    if best is not None and not found.models:
        text += f"; {best.title} is recommended for this GPU"
    return Finding(
        "image models",
        OK,
        f"{text} (python3 -m backend models lists all)",
        data={"models": [model.name for model in found.models], "recommended": best.hub_id if best else None},
    )


def _blender() -> Finding:
    """The Blender that would be found here; the command line needs none."""
    try:
        executable = packaging.find_blender()
        if executable is None:
            return Finding("Blender", OK, "none found; only the extension needs one", data={"executable": None})
        version = packaging.blender_version(executable)
    except SetupError as error:
        return Finding("Blender", WARNING, error.message.rstrip("."), error.remedy, {"executable": None})
    new_enough = version >= packaging.OLDEST_BLENDER
    text = f"{packaging.format_version(version)} ({executable})"
    data = {"executable": str(executable), "version": packaging.format_version(version), "extensions": new_enough}
    if new_enough:
        return Finding("Blender", OK, text, data=data)
    oldest = packaging.format_version(packaging.OLDEST_BLENDER)
    return Finding("Blender", WARNING, f"{text}: too old for the extension", f"The extension needs Blender {oldest} or newer.", data)


def report(findings: list[Finding]) -> str:
    """The findings for people, the remedies last."""
    marks = {OK: "  ", WARNING: "! ", MISSING: "x "}
    width = max(len(finding.name) for finding in findings)
    lines = [f"CoGrad3D {__version__}", *(f"{marks[f.status]}{f.name:<{width}}  {f.text}" for f in findings), ""]
    lines += [f"{f.name}: {f.remedy}" for f in findings if f.remedy]
    lines.append("Able to run." if able_to_run(findings) else "Not able to run yet.")
    return "\n".join(lines)


def to_json(findings: list[Finding]) -> str:
    """The findings for programs."""
    entries = {f.name: {"status": f.status, "text": f.text, "remedy": f.remedy, **f.data} for f in findings}
    return json.dumps({"version": __version__, "able_to_run": able_to_run(findings), "findings": entries}, indent=2)
