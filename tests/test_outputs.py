"""Where results go: files, links, devices, pipes, standard output; what can't be written is refused before the work begins."""
import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from celeba_nb import cli, console, fileio
from celeba_nb.core import DataError, WriteError, printable
from celeba_nb.fileio import cache_folder, check_folder, check_output, expand, run_lock, temporary_path, write_atomically

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and links of Unix")
APP = "from celeba_nb.cli import app; app()"
RUNS = "method,seed,accuracy\n" + "".join(f"{name},{seed},{0.8 + 0.01 * (name == 'new') + 0.001 * seed}\n"
                                          for name in ("old", "new") for seed in range(7))


@pytest.fixture
def place(tmp_path, monkeypatch):
    "The current folder, with a table of runs."
    (tmp_path / "runs.csv").write_text(RUNS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verdict(*words):
    "The quickest command that writes JSON."
    return CliRunner().invoke(cli.app, ["verdict", "runs.csv", *map(str, words)], color=True)


def alone(*words, **options):
    "A command in a process of its own."
    return subprocess.run([sys.executable, "-c", APP, *map(str, words)], text=True, **options)


def refused(done):
    "The one line that a command ended with."
    assert done.exit_code == 1 and "Traceback" not in done.output, done.output
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("Error: "), done.stderr
    return done.stderr


# ---- what is there already


def device(path, minor):
    "A copy of a device; as only root may make it."
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.open("wb").close()
    except OSError:
        pytest.skip("no right to make a device here")
    return path


def test_a_device_is_written_to(place):
    null = device(place / "null", 3)
    assert verdict("--json", null).exit_code == 0 and null.is_char_device()
    full = device(place / "full", 7)
    assert "full: can't be written (No space left on device)" in refused(verdict("--json", full)) and full.is_char_device()


def test_the_null_device_stays():
    write_atomically(Path(os.devnull), lambda path: path.write_text("text"))
    check_output(Path(os.devnull))
    assert Path(os.devnull).is_char_device()


def test_a_pipe_is_written_to(place):
    os.mkfifo("pipe")
    assert "no program reads from this pipe" in refused(verdict("--json", "pipe"))
    got = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_text()))
    reader.start()
    while (done := verdict("--json", "pipe")).exit_code and reader.is_alive():  # until the reader has opened it
        pass
    reader.join(20)
    assert done.exit_code == 0 and "effects" in json.loads(got[0]) and Path("pipe").is_fifo()


def test_a_link_is_followed(place):
    Path("target.json").write_text("old")
    Path("link.json").symlink_to("target.json")
    assert verdict("--json", "link.json").exit_code == 0
    assert Path("link.json").is_symlink() and "effects" in json.loads(Path("target.json").read_text())


def test_standard_output(place):
    "Only the JSON goes there."
    for path in ("-", "/dev/stdout"):
        done = verdict("--json", path)
        assert done.exit_code == 0 and "effects" in json.loads(done.stdout) and "new" in done.stderr, done.output
    assert sorted(os.listdir()) == ["runs.csv"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [[], ["--json", "-"]])
def test_standard_output_on_a_full_disk(words, buffered, place):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = alone("verdict", "runs.csv", *words, stdout=full, stderr=subprocess.PIPE,
                     env=env | ({} if buffered else {"PYTHONUNBUFFERED": "1"}))
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: can't be written (No space left on device). Make room there, and try again.\n"


