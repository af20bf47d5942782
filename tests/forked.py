"""Runs notebooks and celeba-nb's commands in forks of one process that has imported everything: an attempt costs its own
work, no imports.

Here are also the ways to disturb such a command: a signal at a moment or at a system call, a small limit for files, no rights.
"""
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import psutil

from tools.notebooks import FLOORS, PACKAGE, ROOT, notebook_command, without_bars
from tools.notebooks import run as run_command

PRELOADED = ["torchvision", "pandas", "scipy.stats", "matplotlib.pyplot", "nbdev.test",
             *(f"{PACKAGE}.{module}" for floor in FLOORS for module in floor)]
CONTEXT = multiprocessing.get_context("forkserver") if sys.platform != "win32" else None
if CONTEXT:
    CONTEXT.set_forkserver_preload(PRELOADED)
CALLS = ("write,pwrite64,writev,?rename,?renameat,renameat2,?mkdir,mkdirat,?unlink,unlinkat,?rmdir,fsync,ftruncate")


def _give_up_privileges():
    "From now on, the mode bits of files apply to root as to any user (Linux: its capabilities 1 to 3 are given up)."
    import ctypes

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    class Sets(ctypes.Structure):
        _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]

    libc, header, sets = ctypes.CDLL(None, use_errno=True), Header(0x20080522, 0), (Sets * 2)()
    if libc.capget(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "capget")
    for name in ("effective", "permitted", "inheritable"):
        setattr(sets[0], name, getattr(sets[0], name) & ~0b1110)
    if libc.capset(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "capset")


def _count_trainings(path):
    "From now on, a line in the file for each run that this process begins to make."
    from celeba_nb import workers

    def counted(recipe, labels, *args, train=workers.train, **options):
        with open(path, "a") as file:
            file.write(f"{workers.run_id(recipe, labels.fingerprint)}\n")
        return train(recipe, labels, *args, **options)

    workers.train = counted


def _settle(printed, env, errors=None):
    "Print into files from now on, with these variables (None: unset), and begin own workers as an ordinary process does."
    for numbers, path in [((1, 2), printed), ((2,), errors)]:
        if path:
            with open(path, "wb") as file:
                for number in numbers:
                    os.dup2(file.fileno(), number)
    for name, value in env.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    multiprocessing.set_start_method(None, force=True)


def _command(arguments, env, printed, errors, gate, counted, file_limit, ordinary, without):
    "What the fork does."
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the command itself begins
    _settle(printed, env, errors)
    sys.modules |= dict.fromkeys(without)  # to import one of them fails
    if counted:
        _count_trainings(counted)
    while gate and not os.path.exists(gate):
        time.sleep(0.01)
    if file_limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if ordinary and os.getuid() == 0:
        _give_up_privileges()
    sys.argv = ["celeba-nb", *arguments]
    from celeba_nb.cli import app

    signal.signal(signal.SIGINT, signal.default_int_handler)
    app(arguments, prog_name="celeba-nb")


def _notebook(path, env, printed):
    "What the fork of a notebook does."
    _settle(printed, env)
    os.chdir(path.parent)
    import matplotlib
    from nbdev.test import test_nb

    matplotlib.use("Agg")
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("error", category=category, module=PACKAGE)  # the package calls nothing deprecated
    passed, _ = test_nb(path)
    for idle in psutil.Process().children(recursive=True):  # joblib's workers: the end of a fork waits for them, for minutes
        idle.kill()
    sys.exit(not passed)


def run_notebook(path, env, timeout):
    "Run a notebook's cells as tests: (did they pass?, what they printed). At the time limit it is killed."
    if CONTEXT is None:
        return run_command(notebook_command(path), path.parent, env, timeout)
    printed = path.with_suffix(".txt")
    process = CONTEXT.Process(target=_notebook, args=(path, env, printed))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        for started in [*psutil.Process(process.pid).children(recursive=True), process]:
            started.kill()
        process.join()
    return process.exitcode == 0, f"{without_bars(printed.read_text(errors='replace'))}\nExit code {process.exitcode}."


