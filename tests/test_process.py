"""A command as a process: stopped at any moment it ends with a line and the exit code that a shell reports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digits_sweep.shell import CODES, Terminated, command, die_on_signal

STOP = """import atexit, os, signal, sys
from digits_sweep.shell import die_on_signal, command, held, let_through
from digits_sweep.shell import write_line
"""
SENT = pytest.mark.parametrize("sent", CODES, ids=lambda number: signal.Signals(number).name)


def ended(script: str, sent: int = signal.SIGINT, **options: object) -> tuple[int, str, str]:
    """Run a script in which `stop()` is the signal; return exit code, standard output and standard error."""
    program = f"{STOP}def stop(*_): signal.raise_signal({int(sent)})\n{script}"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, **options)
    return finished.returncode, finished.stdout, finished.stderr


@SENT
@pytest.mark.parametrize(
    "block",
    [
        "stop()",
        "with die_on_signal(): stop()",
        # What libraries make of it.
        "try: stop()\n  except KeyboardInterrupt: raise ImportError('half a module')",
        "try: stop()\n  except KeyboardInterrupt: sys.exit('an error')",
        "try: stop()\n  finally: stop()",
        "try: stop()\n  finally: raise OSError('a file that is half written')",
    ],
)
def test_a_command_that_is_stopped_ends_with_one_line_and_the_exit_code_of_the_signal(block, sent):
    assert ended(f"with command(None):\n  {block}\n", sent) == (CODES[sent], "", "stopped\n")


@SENT
def test_what_the_command_says_of_its_end_itself_is_all_that_is_said(sent):
    block = f"try: stop()\n  except KeyboardInterrupt: print('mine'); sys.exit({CODES[sent]})"
    assert ended(f"with command(None):\n  {block}\n", sent) == (CODES[sent], "mine\n", "")


@SENT
def test_a_signal_that_comes_when_all_is_done_is_no_traceback(sent):
    assert ended("with command(None):\n  atexit.register(stop)\n  print('done', flush=True)", sent) == (
        CODES[sent], "done\n", ""
    )  # fmt: skip


def test_an_exception_that_a_library_loses_is_not_reported_by_python():
    lost = "class Lost:\n  def __del__(self): stop()\nwith command(None):\n  Lost()\n  print('continues')\n"
    assert ended(lost) == (0, "continues\n", "")


def test_an_error_of_the_program_is_still_shown():
    code, _, complaints = ended("with command(None): 1 / 0")
    assert code == 1
    assert complaints.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_what_a_shell_has_started_in_the_background_does_not_hear_ctrl_c():
    script = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwith command(None):\n  stop()\n  print('continues')"
    assert ended(script) == (0, "continues\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("write", ["print('x')", "write_line('x')"])
def test_output_that_cannot_be_written_is_dropped(write):
    program = f"{STOP}with command(None):\n  {write}\n"
    # Buffered, as in a pipe: what is printed is written when the process ends.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, env=buffered
        )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    program = f"{STOP}with command(None):\n  for _ in range(3): write_line('x')\n"
    finished = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_character_that_the_terminal_lacks_is_dropped():
    script = "with command(None): write_line('\\u00b1')"
    assert ended(script, env={**os.environ, "PYTHONIOENCODING": "ascii"}) == (0, "?\n", "")


def test_without_a_standard_output_nothing_is_written():
    assert ended("sys.stdout.close(); sys.stdout = None\nwith command(None): write_line('x')") == (0, "", "")


# In this process, as tests call commands


def test_afterwards_signals_are_for_whoever_had_them():
    before = [signal.getsignal(number) for number in CODES]
    hooks = (sys.excepthook, sys.unraisablehook)
    with pytest.raises(SystemExit) as end, command([]), die_on_signal():
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == CODES[signal.SIGTERM]
    assert [signal.getsignal(number) for number in CODES] == before
    assert (sys.excepthook, sys.unraisablehook) == hooks


def test_sigterm_is_told_from_ctrl_c():
    with command([]), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("block", "code", "printed", "complaints"),
    [
        ("print('done')", 0, "done\n", ""),
        ("sys.exit(3)", 3, "", ""),
        ("sys.exit('refused')", 1, "", "refused\n"),
        ("atexit.register(print, 'later')", 0, "later\n", ""),
    ],
)
def test_a_command_that_is_done_ends_without_being_taken_apart(block, code, printed, complaints):
    """What `atexit` knows and threads are waited for; an object that is left is not taken apart."""
    script = f"""
class Kept:
    def __del__(self): print('taken apart')
kept = Kept()
with command(None):
    {block}
"""
    assert ended(script) == (code, printed, complaints)


@SENT
@pytest.mark.parametrize(
    ("block", "printed"),
    [
        ("stop(); print('whole')", "whole\n"),
        ("stop()\n   print('whole')\n   with let_through(): print('never')", "whole\n"),
        ("with let_through():\n    stop()\n    print('never')", ""),
        ("stop(); stop(); print('never')", ""),
    ],
    ids=["to its end", "until it is let through", "not where it is let through", "one signal"],
)
def test_a_signal_is_held_back_where_a_library_must_not_be_stopped(block, printed, sent):
    script = f"with command(None):\n  with held():\n   {block}\n  print('never')\n"
    assert ended(script, sent) == (CODES[sent], printed, "stopped\n")


def test_a_thread_that_still_works_is_waited_for():
    script = "import threading\ndef work():\n  threading.main_thread().join()\n  print('worked')\n"
    block = "with command(None):\n  threading.Thread(target=work).start()\n"
    assert ended(script + block) == (0, "worked\n", "")


def test_an_error_after_the_command_has_its_exit_code():
    code, _, complaints = ended("with command(None): pass\n1 / 0")
    assert code == 1
    assert complaints.endswith("ZeroDivisionError: division by zero\n")


def test_a_fork_ends_as_it_says():
    script = """
with command(None):
    child = os.fork()
    if not child:
        print('child')
        sys.exit(4)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert ended(script) == (0, "child\n4\n", "")
