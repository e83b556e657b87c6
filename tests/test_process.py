"""A command as a process: stopped at any moment it ends with a line and the exit code that a shell reports."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from textwrap import indent
from threading import Thread

import pytest

from digits_sweep.shell import CODES, UNHEARD, Terminated, entry_point, stoppable

PROGRAM = """import atexit, os, signal, sys, threading
from digits_sweep.shell import entry_point, stoppable, write_line
def stop(*_): signal.raise_signal({sent})
{before}
@entry_point
def main(arguments):
{block}
main()
{after}"""
SENT = pytest.mark.parametrize("sent", CODES, ids=lambda number: signal.Signals(number).name)
# Buffered, as in a pipe: what is printed is written when the process ends.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def ended(block: str, sent: int = signal.SIGINT, before: str = "", after: str = "", **options) -> tuple[int, str, str]:
    """Run a command that is `block`, in which `stop()` is the signal; return exit code and what it printed."""
    program = PROGRAM.format(sent=int(sent), block=indent(block, "  "), before=before, after=after)
    options = {"stdout": subprocess.PIPE, "env": BUFFERED, **options}
    finished = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, **options)
    return finished.returncode, finished.stdout, finished.stderr


def saving(block: str) -> str:
    return f"with stoppable():\n{indent(block, '  ')}"


@SENT
@pytest.mark.parametrize(
    "block",
    [
        "stop()",
        "try: stop()\nexcept BaseException: pass",
        saving("pass") + "\nstop()",
        saving("stop()"),
        # What libraries make of it.
        saving("try: stop()\nexcept KeyboardInterrupt: raise ImportError('half a module')"),
        saving("try: stop()\nexcept KeyboardInterrupt: sys.exit('an error')"),
        saving("try: stop()\nfinally: raise OSError('a file that is half written')"),
        # The second one ends the process wherever it is.
        saving("try: stop()\nfinally:\n  stop()\n  print('never', flush=True)"),
    ],
)
def test_a_command_that_is_stopped_ends_with_one_line_and_the_exit_code_of_the_signal(block, sent):
    assert ended(f"{block}\nprint('never', flush=True)", sent) == (CODES[sent], "", "stopped\n")


@SENT
def test_what_is_saved_is_saved_first(sent):
    block = saving("try: stop()\nexcept KeyboardInterrupt: print('saved')\nraise OSError('not all')")
    assert ended(block, sent) == (CODES[sent], "saved\n", "stopped\n")


@SENT
@pytest.mark.parametrize("end", ["sys.exit({code})", "return {code}"])
def test_what_the_command_says_of_its_end_itself_is_all_that_is_said(end, sent):
    block = saving(f"try: stop()\nexcept KeyboardInterrupt: print('mine'); {end.format(code=CODES[sent])}")
    assert ended(block, sent) == (CODES[sent], "mine\n", "")


@SENT
def test_a_signal_that_comes_when_all_is_done_is_no_traceback(sent):
    assert ended("atexit.register(stop)\nprint('done', flush=True)", sent) == (CODES[sent], "done\n", "")


LINES = """
lines = 0
def trace(frame, event, argument):
  global lines
  if frame.f_code.co_name == 'stoppable' and event == 'line':
    lines += 1
    if lines == {number}: stop()
  return trace