class Command:
    "A command that is running, or has ended."

    def __init__(self, arguments, folder, env=None, gate=None, counted=None, file_limit=None, ordinary=False, apart=False,
                 without=()):
        self.printed_path = folder / f"printed-{time.time_ns()}"
        self.errors_path = self.printed_path.with_suffix(".errors") if apart else None
        if file_limit:  # a pipe has no size, so what is printed isn't limited
            os.mkfifo(self.printed_path)
            self.text = b""
            self.reader = threading.Thread(target=self._read, daemon=True)
            self.reader.start()
        env = {"LOKY_MAX_CPU_COUNT": "1", "CELEBA_NB_CACHE": str(folder / "cache"), **(env or {})}
        self.process = CONTEXT.Process(target=_command, args=(
            [str(word) for word in arguments], env, self.printed_path, self.errors_path, gate, counted, file_limit, ordinary,
            without))
        self.process.start()
        self.pid, self.began = self.process.pid, time.monotonic()

    def _read(self):
        self.text = self.printed_path.read_bytes()

    def begin(self, said=False):
        "Wait until the fork has started, or even has printed something."
        while self.process.is_alive() and not (self.printed_path.exists() and self.printed_path.stat().st_size >= said):
            time.sleep(0.001)

    def wait(self, seconds=None):
        "The exit code once it has ended; a negative one for a signal; None if it goes on after so many seconds."
        self.process.join(seconds)
        return self.process.exitcode

    def send(self, number):
        if self.process.is_alive():
            os.kill(self.pid, number)

    @property
    def printed(self):
        if hasattr(self, "reader"):
            self.reader.join(10)
            return self.text.decode()
        return self.printed_path.read_text(errors="replace")


def _finish(arguments, folder, **options):
    "A command that has ended by itself."
    command = Command(arguments, folder, **options)
    if command.wait(300) is None:
        command.send(signal.SIGKILL)
        raise TimeoutError(f"{arguments} went on for more than 300 s:\n{command.printed}")
    return command


def run(arguments, folder, **options):
    "Run a command to its end: (exit code, what it printed)."
    command = _finish(arguments, folder, **options)
    return command.process.exitcode, command.printed


def run_apart(arguments, folder, env=None, without=()):
    "The same: exit code, output and error output apart, as subprocess.run gives them."
    if CONTEXT is None:
        code = f"import sys; sys.modules |= dict.fromkeys({without!r}); from {PACKAGE}.cli import app; app()"
        return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, env={**os.environ, **(env or {})},
                              capture_output=True, text=True)
    command = _finish(arguments, folder, env=env, without=without, apart=True)
    return subprocess.CompletedProcess(arguments, command.process.exitcode, command.printed,
                                       command.errors_path.read_text(errors="replace"))


# ---- strace: a signal at the n-th system call that writes


def strace_problem():
    "Why strace can't be used here, or an empty text."
    if sys.platform != "linux":
        return "strace is Linux's"
    if not shutil.which("strace"):
        return "strace is not installed"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as sleeper:
        tried = subprocess.Popen(["strace", "-p", str(sleeper.pid)], stderr=subprocess.PIPE, text=True)
        line = tried.stderr.readline()
        sleeper.kill()
        tried.wait()
    return "" if "attached" in line else f"strace may not attach to a process here ({line.strip()})"


def start_traced(arguments, folder, log, point=None, **options):
    "Start a command with strace at it, which kills it at a point: (name of a call, its number among a thread's calls of it)."
    gate = folder / f"gate-{time.time_ns()}"
    command = Command(arguments, folder, gate=gate, **options)
    inject = ["-e", f"inject={point[0]}:signal=KILL:when={point[1]}"] if point else []
    tracer = subprocess.Popen(["strace", "-f", "-y", "-o", log, "-e", f"trace={CALLS}", *inject, "-p", str(command.pid)],
                              stderr=subprocess.PIPE, text=True)
    tracer.stderr.readline()  # "Process ... attached"
    gate.touch()
    return command, tracer


def traced_calls(log, inside):
    "The calls in a log: (thread, number among its calls of that name, name, path inside that folder or None)."
    numbers, found = {}, []
    for line in Path(log).read_text(errors="replace").splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if match:
            thread, name, rest = match.groups()
            numbers[thread, name] = numbers.get((thread, name), 0) + 1
            paths = re.findall(r'[<"](/[^>"]*)[>"]', rest)
            ours = [str(Path(path).relative_to(inside)) for path in paths if path.startswith(f"{inside}/")]
            found.append((thread, numbers[thread, name], name, ours[-1] if ours else None))
    return found


def kind_of(path):
    "A path without what differs from run to run: names that are hashes, numbers of processes, our own folders."
    path = re.sub(r"\.tmp\w{6}", ".tmp", re.sub(r"[0-9a-f]{16,32}", "NAME", re.sub(r"printed-\d+", "printed", path)))
    return re.sub(r"\.\d+(?=/|$)", ".PID", re.sub(r"^\d+/", "", path))


def draw(seed):
    "A source of chance."
    return random.Random(seed)
