"""Tables as people have them: what can be understood is read, the rest is refused in one line."""
import numpy as np
import pandas as pd
import pytest

from celeba_nb.core import DataError
from celeba_nb.tables import item_values, long_runs, read_csv

WANTED = {("A", "0"): 0.8, ("A", "1"): 0.81, ("B", "0"): 0.85, ("B", "1"): 0.86}
LONG = "method,seed,accuracy\nA,0,0.8\nA,1,0.81\nB,0,0.85\nB,1,0.86\n"


def read(folder, text, outcome=None):
    (folder / "runs.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return long_runs(read_csv(folder / "runs.csv"), outcome)


@pytest.mark.parametrize("text", [
    LONG, LONG.replace(",", ";"), LONG.replace(",", "\t"), LONG.replace("\n", "\r\n"), "\ufeff" + LONG, LONG + ",,\n\n",
    "\n" + LONG, LONG.replace("method,seed", "Method,SEED"), LONG.replace(",", " , "), LONG.replace("A", '"A"'),
    LONG.replace("0,0.8\n", "0.0,0.8\n"), LONG.replace("0.8\n", "80%\n"),
    "\n".join(f"{i - 1 if i else ''},{line}" for i, line in enumerate(LONG.splitlines())),
    "seed,A,B\n0,0.8,0.85\n1,0.81,0.86\n", ",seed,A,B\n0,0,0.8,0.85\n1,1,0.81,0.86\n", "method,0,1\nA,0.8,0.81\nB,0.85,0.86\n",
    "method,0.0,1.0\nA,0.8,0.81\nB,0.85,0.86\n"])
def test_what_people_write_is_read(tmp_path, text):
    table, failed = read(tmp_path, text)
    assert table.set_index(["method", "seed"]).iloc[:, 0].to_dict() == WANTED and failed.empty


def test_empty_and_infinite_outcomes_are_failed_runs(tmp_path):
    table, failed = read(tmp_path, LONG.replace("0.81", "nan").replace("0.86", "inf"))
    assert table["seed"].tolist() == ["0", "0"] and failed[["method", "seed"]].to_numpy().tolist() == [["A", "1"], ["B", "1"]]


@pytest.mark.parametrize("name", ["None", "NA", "null", "001", "0.10", "1e-3", "a, b", "50%", "数据增强"])
def test_any_text_may_be_a_name(tmp_path, name):
    table, _ = read(tmp_path, LONG.replace("A", f'"{name}"'))
    assert table["method"].unique().tolist() == [name, "B"]


def test_whole_numbers_are_one_seed_however_they_are_written():
    runs = pd.DataFrame({"method": list("AABB"), "seed": [1, 2, "1.0", np.float64(2)], "loss": [1, 2, 3, 4.0]})
    assert long_runs(runs)[0]["seed"].tolist() == ["1", "2", "1", "2"]
    large = runs.assign(seed=[1e20, 2e20, 1e20, 2e20])
    assert long_runs(large)[0]["seed"].nunique() == 2


@pytest.mark.parametrize(("text", "outcome", "message"), [
    ("seed,A,B,B\n0,1,2,3", None, "two columns are called 'B'"), (b"PK\x03\x04", None, "save it as CSV"),
    (b"\xff\xfe", None, "not a table in CSV"),
    ("", None, "not a table in CSV"), (LONG + "C,0,1,2,3\n", None, "not a table in CSV .*line 6"),
    ("algo,seed,accuracy\nA,0,0.8", None, "algo: 'A' .row 1 of the data. isn't a number"),
    ("algo,seed,accuracy\nA,0,0.8\nB,0,0.9", None, "there is no column method, only algo, seed, accuracy"),
    ("method,run,acc\nA,0,0.8\nA,1,0.9", None, "there is no column seed, only method, run, acc"),
    ("method,0,1,std\nA,1,2,3\nB,1,2,3", None, "'std' looks like a summary"),
    ("method,accuracy,loss\nA,1,2\nB,1,2", None, "there is no column seed, and 'accuracy' is no seed"),
    (LONG.replace("0.81", "fail"), None, "accuracy: 'fail' .row 2 of the data. isn't a number"),
    (LONG.replace("A,1", ",1"), None, "method: row 2 of the data is empty"),
    (LONG + "A,1.0,1\n", None, "'A' with seed 1 is there twice"),
    (LONG.replace("accuracy", "group"), None, "which outcome[?] Choose one of none")])
def test_what_cant_be_understood_is_refused(tmp_path, text, outcome, message):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, text, outcome)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_named(tmp_path):
    for path, message in ((tmp_path, "a folder"), (tmp_path / "no.csv", "no such file")):
        with pytest.raises(DataError, match=message):
            read_csv(path)


ITEMS = pd.DataFrame({"method": 4 * ["A"] + 4 * ["B"], "seed": "0", "item": 2 * list("abcd"), "group": 2 * list("xyxy"),
                      "outcome": [0.9, 0.7, 0.85, 0.75, 0.9, 0.8, 0.9, 0.8]})
TABLE = pd.DataFrame({"method": list("AB"), "seed": "0", "accuracy": [0.8, 0.85]})


def test_items_are_arranged_by_run():
    values, groups = item_values(ITEMS.sample(frac=1, random_state=0), TABLE)
    assert values["A", "0"].tolist() == [0.9, 0.7, 0.85, 0.75] and groups.tolist() == [0, 1, 0, 1]
    assert item_values(ITEMS.drop(columns="group"), TABLE)[1].tolist() == [0, 1, 2, 3]
    rounded = TABLE.assign(accuracy=[0.803, 0.847])
    assert item_values(ITEMS, rounded)[0].keys() == values.keys()


@pytest.mark.parametrize(("items", "table", "message"), [
    (ITEMS, TABLE.assign(accuracy=[0.8, 0.856]), "'B' with seed 0: its items have a mean of 0.85, but its accuracy is 0.856"),
    (ITEMS.assign(group="x"), TABLE, "all items are in one group"),
    (ITEMS.assign(group=list("xyxyyyxy")), TABLE, "item a is in two groups"),
    (ITEMS.drop(index=5), TABLE, "'B' with seed 0 lacks item b"),
    (pd.concat([ITEMS, ITEMS[:1]]), TABLE, "item a .* is there twice"),
    (ITEMS[ITEMS["item"] == "a"], TABLE, "fewer than two items"), (ITEMS.drop(columns="item"), TABLE, "no column item")])
def test_items_that_contradict_their_runs_are_refused(items, table, message):
    with pytest.raises(DataError, match=message):
        item_values(items, table)
