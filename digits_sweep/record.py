"""`python -m digits_sweep.record`: record a run from lines of JSON on standard input, for programs in any language.

The first line says what Recorder() is called with, each of the others what has happened:

  {"train_samples": 60000}              first: any keyword of Recorder()
  {"loss": 2.31}                        a step: the mean loss of its batch
  {"test_error": 0.31}                  an evaluation: any keyword of Recorder.evaluated()
  {"epoch": 1, "seconds": 12.5}         the end of an epoch; without seconds they are measured here
"""

import sys

from digits_sweep.shell import entry_point, stoppable, write_line


@entry_point
def main(arguments: list[str]) -> int:
    """Record what standard input says until it ends; return the exit code."""
    if {"-h", "--help"} & set(arguments):
        write_line(str(__doc__).strip())
        return 0
    if arguments:
        sys.exit(f"unrecognized arguments: {' '.join(arguments)}; what is recorded comes from standard input")
    from digits_sweep.recorder.lines import record_lines

    with stoppable():
        record_lines(sys.stdin)
    return 0


if __name__ == "__main__":
    main()
