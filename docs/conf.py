"""How Sphinx makes the site from the pages that tools/docs.py lays out for it (make docs)."""
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import celeba_nb  # noqa: E402

metadata = ConfigParser(delimiters=["="], interpolation=None)
metadata.read(ROOT / "settings.ini", encoding="utf-8")
package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
repository = f"{package['project']['urls']['Repository']}/blob/{package['tool']['nbdev']['branch']}"

project = package["project"]["name"]
author = metadata["DEFAULT"]["author"]
release = celeba_nb.__version__
copyright = f"{author}. Code under {metadata['DEFAULT']['license']}"

extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design", "tools.api"]
nb_execution_mode = "off"  # the outputs are those of `make outputs`
nb_merge_streams = True
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4
smartquotes_action = "q"  # no dashes: --root stays what one types
nitpicky = True  # a name without a definition is a warning, and warnings are errors
nitpick_ignore_regex = [("py:class", ".*")]  # the types in a signature belong to Python and PyTorch

html_theme = "furo"
html_title = f"{project} {release}"
html_short_title = project
html_baseurl = package["project"]["urls"]["Documentation"].rstrip("/") + "/"
html_static_path = [str(ROOT / "docs" / "_static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
icon = "<rect width='1' height='2' fill='%232a5adf'/>"
html_favicon = f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 2 2'>{icon}</svg>"
html_domain_indices = False
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {"source_view_link": f"{repository}/{{filename}}"}
add_module_names = False
autodoc_default_options = {"undoc-members": True, "member-order": "bysource", "no-value": True}
autodoc_inherit_docstrings = False
autosummary_generate = False
python_display_short_literal_types = True
toc_object_entries = False  # a page's list of contents has headings only; the names are in the index and the search


def mathml(self, node):
    "A formula as MathML, which browsers draw themselves: no script, no network, and screen readers know it."
    block = isinstance(node, nodes.math_block)
    tree = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{tree}</div>' if block else tree)
    raise nodes.SkipNode


def finish(app, pagename, templatename, context, doctree):
    "The home page is README.md; the captions of the sidebar are headings, and a heading has a level."
    if pagename == "index":
        context["theme_source_view_link"] = f"{repository}/README.md"
    captions = context["furo_navigation_tree"]
    context["furo_navigation_tree"] = captions.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
    app.connect("html-page-context", finish, priority=900)  # after the theme
