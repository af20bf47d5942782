"""How much private memory do many images need? Builds a cache and trains an epoch with few and with many images.

    python benchmarks/memory.py --images 200000 --json memory.json

The many are the same sketch faces under many names (hard links). Private memory is RssAnon of /proc/PID/status (Linux):
what the process itself holds, without the pages of mapped files, which the system may drop at any time.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEW = 1000


def make_folder(faces, folder, images):
    "A CelebA folder with so many training images, of a few different faces."
    from celeba_nb.files import read_celeba

    labels, place = read_celeba(faces), folder / "img_align_celeba"
    place.mkdir(parents=True)
    attributes = ["".join(f" {2 * value - 1:2d}" for value in row) for row in labels.attributes.to_numpy().astype(int)]
    files = [faces / "img_align_celeba" / name for name in labels.attributes.index]
    names = [f"{i:06d}.jpg" for i in range(1, images + 101)]
    for i, name in enumerate(names):
        os.link(files[i % len(files)], place / name)
    rows = [name + attributes[i % len(files)] for i, name in enumerate(names)]
    head = [str(len(rows)), " ".join(labels.attributes.columns)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]) + "\n")
    splits = ["0"] * images + ["1"] * 50 + ["2"] * 50
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {s}\n" for n, s in zip(names, splits)))


def child(root, size):
    "What is measured: read the labels, build the cache, train an epoch over all images."
    from celeba_nb.files import read_celeba
    from celeba_nb.images import ImageCache
    from celeba_nb.recipe import Recipe
    from celeba_nb.training import train

    began = time.perf_counter()
    labels = read_celeba(root)
    read = time.perf_counter()
    cache = ImageCache(labels, size, progress=False)
    built = time.perf_counter()
    recipe = Recipe(None, size=size, epochs=1, batch_size=100, model_args={"channels": [8, 16, 32], "hidden": 32})
    run = train(recipe, labels, cache=cache, progress=False)
    n = len(labels)
    print(json.dumps({"images": n, "read_us_an_image": 1e6 * (read - began) / n, "build_us_an_image": 1e6 * (built - read) / n,
                      "train_us_an_image": 1e6 * run.metrics["seconds"] / n}))


def private_mb(pid):
    "RssAnon of a process."
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon")), 0)


def measure(root, size, cache):
    "Run the child, and keep the highest private memory."
    environment = os.environ | {"CELEBA_NB_CACHE": str(cache)}
    process = subprocess.Popen([sys.executable, "-W", "ignore", __file__, "--child", root, "--size", str(size)],
                               stdout=subprocess.PIPE, env=environment, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, private_mb(process.pid))
        time.sleep(0.05)
    return json.loads(process.stdout.read()) | {"private_mb": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.size)
    from celeba_nb.sketch import make_sketch

    with tempfile.TemporaryDirectory() as folder:
        faces = make_sketch(Path(folder) / "faces", FEW, 50, 50)
        result = {}
        for name, images in (("few", FEW), ("many", args.images)):
            make_folder(faces, Path(folder) / name, images)
            result[name] = measure(Path(folder) / name, args.size, Path(folder) / "cache")
    result["more_mb"] = result["many"]["private_mb"] - result["few"]["private_mb"]
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
