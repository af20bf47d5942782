"""How Sphinx makes the site from the pages that tools/docs.py lays out for it (make docs)."""
import functools
import re
import sys
import tomllib
from configparser import ConfigParser
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from PIL import Image
from pygments.formatters import HtmlFormatter
from sphinx.highlighting import PygmentsBridge
from sphinx.search.en import SearchEnglish

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import celeba_nb  # noqa: E402
from tools.logo import write_pictures  # noqa: E402

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
html_js_files = [("site.js", {"defer": "defer"})]
html_domain_indices = False
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_scaled_image_link = False  # site.js opens a picture at its own size
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
    tree = re.sub(r">\s+<", "><", tex2mathml(node.astext(), as_block=block))
    self.body.append(f'<div class="math">{tree}</div>' if block else tree)
    raise nodes.SkipNode


class Lines(HtmlFormatter):
    "Code with an element for each line, so that a long one continues below itself, further in."

    def wrap(self, source):
        lines = [(number, text, re.sub(r"<[^>]+>", "", text)) for number, text in source]
        columns = sum(bool(re.search(r"\S {2,}\S", plain)) for _, _, plain in lines) > 1  # a printed table: it scrolls
        return super().wrap((number, self.line(text, plain, columns) if number else text) for number, text, plain in lines)

    def line(self, text, plain, columns):
        indent = len(plain) - len(plain.lstrip(" "))
        text = re.sub(r'<span class="[nopw]">([^<]*)</span>', r"\1", text)  # these need no colour: half of the page
        text = re.sub(r"(?<=[ >])--[a-z][\w-]*", r'<span class="whole">\g<0></span>', text)  # an option stays in one piece
        text = re.sub(r'(?<=<span class="c1">)# \S+(?=[ <])', r'<span class="whole">\g<0></span>', text)  # no "#" at an end
        if max(map(len, plain.split()), default=0) > 30:  # on a phone it may break after a parenthesis or before a dot
            text = re.sub(r"(?<=[\w>]\()(?=[^)\s])|(?<=[\w)\]>])(?=\.[a-z_])", "<wbr>", text)
        return f'<span class="line{" column" * columns}" style="--indent:{indent}">{text}</span>'


def described(context, doctree):
    "What other sites and searches show of a page: the first paragraph in words, and the pictures of tools/logo.py."
    first = next(doctree.findall(nodes.paragraph), None) if doctree else None
    text = escape(" ".join((first.astext() if first else metadata["DEFAULT"]["description"]).split()), quote=True)
    address, title = f"{html_baseurl}{context['pagename']}.html", escape(context.get("title") or project, quote=True)
    given = {"og:title": title, "og:description": text, "og:type": "website", "og:site_name": project, "og:url": address,
             "og:image": f"{html_baseurl}_static/preview.png", "og:image:alt": f"{project}: sixteen drawn faces"}
    lines = [f'<link rel="icon" href="{context["pathto"]("_static/logo.png", 1)}" type="image/png">',
             f'<meta name="description" content="{text}">', '<meta name="twitter:card" content="summary_large_image">',
             *(f'<meta property="{key}" content="{value}">' for key, value in given.items())]
    return "\n".join(lines)


def with_sizes(body, images, folder):
    "A page whose pictures say how large they are, so that nothing moves when one arrives."
    files = {name: Path(folder, path) for path, name in images.items()}

    def size(found):
        file = files[found[1]]
        if file.suffix != ".svg":
            with Image.open(file) as image:
                return found[0] + ' width="{}" height="{}"'.format(*image.size)
        drawn = re.search(r' width="\d+" height="\d+"', file.read_text(encoding="utf-8"))  # ours; matplotlib's has points
        return found[0] + (drawn[0] if drawn else "")

    return re.sub(r'<img (?![^>]*width=)[^>]*src="[^"]*_images/([^"]+)"', size, body)


def module_entry(name, found):
    "An entry of the index; that of a module leads to its page."
    links, below, key = found
    alone = not links and [word for word, _ in below] == ["module"]
    return (f"{name} (module)", (below[0][1], [], key)) if alone else (name, found)


def finish(app, pagename, templatename, context, doctree):
    "The home page is README.md; the captions of the sidebar are headings, and a heading has a level."
    if pagename == "index":
        context["theme_source_view_link"] = f"{repository}/README.md"
    if pagename == "genindex":  # a module is an entry, not a heading above the word "module"
        context["genindexentries"] = [(letter, [module_entry(*entry) for entry in entries])
                                      for letter, entries in context["genindexentries"]]
    captions = context["furo_navigation_tree"]
    context["furo_navigation_tree"] = captions.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        body = re.sub(r'<span class="pre">(?=[^<]{1,30}<)(?=[^<]*-)', '<span class="pre whole">', context["body"])
        formula = "<math(?:(?!</math>).)*</math>"  # with what follows or precedes it without a space
        body = re.sub(rf"\({formula}[,.;:)]*|{formula}[,.;:)]+", r'<span class="whole">\g<0></span>', body)
        context["body"] = with_sizes(body, app.builder.images, app.srcdir)
    for sign, files in (("sd-", "design"), ("cell docutils", "mystnb")):
        if sign not in context.get("body", ""):  # no cards, no cells: without the files that lay them out
            for kind in ("css_files", "script_files"):
                context[kind] = [file for file in context[kind] if files not in str(file.filename)]
    context["metatags"] = context.get("metatags", "") + described(context, doctree)


def add_pictures(app, error):
    if not error and app.builder.name == "html":
        write_pictures(Path(app.outdir) / "_static")


def setup(app):
    PygmentsBridge.html_formatter = Lines
    SearchEnglish.stem = functools.cache(SearchEnglish.stem)  # most words stand on several pages
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
    app.connect("html-page-context", finish, priority=900)  # after the theme
    app.connect("build-finished", add_pictures)
