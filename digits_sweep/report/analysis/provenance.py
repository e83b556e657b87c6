"""What it takes to make a sweep's figures again: machine, versions, commit, data, command."""

import shlex
from typing import Any

from digits_sweep.report.analysis.study import Study


def provenance(study: Study) -> list[tuple[str, str]]:
    """A name and a text each; where runs were made on several machines, all of them are there."""
    told = []
    if study.manifest:
        told.append(("command", f"python -m digits_sweep {shlex.join(study.manifest.command)}".rstrip()))
        told += [("data", f"{choice.used}, SHA-256 {choice.digest}") for choice in study.manifest.datasets]
    for name, say in (("machine", _machine), ("system", _system), ("versions", _versions), ("commit", _commit)):
        environments = (record.environment for record in study.records.values() if record.environment)
        told += [(name, text) for text in dict.fromkeys(map(say, environments))]
    return told


def _machine(environment: dict[str, Any]) -> str:
    return f"{environment.get('host')}: {environment.get('cpu')}, {environment.get('cpu_cores')} cores"


def _system(environment: dict[str, Any]) -> str:
    return f"{environment.get('platform')}, Python {environment.get('python')}"


def _versions(environment: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in dict(environment.get("packages") or {}).items())


def _commit(environment: dict[str, Any]) -> str:
    commit = str(environment.get("git_commit") or "not known: it did not run from a checkout")
    return commit.replace("-dirty", ", with changes that are not committed")
