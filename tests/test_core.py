"""What every module needs: errors that name a file, files written whole, one lock, one cache folder, one progress bar."""
import io
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from platformdirs.macos import MacOS
from platformdirs.windows import Windows

from celeba_nb import core, fileio
from celeba_nb.core import DamagedError, DataError, TrainingError, WriteError, import_object, progress_bar
from celeba_nb.fileio import cache_folder, run_lock, write_atomically, writing

# ---- errors, and files that are written whole


def test_error_classes():
    assert issubclass(DataError, ValueError) and issubclass(TrainingError, RuntimeError) and issubclass(WriteError, OSError)
    assert issubclass(DamagedError, TrainingError)


@pytest.mark.parametrize("error, says", [
    (OSError(28, "No space left on device"), "(No space left on device). Make room there"),
    (PermissionError(13, "Permission denied"), "(Permission denied). Make room there"),
    (OSError("something else"), "(something else). Make room there"),
])
def test_what_can_not_be_written_is_named(error, says):
    with pytest.raises(WriteError, match="^inner.txt: can't be written") as caught, writing("outer.txt"), writing("inner.txt"):
        raise error
    assert says in str(caught.value)


def test_other_errors_pass():
    with pytest.raises(ValueError, match="^not about the disk$"), writing("a file"):
        raise ValueError("not about the disk")


