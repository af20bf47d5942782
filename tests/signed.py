"""A record that was forged: its digest fits, so that it can only be refused for what it says."""
import json

from celeba_nb.record import FILES, record_digest


def sign(folder, **entries):
    "Write other entries into a record's recipe.json, list the files that are there, and make the digest fit, if it can be."
    path = folder / "recipe.json"
    try:
        about = json.loads(path.read_text()) | entries
        about["files"] = [name for name in FILES if (folder / name).exists()]
        about["digest"] = record_digest(folder, about)
        text = json.dumps(about)
    except (ValueError, TypeError, RecursionError):  # it isn't JSON, or no dictionary: nothing can be signed
        return folder
    path.write_text(text)
    return folder
