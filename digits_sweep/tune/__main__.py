"""`python -m digits_sweep.tune data.batch_size=5 tune.trials=30`: search learning rate and weight decay."""

import sys
import warnings
from dataclasses import asdict
from typing import Any

from digits_sweep.config.plan import Plan, plan
from digits_sweep.config.rules import InvalidConfig
from digits_sweep.config.schema import CONF
from digits_sweep.tune.settings import TuneConfig, read_settings

BEST = 5


def main() -> None:
    """Read the command line, go on until the study has its trials, show the best of them."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{__doc__}\n\nIts keys are tune.KEY=VALUE:\n\n{(CONF / 'tune.yaml').read_text(encoding='utf-8')}")
        print("Every other key is one of the runs: python -m digits_sweep --help")
        return
    try:
        settings, overrides = read_settings(sys.argv[1:])
        planned = plan(overrides)
    except InvalidConfig as error:
        sys.exit(str(error))
    try:
        import optuna
    except ImportError:
        sys.exit("optuna is not installed; pip install 'digits-sweep[optuna]'")
    # A trial that is stopped or fails is told by this program.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # The heartbeat by which a trial of a killed process is found is one of Optuna's experimental features.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sys.exit(_tune(settings, planned))


def _tune(settings: TuneConfig, planned: Plan) -> int | str:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    from digits_sweep.console import Screen
    from digits_sweep.sweep.launch import INTERRUPTED, TERMINATED, Terminated, raise_on_sigterm
    from digits_sweep.sweep.run import CannotRecord
    from digits_sweep.sweep.session import REFUSALS, datasets
    from digits_sweep.tune.search import CannotSearch, open_study, search
    from digits_sweep.tune.table import best_trials

    raise_on_sigterm()
    screen = Screen()
    folder = planned.outputs / "tune" / str(settings.study)
    try:
        (dataset,) = datasets(planned, None, screen)
        folder.mkdir(parents=True, exist_ok=True)
        study = open_study(settings, folder, _base(settings, planned, dataset.digest))
        search(study, settings, planned.settings, dataset, folder)
    except (*REFUSALS, CannotRecord, CannotSearch) as error:
        return str(error)
    except (SQLAlchemyError, StorageInternalError) as error:
        return f"tune.storage={settings.storage}: {str(error).strip().splitlines()[0]}"
    except KeyboardInterrupt as stop:
        screen.say("stopped; the same command goes on with the study")
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    screen.table(*best_trials(study, settings.objective, BEST))
    screen.say(f"every trial is a run in {folder}; a page of them: make report SWEEPS={folder}")
    return 0


def _base(settings: TuneConfig, planned: Plan, digest: str) -> dict[str, Any]:
    """What must be the same for two trials to be comparable, as text."""
    from digits_sweep.results.record import results_of

    return {**results_of(asdict(planned.settings)), "dataset": digest, "tune.objective": settings.objective}


if __name__ == "__main__":
    main()
