"""`python -m digits_sweep.record`: record a run from lines of JSON on standard input, for programs in any language."""

import sys

from digits_sweep.shell import entry_point, stoppable, write_line


@entry_point
def main(arguments: list[str]) -> int:
    """Record what standard input says until it ends; return the exit code."""
    from digits_sweep.recorder.lines import ABOUT, record_lines

    if {"-h", "--help"} & set(arguments):
        write_line(f"{__doc__}\n\n{ABOUT}")
        return 0
    if arguments:
        sys.exit(f"unrecognized arguments: {' '.join(arguments)}; what is recorded comes from standard input")
    with stoppable():
        record_lines(sys.stdin)
    return 0


if __name__ == "__main__":
    main()
