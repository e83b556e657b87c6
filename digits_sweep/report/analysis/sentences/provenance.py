"""List what it takes to reproduce a sweep: machine, versions, commit, data, command."""

import shlex

from digits_sweep.config.keys import results_of
from digits_sweep.report.analysis.study import Study
from digits_sweep.report.language import said
from digits_sweep.results.columns import OWN_LOOP
from digits_sweep.results.record import Environment


def provenance(study: Study) -> list[tuple[str, str]]:
    """Return a name and a text each; if the runs were made on several machines, all of them."""
    rows = []
    if study.manifest:
        own = any(results_of(record.config).get("engine.name") == OWN_LOOP for record in study.records.values())
        typed = f"python -m digits_sweep {shlex.join(study.manifest.command)}".rstrip()
        rows.append(
            (said("command"), said("a program of its own, recorded by digits_sweep.Recorder") if own else typed)
        )
        rows += [(said("data"), f"{choice.used}, SHA-256 {choice.digest}") for choice in study.manifest.datasets]
    environments = [environment for record in study.records.values() for environment in record.environments]
    for name, describe in (("machine", machine), ("system", _system), ("versions", _versions), ("commit", _commit)):
        rows += [(said(name), text) for text in dict.fromkeys(map(describe, environments))]
    return rows


def machine(environment: Environment) -> str:
    """Describe the machine of a record's `environment`: host, processor and number of cores."""
    host, cpu, cores = (environment.get(name) for name in ("host", "cpu", "cpu_cores"))
    return said("{host}: {cpu}, {cores} cores", host=host, cpu=cpu, cores=cores)


def _system(environment: Environment) -> str:
    return f"{environment.get('platform')}, Python {environment.get('python')}"


def _versions(environment: Environment) -> str:
    return ", ".join(f"{name} {version}" for name, version in dict(environment.get("packages") or {}).items())


def _commit(environment: Environment) -> str:
    commit = str(environment.get("git_commit") or said("unknown: the program did not run from a checkout"))
    return commit.replace("-dirty", said(", with uncommitted changes"))
