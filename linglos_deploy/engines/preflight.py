"""Will this engine load here? Answered from its sidecar and its file, before anything is deserialized.

A vendor's own message for the wrong machine is a line such as "the engine plan file is not compatible"; some wrong
files crash the process. So every condition is checked first, each with its reason, and the command that builds the
engine again for this machine is spelled out. What holds for every engine is checked here; its compiler adds the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linglos_deploy.engines import registry
from linglos_deploy.engines.compiler import Host, Preflighted, condition
from linglos_deploy.engines.rebuild import rebuild_command
from linglos_deploy.engines.record import EngineRecord, read_record
from linglos_deploy.errors import ArtifactError, LinglosError
from linglos_deploy.files import sha256_file
from linglos_deploy.reports.doctor import Condition, EngineCheck


def check_engine(plan: Path, host: Host, *, compiler: Any = None) -> EngineCheck:
    """Compare an engine with a machine. Never raises; nothing is deserialized.

    Args:
        plan: The engine.
        host: The machine.
        compiler: What compiled it; ``None`` asks the registry for the one that the sidecar names.
    """
    try:
        record = read_record(plan)
    except ArtifactError as error:
        unreadable = Condition("sidecar", False, error.found or "", error.expected or "", error.message)
        return EngineCheck(str(plan), host.backend or "unknown", (unreadable,), _build_command(host.backend))
    conditions = (
        _backend(record, host),
        *_file(plan, record),
        _host_code(record, host),
        *_of_compiler(plan, record, host, compiler),
    )
    return EngineCheck(str(plan), record.backend, conditions, rebuild_command(record, host, plan=plan))


def require_loadable(plan: Path, host: Host, *, compiler: Any = None) -> EngineRecord:
    """Return the engine's record if nothing speaks against loading it.

    Raises:
        ArtifactError: A condition fails; the message has the reason of each and the command that rebuilds.
    """
    check = check_engine(plan, host, compiler=compiler)
    failed = [condition for condition in check.conditions if condition.passed is False]
    if failed:
        raise ArtifactError(
            f"The engine '{plan}' cannot be loaded here.",
            found="; ".join(f"{condition.name}: {condition.found} ({condition.reason})" for condition in failed),
            expected="; ".join(f"{condition.name}: {condition.expected}" for condition in failed),
            next_step=check.rebuild,
        )
    return read_record(plan)


def _build_command(backend: str | None) -> str:
    return f"linglos-deploy build MODEL.onnx --engine {backend or 'auto'}"


def _backend(record: EngineRecord, host: Host) -> Condition:
    wanted = host.backend or record.backend
    return condition(
        "backend", record.backend == wanted, record.backend, wanted, "no runtime reads another one's engines"
    )


def _file(plan: Path, record: EngineRecord) -> tuple[Condition, ...]:
    if not plan.is_file():
        return (condition("file", False, "nothing", f"{record.bytes} bytes", "the plan is missing"),)
    size = plan.stat().st_size
    whole = condition("size", size == record.bytes, f"{size} bytes", f"{record.bytes} bytes", "the plan is not whole")
    if not whole.passed:
        return (whole,)
    digest = sha256_file(plan)
    changed = "the plan was changed since it was built"
    return (whole, condition("digest", digest == record.digest, digest, record.digest, changed))


def _host_code(record: EngineRecord, host: Host) -> Condition:
    return condition(
        "host code",
        not record.host_code or host.allow_host_code,
        "in the plan" if record.host_code else "none",
        "allowed" if host.allow_host_code else "none",
        "loading it would run code from the plan; allow that only for engines of your own: --allow-host-code",
    )


def _of_compiler(plan: Path, record: EngineRecord, host: Host, compiler: Any) -> tuple[Condition, ...]:
    """What only the engine's compiler knows. One that is broken must not hide what the others say."""
    if not plan.is_file():
        return ()
    try:
        made = compiler or registry.compiler(record.backend)
        if isinstance(made, Preflighted):
            return made.conditions(plan, record, host)
    except LinglosError as error:
        wanted = error.expected or record.backend
        return (condition("compiler", False, error.message, wanted, "its compiler is missing"),)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        return (condition("compiler", False, found, "an answer", f"{record.backend} cannot be asked about its engine"),)
    unknown = "its compiler does not say what its engines need"
    return (condition("compiler", None, record.backend, "an answer", unknown),)
