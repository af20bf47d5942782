"""Fetch onnxruntime-web, which runs the demo's network in the browser (make docs and .ci/run do this; 11 seconds).

Its WebAssembly has 14 MB, too much to commit. npm packs it, from the registry that npm is set up with, and the hash says
that it is what was tried. Needs nothing but Python, so that CI can fetch it before .venv is there.
"""
import base64
import functools
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "onnxruntime-web@1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = {"ort.js": "package/dist/ort.wasm.bundle.min.mjs", "ort.wasm": "package/dist/ort-wasm-simd-threaded.wasm"}
BUILD = Path(__file__).resolve().parent.parent / "docs" / "_build"
FOLDER = BUILD / PACKAGE


def unpack(archive, folder):
    "Take the two files of the processor's runtime out of npm's archive, if it is the one that was tried."
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != INTEGRITY:
        raise OSError(f"{archive.name} is not what it was: its hash differs")
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for name, member in FILES.items():
            with tar.extractfile(member) as source, open(folder / name, "wb") as file:
                shutil.copyfileobj(source, file)


@functools.cache
def fetch():
    "The folder of the runtime, fetched where it isn't there; None, and a line that says why, where it can't be had."
    if FOLDER.exists():
        return FOLDER
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True, timeout=300)
            [archive] = Path(folder).glob("*.tgz")
            unpack(archive, Path(folder) / "files")
            (Path(folder) / "files").rename(FOLDER)  # whole, or not at all
    except (OSError, subprocess.SubprocessError) as error:
        print(f"The demo's network will not answer: {PACKAGE} can't be had ({error}). Install npm, or leave it at that.")
        return None
    return FOLDER


if __name__ == "__main__":
    sys.exit(fetch() is None)
