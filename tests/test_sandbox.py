"""Programs with every kind of accident: how each ends, and that nothing of it is left."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fdllm.sandbox import TAIL, Outcome, SandboxError, run_python


def ran(source, seconds=20.0, memory_mb=512):
    return run_python(source, seconds=seconds, memory_mb=memory_mb)


def test_a_program_that_runs_to_its_end_has_passed():
    assert ran("assert 1 + 1 == 2") == Outcome("passed", "")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("assert 1 + 1 == 3, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError"),
        ("\0", "null bytes"),
        ("'\ud800'", "SyntaxError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys; sys.exit(0)\nassert False", "SystemExit: 0: the program left before its last line"),
        ("raise SystemExit\nassert False", "SystemExit: None: the program left before its last line"),
        ("import os; os._exit(0)\nassert False", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ""),
        ("import os\nif os.fork(): os._exit(0)\nassert True", ""),
        ("input()", "EOFError"),
        ("import pydantic", "No module named 'pydantic'"),
        ("import sandbox_child", "No module named 'sandbox_child'"),
        ("open('large', 'wb').write(bytes(2**25))", "File too large"),
    ],
)
def test_anything_else_has_failed(source, said):
    outcome = ran(source)
    assert outcome.state == "failed" and said in outcome.stderr


def test_stderr_shows_the_line_at_fault_and_nothing_of_the_sandbox():
    lines = ran("value = 3\nassert value == 4").stderr.splitlines()
    assert lines[1:3] == ['  File "program.py", line 2, in <module>', "    assert value == 4"]
    assert not [line for line in lines if "sandbox" in line]


@pytest.mark.parametrize(
    "source", ["while True: pass", "import time; time.sleep(60)", "import select; select.select([], [], [])"]
)
def test_an_endless_program_is_stopped(source):
    began = time.monotonic()
    assert ran(source, seconds=0.5).state == "timed out"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("source", ["x = bytes(2**40)", "x = [0]\nwhile True: x += x"])
def test_a_program_that_wants_too_much_memory(source):
    assert ran(source, memory_mb=128).state == "out of memory"
    assert ran("x = bytes(2**20 * 200)", memory_mb=512).state == "passed"


def test_a_fork_that_runs_out_of_memory_says_nothing_for_the_program():
    source = "import os\nchild = os.fork()\nif not child: bytes(2**40)\nassert os.waitpid(child, 0)[1]"
    assert ran(source, memory_mb=128).state == "passed"


def alive(pid):
    """Whether a process runs; one that has ended and is waited for by nobody does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def holds_soon(condition):
    began = time.monotonic()
    while not (holds := condition()) and time.monotonic() - began < 20:
        time.sleep(0.02)
    return holds


FORK = """
import os, sys, time
if not os.fork():
    {then}
    print(os.getpid(), file=sys.stderr)
    time.sleep(600)
time.sleep(0.5)
"""
COMMAND = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session={apart})\n"
    "print(child.pid, file=sys.stderr)\n"
)


@pytest.mark.parametrize(
    "source",
    [
        FORK.format(then="pass"),
        FORK.format(then="os.setsid()"),
        COMMAND.format(apart=False),
        COMMAND.format(apart=True),
    ],
    ids=["a fork", "a fork in a session of its own", "a command", "a command in a session of its own"],
)
@pytest.mark.parametrize("ends", [True, False])
def test_processes_left_behind_are_killed(source, ends):
    outcome = ran(source + "\nwhile True: pass" * (not ends), seconds=20 if ends else 1.5)
    assert outcome.state == ("passed" if ends else "timed out")
    # a process that was killed takes a moment to be gone
    assert holds_soon(lambda: not alive(int(outcome.stderr)))


NOISE = """
import sys
for n in range(300):
    print('x' * 10**5)
    print(n, 'y' * 10**5, file=sys.stderr)
print('end', file=sys.stderr)
"""


def test_much_output_neither_stops_a_program_nor_is_kept():
    outcome = ran(NOISE)
    assert outcome.state == "passed" and outcome.stderr.endswith("yyy\nend")
    assert len(outcome.stderr) <= TAIL


def test_files_stay_in_a_directory_that_is_removed():
    before = set(Path(tempfile.gettempdir()).glob("fdllm-*"))
    source = (
        "import os, sys, tempfile\n"
        "assert os.listdir() == ['program.py']\n"
        "open('mine', 'w').write('text')\n"
        "os.makedirs('deep/er'); os.chmod('deep', 0)\n"
        "handle, name = tempfile.mkstemp()\n"
        "assert os.path.dirname(name) == os.path.expanduser('~') == os.getcwd()\n"
        "print(os.getcwd(), file=sys.stderr)\n"
    )
    outcome = ran(source)
    assert outcome.state == "passed", outcome.stderr
    assert Path(outcome.stderr).name.startswith("fdllm-") and not Path(outcome.stderr).exists()
    assert set(Path(tempfile.gettempdir()).glob("fdllm-*")) == before


def test_nothing_is_inherited(monkeypatch):
    monkeypatch.setenv("SECRET", "key")
    source = (
        "import os, sys\n"
        # the interpreter may add LC_CTYPE itself
        "names = set(os.environ) - {'LC_CTYPE'}\n"
        "assert names == {'FDLLM_SANDBOX', 'HOME', 'PYTHONHASHSEED', 'TMPDIR'}, names\n"
        "assert hash('a') == %d and sys.argv == ['program.py'] and __name__ == '__main__'\n"
        "assert len(os.listdir('/dev/fd')) <= 5, os.listdir('/dev/fd')\n"
    )
    first = ran("import sys; print(hash('a'), file=sys.stderr)").stderr
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        outcome = ran(source % int(first))
    assert outcome.state == "passed", outcome.stderr


def test_what_a_test_program_may_expect_of_main():
    source = (
        "from __future__ import annotations\n"
        "import unittest\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "class Case(unittest.TestCase):\n"
        "    def test_x(self): self.assertEqual(Point(3).x, 3)\n"
        "done = unittest.main(exit=False)\n"
        "assert done.result.testsRun == 1 and done.result.wasSuccessful()\n"
    )
    assert ran(source).state == "passed"


def test_threads_and_exit_handlers_do_not_run_on():
    source = "import threading, time, atexit\natexit.register(time.sleep, 60)\n"
    assert ran(source + "threading.Thread(target=time.sleep, args=(60,)).start()", seconds=10).state == "passed"


def test_a_program_ends_when_nobody_waits_for_it_any_more(tmp_path):
    file = tmp_path / "pid"
    program = f"import os, time\nwith open({str(file)!r}, 'w') as file: file.write(str(os.getpid()))\ntime.sleep(600)"
    code = f"from fdllm.sandbox import run_python; run_python({program!r}, seconds=3, memory_mb=512)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert holds_soon(lambda: file.exists() and file.read_text())
    parent.kill()
    parent.wait()
    pid = int(file.read_text())
    assert alive(pid)
    assert holds_soon(lambda: not alive(pid))


def test_an_interpreter_that_cannot_start_is_no_failure_of_the_program(monkeypatch):
    with pytest.raises(SandboxError, match=rf"sandbox: \S+ did not start within {2**50} MiB; it said: [\s\S]*Error"):
        ran("pass", memory_mb=2**50)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SandboxError, match=r"sandbox: /bin/false did not start within 512 MiB; it said: nothing"):
        ran("pass")


def test_a_platform_without_limits_is_refused(monkeypatch):
    # as where Python comes without it
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(
        SandboxError, match=r"sandbox: wanted a platform that limits processes .*, got \w+; run this on Linux"
    ):
        ran("pass")
