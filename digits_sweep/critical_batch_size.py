"""`python -m digits_sweep.critical_batch_size`: which batch size reaches a goal in how many steps, its rate tuned."""

from digits_sweep.shell import Screen, entry_point, stoppable, write_line


@entry_point
def main(arguments: list[str]) -> int:
    """Tune the rate at every batch size and count steps to the goals on fresh seeds; return the exit code."""
    from digits_sweep.config.compose import CONF
    from digits_sweep.search.settings import FILE, PREFIX, read_settings

    if {"-h", "--help"} & set(arguments):
        keys = (CONF / FILE).read_text(encoding="utf-8")
        write_line(f"{__doc__}\n\nIts keys are {PREFIX}KEY=VALUE:\n\n{keys}")
        write_line("resume=latest, or resume=FOLDER, with the same command resumes a study.")
        write_line("Every other key is one of the runs: python -m digits_sweep --help")
        return 0
    settings = read_settings(arguments)
    # Only now, because torch and pandas take seconds to import, and a mistake is reported at once.
    from digits_sweep.search.critical import execute

    screen = Screen()
    with stoppable():
        return execute(settings, screen)


if __name__ == "__main__":
    main()