def test_a_reader_that_has_enough(place):
    "As `| head`: no traceback, and no complaint when Python ends."
    reader, writer = os.pipe()
    os.close(reader)
    done = alone("verdict", "runs.csv", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 1 and "Error" not in done.stderr, done.stderr


# ---- refused before the work begins


HOPELESS = {
    "a folder": ("folder", "this is a folder"), "below a file": ("runs.csv/x.json", "Not a directory"),
    "a dangling link": ("dangling", "this link leads to nowhere/x, which is not there"),
    "a long name": ("n" * 260, "File name too long"), "a long folder": ("n" * 260 + "/x.json", "File name too long"),
    "a socket": ("socket", "this is not a file"),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_it_is_refused_at_once(name, place, monkeypatch):
    import socket

    Path("folder").mkdir()
    Path("dangling").symlink_to("nowhere/x")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        path, said = HOPELESS[name]
        before = sorted(os.listdir())
        for command in ("verdict runs.csv --json", "evaluate m --json", "predict a.jpg --model m --json", "train --json",
                        "study --json", "reproduce m --json", "bench --json", "export m --out", "report m --out"):
            assert said in refused(CliRunner().invoke(cli.app, [*command.split(), path])), command
        assert sorted(os.listdir()) == before


@pytest.mark.parametrize("length", [230, 241, 255])
def test_a_long_name_that_the_disk_takes(length, place):
    assert verdict("--json", "n" * length).exit_code == 0 and Path("n" * length).is_file()


def test_a_full_disk_is_noticed_before(place, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match="new.result.json: can't be written .No space left"):
        check_output(place / "new" / "result.json")
    with pytest.raises(WriteError, match="model: can't be written .No space left"):
        check_folder(place / "model")
    assert sorted(os.listdir()) == ["runs.csv"]


def test_a_check_leaves_nothing(place):
    check_output(place / "a" / "b" / "c.json"), check_folder(place / "a" / "b")
    assert sorted(os.listdir()) == ["runs.csv"]
    os.chmod("runs.csv", 0o400)
    check_output(place / "runs.csv")
    assert Path("runs.csv").read_text() == RUNS


# ---- temporary names


def test_what_another_user_has_put_there_is_not_used(place):
    "The names of earlier versions: the process's number. The new ones can't be guessed, and only this user may enter."
    victim = place / "victim"
    victim.mkdir()
    for name in (f".out.json.{os.getpid()}", f".out.{os.getpid()}"):
        Path(name).symlink_to(victim)
    write_atomically(place / "out.json", lambda path: path.write_text("text"))
    assert list(victim.iterdir()) == [] and Path("out.json").read_text() == "text"
    with temporary_path(place / "out") as first, temporary_path(place / "out") as second:
        assert first.parent != second.parent and stat.S_IMODE(first.parent.stat().st_mode) == 0o700


def test_the_result_has_the_rights_of_a_new_file(place):
    "Not those of the temporary folder."
    Path("beside").write_text("")
    write_atomically(place / "out.json", lambda path: path.write_text("text"))
    assert Path("out.json").stat().st_mode == Path("beside").stat().st_mode


def test_leftovers_of_the_new_names(place):
    for name in ("one", "n" * 250):
        left = [Path(f"{fileio._temporary_prefix(name + part)}abcd_123.tmp") for part in ("", ".checkpoint.safetensors")]
        others = [Path(f".{name[:9]}.{rest}") for rest in ("settings", "abcd_123", "abcd_12345.tmp")]
        for path in [*left, *others]:
            path.mkdir()
        fileio._remove_leftovers(place / name)
        assert not any(path.exists() for path in left) and all(path.is_dir() for path in others)


# ---- the home folder


def test_the_home_folder_also_after_an_equals_sign(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    assert verdict("--json=~/a.json").exit_code == 0 and verdict("--json", "~/b.json").exit_code == 0
    assert CliRunner().invoke(cli.app, ["verdict", "~/runs.csv", "--picture=~/c.svg"]).exit_code == 0
    assert {"a.json", "b.json", "c.svg"} <= set(os.listdir()) and not Path("~").exists()


@pytest.mark.parametrize("words", [["verdict", "~nobody-has-this-name/x.csv"], ["train", "--root=~nobody-has-this-name/x"],
                                   ["report", "m", "--out", "~nobody-has-this-name/x"]])
def test_no_such_home_folder(words, place):
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 2 and "~nobody-has-this-name/x" in done.stderr and "there is no home folder" in done.stderr
    with pytest.raises(DataError, match="no home folder"):
        expand("~nobody-has-this-name/x")


def test_the_variables_name_no_home_folder(monkeypatch):
    from celeba_nb.data import find_root

    monkeypatch.setenv("CELEBA_ROOT", "~nobody-has-this-name/x")
    with pytest.raises(DataError, match="no home folder"):
        find_root()
    monkeypatch.setenv("CELEBA_NB_CACHE", "")
    monkeypatch.setattr(fileio, "user_cache_path", lambda *args, **options: Path("~/x").expanduser())
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user who isn't in the list of users
    with pytest.raises(DataError, match="Set CELEBA_NB_CACHE"):
        cache_folder()


# ---- the cache folder


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("part", ["", "images"])
def test_the_cache_of_another_user_is_not_trusted(part, place, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(place / "cache"))
    (place / "cache" / part).mkdir(parents=True)
    assert cache_folder() == place / "cache"
    os.chown(place / "cache" / part, 12345, 12345)
    with pytest.raises(DataError, match="belongs to another user. Set CELEBA_NB_CACHE"):
        cache_folder()


@pytest.mark.parametrize("part", ["", "images"])
def test_a_cache_that_everybody_may_write_to_is_not_trusted(part, place, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(place / "cache"))
    (place / "cache" / part).mkdir(parents=True)
    os.chmod(place / "cache" / part, 0o1777)
    with pytest.raises(DataError, match="every user may write to this cache.*set CELEBA_NB_CACHE"):
        cache_folder()


def test_a_cache_that_cannot_be_written_names_the_variable(place, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(place / "runs.csv" / "cache"))
    with pytest.raises(WriteError, match="set CELEBA_NB_CACHE to a folder that you may write to"), \
            fileio.writing(cache_folder() / "images"):
        (cache_folder() / "images").mkdir(parents=True)


# ---- the system's errors


SYSTEM = {
    "memory": (MemoryError(), "not enough memory"),
    "PyTorch's memory": (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
                                      "you tried to allocate 999 bytes. Error code 12"), "not enough memory"),
    "a card's memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "not enough memory"),
    "threads": (RuntimeError("can't start new thread"), "not enough memory"),
    "an import": (SystemError("error return without exception set"), "not enough memory"),
    "a fork": (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    "a library": (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory"),
    "files": (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    "a stale handle": (OSError(errno.ESTALE, "Stale file handle", "/far/away"), "/far/away"),
    "torchvision": (RuntimeError("operator torchvision::nms does not exist"), "PyTorch and torchvision don't fit together"),
}


@pytest.mark.parametrize("name", SYSTEM)
def test_an_error_of_the_system_is_one_line(name, place, monkeypatch):
    error, said = SYSTEM[name]

    def fails(path):
        raise error

    monkeypatch.setattr("celeba_nb.tables.read_csv", fails)
    assert said in refused(verdict())


def test_too_few_addresses_for_the_libraries(place, monkeypatch):
    "With 3.2 GB PyTorch crashes as it is imported, and with 3.5 GB OpenBLAS may wait for ever; `verdict` needs less."
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (3_584_000_000, resource.RLIM_INFINITY))
    said = refused(CliRunner().invoke(cli.app, ["evaluate", "model"]))
    assert "ulimit -v allows 3.6 GB of addresses, but PyTorch and other libraries reserve 4.5 GB" in said
    monkeypatch.setattr("celeba_nb.tables.read_csv", lambda path: exec("raise OSError('read')"))
    assert "read" in refused(verdict())


def test_our_own_mistakes_keep_their_traceback():
    for error in (RuntimeError("a mistake"), KeyError("loky")):
        with pytest.raises(type(error)), console.one_line_errors(""):
            raise error


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_without_locks(number, place, monkeypatch):
    "A run is made without one, and it is said; a lock in the cache is one line that names the variable."
    import fcntl

    def flock(fd, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="this disk has no locks .*one at a time, or choose a folder on another disk"):
        with run_lock(place / "run"):
            (place / "run").mkdir()
    monkeypatch.setenv("CELEBA_NB_CACHE", str(place / "cache"))
    from filelock import FileLock
    with pytest.raises(WriteError, match="set CELEBA_NB_CACHE"), fileio.writing(cache_folder() / "images"):
        FileLock(place / "lock").acquire()


# ---- what a terminal would obey


def test_control_characters_are_shown_as_text():
    assert printable("a\x1b[31mb\rc\x07\x9b\u202e") == r"a\x1b[31mb\rc\x07\x9b\u202e"
    assert printable("Zoë 女 — ✓") == "Zoë 女 — ✓" and printable(os.fsdecode(b"caf\xe9")) == r"caf\udce9"


def test_commands_show_control_characters_as_text(place):
    Path("runs.csv").write_text(RUNS.replace("new", "n\x1b[2Jew"))
    done = verdict()
    assert done.exit_code == 0 and r"n\x1b[2Jew" in done.stdout and "\x1b" not in done.output
    done = CliRunner().invoke(cli.app, ["verdict", "\x1b]0;title\x07.csv"], color=True)
    assert r"\x1b]0;title\x07.csv" in refused(done) and "\x1b" not in done.output
    cli._show_answer({"photo": "p", "error": "\x1b[2J is no photo", "faces": []})


def test_names_of_any_bytes_are_printed(place):
    name = os.fsencode(place) + b"/caf\xe9.csv"
    Path(os.fsdecode(name)).write_text("")
    done = alone("verdict", name.decode(errors="surrogateescape"), capture_output=True)
    assert done.returncode == 1 and r"caf\udce9.csv" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_warning_is_a_sentence(place, capsys):
    import warnings

    with console.one_line_errors(""):
        warnings.simplefilter("always")
        warnings.warn("three\x1b images", stacklevel=1)
    assert capsys.readouterr().err == "Warning: three\\x1b images\n"