"""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("number", range(1, 15))
@pytest.mark.parametrize("block", ["pass", "stop()"])
def test_a_signal_that_comes_where_saving_begins_or_ends_is_no_traceback(block, number):
    """At every line that `stoppable` itself executes, as a debugger can make it."""
    traced = f"sys.settrace(trace)\n{saving(block)}\nsys.settrace(None)\nprint(lines)"
    code, printed, complaints = ended(traced, signal.SIGTERM, before=LINES.format(number=number))
    if code:
        assert (code, printed, set(complaints.splitlines())) == (CODES[signal.SIGTERM], "", {"stopped"})
    else:
        assert (int(printed) < number, complaints) == (True, "")


def test_an_exception_that_a_library_loses_is_not_reported_by_python():
    lost = "class Lost:\n  def __del__(self): stop()\nLost()\nprint('continues')\n"
    assert ended(saving(lost)) == (0, "continues\n", "")


def test_what_a_shell_has_started_in_the_background_does_not_hear_ctrl_c():
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert ended(f"stop()\n{saving('stop()')}\nprint('continues')", before=ignored) == (0, "continues\n", "")


FULL = pytest.param(
    "/dev/full", marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
)


@pytest.mark.parametrize("write", ["print('x')", "write_line('x')", "for _ in range(3): write_line('x')"])
@pytest.mark.parametrize("output", [FULL, "a reader that has gone", "no standard output"])
def test_output_that_cannot_be_written_is_dropped(write, output):
    before = "sys.stdout.close(); sys.stdout = None" if output == "no standard output" else ""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone, Path("/dev/full" if output == "/dev/full" else os.devnull).open("w") as full:
        stream = gone if output == "a reader that has gone" else full
        assert ended(write, before=before, stdout=stream) == (0, None, "")


def test_a_reader_that_has_gone_is_no_error_of_what_prints_by_itself():
    assert ended("raise BrokenPipeError(32, 'Broken pipe')") == (0, "", "")


def test_a_character_that_the_terminal_lacks_is_dropped():
    assert ended("write_line('\\u00b1')", env={**BUFFERED, "PYTHONIOENCODING": "ascii"}) == (0, "?\n", "")


@pytest.mark.parametrize(
    ("block", "code", "printed", "complaints"),
    [
        ("print('done')", 0, "done\n", ""),
        ("return 3", 3, "", ""),
        ("sys.exit(3)", 3, "", ""),
        ("sys.exit('refused')", 1, "", "refused\n"),
        ("raise OSError(28, 'No space left')", 1, "", "[Errno 28] No space left\n"),
        ("from digits_sweep import CannotRecord\nraise CannotRecord('no disk')", 1, "", "no disk\n"),
        ("import no_such_library", 1, "",
         "no_such_library is not installed here; run make sweep once, then .venv/bin/python -m digits_sweep\n"),
        ("atexit.register(print, 'later')", 0, "later\n", ""),
        ("threading.Thread(target=lambda: print(threading.main_thread().join())).start()", 0, "None\n", ""),
        ("if not (child := os.fork()): print('child'); sys.exit(4)\n"
         "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))", 0, "child\n4\n", ""),
    ],
)  # fmt: skip
def test_a_command_that_is_done_ends_without_being_taken_apart(block, code, printed, complaints):
    """What `atexit` knows and threads are waited for; an object that is left is not taken apart."""
    kept = "class Kept:\n  def __del__(self): os.getpid() == started and print('taken apart')\n"
    assert ended(block, before=f"{kept}kept, started = Kept(), os.getpid()") == (code, printed, complaints)


@pytest.mark.parametrize("error", ["1 / 0", "import digits_sweep.no_such_module"])
@pytest.mark.parametrize("where", ["block", "after"])
def test_an_error_of_the_program_is_still_shown(error, where):
    code, _, complaints = ended(**{"block": "pass", where: error})
    assert code == 1
    assert complaints.startswith("Traceback")
    assert complaints.splitlines()[-1].startswith(("ZeroDivisionError: ", "ModuleNotFoundError: "))


# In this process, as programs and tests call commands


# The thread gets its turn as soon as the call lets others run, and not before.
LONG_CALL = """sys.setswitchinterval(1000)
go = threading.Event()
threading.Thread(target=lambda: (go.wait(), print('ready', flush=True)), daemon=True).start()
go.set()
hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"""


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="elsewhere a wakeup descriptor is no pipe")
def test_in_a_long_call_of_a_library_it_is_said_that_a_signal_has_come_and_a_second_one_ends_all():
    """A step of a large network is such a call; this one would take long."""
    program = PROGRAM.format(sent=2, block=indent(saving(LONG_CALL), "  "), before="import hashlib", after="")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == f"{UNHEARD}\n"
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130
            assert process.stderr.read() == "stopped\n"
        finally:
            process.kill()


def test_afterwards_signals_are_for_whoever_had_them():
    def state() -> list[object]:
        return [*map(signal.getsignal, CODES), sys.excepthook, sys.unraisablehook]

    @entry_point
    def command(arguments: list[str]) -> None:
        assert state() == before
        with stoppable():
            signal.raise_signal(signal.SIGTERM)

    before = state()
    with pytest.raises(SystemExit) as end:
        command([])
    assert end.value.code == CODES[signal.SIGTERM]
    assert state() == before


def test_sigterm_is_told_from_ctrl_c():
    with suppress(SystemExit), stoppable(), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_in_a_thread_the_block_just_runs():
    results: list[int] = []

    def work() -> None:
        with stoppable():
            results.append(1)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert results == [1]