@pytest.mark.parametrize("error, raised", [
    (OSError(28, "No space left on device"), WriteError), (TrainingError("no"), TrainingError),
    (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_writer_that_fails_leaves_the_old_file(error, raised, tmp_path):
    def fail_half_way(path):
        path.write_text("half of the new te")
        raise error

    note = tmp_path / "note.txt"
    with pytest.raises(raised):
        write_atomically(note, fail_half_way)
    assert list(tmp_path.iterdir()) == []
    write_atomically(note, lambda path: path.write_text("the old text"))
    with pytest.raises(raised):
        write_atomically(note, fail_half_way)
    assert note.read_text() == "the old text" and list(tmp_path.iterdir()) == [note]
    write_atomically(note, lambda path: path.write_text("the new text"))
    assert note.read_text() == "the new text"


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(WriteError, match="nowhere.note.txt: can't be written"):
        write_atomically(tmp_path / "nowhere" / "note.txt", lambda path: path.write_text("text"))


# ---- the cache folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A home folder; no variable says where the cache is."
    for name in ("CELEBA_NB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="where Linux keeps its caches")
def test_cache_folder_of_linux(home, monkeypatch):
    assert cache_folder() == home / ".cache" / "celeba_nb"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder() == home / "xdg" / "celeba_nb"
    monkeypatch.setenv("CELEBA_NB_CACHE", "~/mine")
    assert cache_folder() == home / "mine"


def test_cache_folder_of_other_systems(home, monkeypatch):
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: str(home / "local"))
    for system, folder in [(Windows, home / "local" / "celeba_nb"), (MacOS, home / "Library" / "Caches" / "celeba_nb")]:
        monkeypatch.setattr(fileio, "user_cache_path", lambda name, kind=system, **options: kind(name, **options).user_cache_path)
        assert cache_folder() == folder


@pytest.mark.parametrize("chosen", ["~nobody-has-this-name/cache", None])
def test_no_home_folder(chosen, home, monkeypatch):
    if chosen:
        monkeypatch.setenv("CELEBA_NB_CACHE", chosen)
    else:
        monkeypatch.setattr(fileio, "user_cache_path", lambda *args, **options: Path("~/.cache/celeba_nb"))
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user who isn't in the list of users
    with pytest.raises(DataError, match="there is no home folder here. Set CELEBA_NB_CACHE"):
        cache_folder()


# ---- the lock of a run


def lock_and_look(folder):
    with run_lock(folder):
        return "locked"


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / "runs" / "one"
    with run_lock(folder):
        with pytest.raises(TrainingError, match="another process is at work on .*one: wait for it, or choose another folder"):
            lock_and_look(folder)
        assert lock_and_look(tmp_path / "runs" / "one.2") == "locked"
    assert lock_and_look(folder) == "locked"


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    left = [tmp_path / f".one{part}.123" for part in ("", ".checkpoint.safetensors")]
    others = [tmp_path / name for name in (".one.12a", ".other.123", "one.123", ".one.json.123")]
    left[0].mkdir()
    for path in [left[1], *others]:
        path.write_text("")
    with run_lock(tmp_path / "one"):
        assert not any(path.exists() for path in left) and all(path.exists() for path in others)


@pytest.mark.parametrize("made", ["run", "empty folder", None])
def test_the_lock_file_goes_when_the_run_is_there(made, tmp_path, monkeypatch):
    "Not before: Windows refuses to remove an open file, and a process that waits needs it (a user's empty folder is no run)."
    folder, locks = tmp_path / "one", []

    class Lock(filelock.FileLock):
        def acquire(self, *args, **kwargs):
            locks.append(self)
            return super().acquire(*args, **kwargs)

    def unlink(path, missing_ok=False, unlink=Path.unlink):
        if any(lock.is_locked for lock in locks):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        unlink(path, missing_ok)

    monkeypatch.setattr(filelock, "FileLock", Lock)
    monkeypatch.setattr(Path, "unlink", unlink)
    with run_lock(folder):
        if made:
            folder.mkdir()
        if made == "run":
            (folder / "weights").touch()
    assert (tmp_path / ".one.lock").exists() == (made != "run") and locks


def test_a_lock_file_that_another_process_has_open_stays(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "used by another process")

    (tmp_path / "one" / "weights").mkdir(parents=True)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert lock_and_look(tmp_path / "one") == "locked" and (tmp_path / ".one.lock").exists()


def test_a_lock_is_free_when_its_owner_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), run_lock(tmp_path / "one"):
        raise KeyboardInterrupt
    assert lock_and_look(tmp_path / "one") == "locked"


# ---- import by name


def test_import_object():
    from celeba_nb.model import AttributeCNN

    assert import_object("celeba_nb.model.AttributeCNN") is AttributeCNN
    assert import_object("collections.OrderedDict").__name__ == "OrderedDict"


@pytest.mark.parametrize("name, reason", [("celeba_nb.model.Nothing", "doesn't define it"), ("nothing.at.all", "No module named"),
                                          ("AttributeCNN", ""), ("", ""), ("celeba_nb.files.csv", "doesn't define it")])
def test_what_can_not_be_imported_is_named(name, reason):
    with pytest.raises(TrainingError, match="there is no") as caught:
        import_object(name)
    assert repr(name) in str(caught.value) and reason in str(caught.value)


# ---- progress


def test_a_log_file_gets_lines(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(core, "is_watched", lambda: False)
    monkeypatch.setattr(sys, "stderr", log)
    assert list(progress_bar(range(600), desc="training", unit="step")) == list(range(600))
    lines = log.getvalue().splitlines()
    assert len(lines) <= 3 and "\r" not in log.getvalue()
    assert "training: 600/600 (100%)" in lines[-1] and lines[-1].endswith("left")


def test_blank_states_are_no_lines():
    log = io.StringIO()
    lines = core._Lines(log)
    for text in ("\r 1 of 2", "\r 2 of 2", "\n", "   \r"):
        lines.write(text)
    lines.flush()
    assert log.getvalue() == "1 of 2\n2 of 2\n"


def test_a_person_gets_a_bar(monkeypatch):
    monkeypatch.setattr(core, "is_watched", lambda: True)
    with progress_bar(total=2) as bar:
        bar.update(2)
    assert isinstance(bar, core._bars()[1]) and bar.n == 2


def test_nothing_is_shown(capsys):
    assert "".join(progress_bar("ab", show=False)) == "ab"
    assert capsys.readouterr() == ("", "") and core.is_watched() in (True, False)


# ---- memory


def test_the_allocator_is_asked_in_vain_where_there_is_none():
    assert core._call_libc("no_such_function", 1) is None


MEMORY = """
import numpy as np, psutil
from celeba_nb.core import give_back_memory, keep_memory

def used_mb():
    return psutil.Process().memory_info().rss / 1e6

keep_memory()
blocks = [np.ones(10_000) for _ in range(2500)]
full = used_mb()
del blocks
freed = used_mb()
give_back_memory(); print(full, freed, used_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="an allocator that is Linux's")
def test_memory_is_kept_and_given_back():
    said = subprocess.check_output([sys.executable, "-c", MEMORY], text=True)
    full, freed, given_back = map(float, said.split())
    assert full - freed < 20 and freed - given_back > 150, said


# ---- what it costs to import


def test_core_and_fileio_import_little():
    "The command line imports it before it answers --help."
    code = "import sys, celeba_nb.fileio; print([m for m in 'torch pandas numpy tqdm filelock'.split() if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
