"""`python -m digits_sweep.critical_batch_size`: which batch size reaches a goal in how many steps, its rate tuned."""

import sys
from collections.abc import Sequence

from digits_sweep import __version__
from digits_sweep.errors import DigitsSweepError
from digits_sweep.shell import command, die_on_signal, write_line


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune the rate at every batch size and count steps to the goals on fresh seeds (`sys.argv` if None).

    Raises SystemExit with an exit code other than 0, or with a message, if that is stopped, fails or is refused.
    """
    with command(arguments):
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        if "--version" in arguments:
            write_line(f"digits_sweep {__version__}")
            return
        with die_on_signal():
            from digits_sweep.config.compose import CONF
            from digits_sweep.search.settings import FILE, PREFIX, read_settings
        if {"-h", "--help"} & set(arguments):
            keys = (CONF / FILE).read_text(encoding="utf-8")
            write_line(f"{__doc__}\n\nIts keys are {PREFIX}KEY=VALUE:\n\n{keys}")
            write_line("resume=latest, or resume=FOLDER, with the same command resumes a study.")
            write_line("Every other key is one of the runs: python -m digits_sweep --help")
            return
        try:
            typed = read_settings(arguments)
            # Only now, because torch and pandas take seconds to import, and a mistake is reported at once.
            with die_on_signal():
                from digits_sweep.search.critical import execute
                from digits_sweep.shell import Screen
            code = execute(typed, Screen())
        except (DigitsSweepError, OSError) as error:
            sys.exit(str(error))
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
