"The browser that tests and tools look with."
import importlib.util
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "" if CHROMIUM and importlib.util.find_spec("playwright") else (
    "no browser to look with: make .venv/ready-dev, and on Debian apt-get install chromium")
