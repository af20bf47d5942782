"""Print what is wrong with this Python for the project, or nothing. Written so that even an old Python can run it."""
import sys


def problem(oldest):
    "One line that says what is missing and what to do; None where all is well."
    if sys.version_info[:2] < tuple(int(part) for part in oldest.split(".")):
        found = "%d.%d" % tuple(sys.version_info[:2])
        return "celeba_nb needs Python %s or newer, and this is %s: try make PYTHON=python%s" % (oldest, found, oldest)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "this Python has no venv module: install it (on Debian and Ubuntu: apt install python3-venv)"


if __name__ == "__main__":
    print(problem(sys.argv[1]) or "")
