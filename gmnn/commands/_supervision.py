"""Commands that run the code of others in a process of their own, whose end alone is no result.

A calculator may call os._exit, and a library may end the process from C or Fortran, with exit code 0 and without any
exception. The command therefore runs in a child, which tells its exit code when it has one.
"""

import os
import signal
import sys
from collections.abc import Callable

SUPERVISED = ("scan", "distort")
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def supervised(name: str, run: Callable[[], int]) -> int:
    """Run a command in a child and return the exit code that it tells: 2, with a sentence, if it ends with 0 untold.

    Signals sent to this process are passed on. Where a system cannot wait for signals, the command runs right here.
    """
    if not hasattr(os, "fork") or not hasattr(signal, "sigwaitinfo"):
        return run()
    passed_on = {getattr(signal, name) for name in PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*passed_on, signal.SIGCHLD})
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(reader)
        _die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _told(run, writer)
    os.close(writer)
    try:
        code = _waited(child, passed_on)
        told = os.read(reader, 16)
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if told:
        return int(told)
    if code < 0:
        print(f"{name}: ended by {signal.Signals(-code).name} before there was a result", file=sys.stderr)
        return 128 - code
    if code == 0:
        print(f"{name}: a library ended the program before there was a result; correct or choose another calculator",
              file=sys.stderr)  # fmt: skip
        return 2
    return code


def _told(run: Callable[[], int], writer: int) -> int:
    """Run and write the exit code into the pipe, also that of the parser of arguments."""
    try:
        code = run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    sys.stdout.flush()
    os.write(writer, str(code).encode())
    os.close(writer)
    return code


def _waited(child: int, passed_on: set[signal.Signals]) -> int:
    """Wait for the child's end and return its exit code, negative for a signal; pass on what others sent to us."""
    while True:
        about = signal.sigwaitinfo({*passed_on, signal.SIGCHLD})
        if about.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(child, os.WNOHANG)
            if done == child:
                return os.waitstatus_to_exitcode(status)
        elif about.si_code <= 0:  # from a process; those of a terminal reach the child, too
            os.kill(child, about.si_signo)


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent is killed, where it can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(2)
