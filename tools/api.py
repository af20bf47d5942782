"""Sphinx extension: autodoc reads docments, and names and terms of the course are links wherever they stand (docs/conf.py).

A docment is the comment beside a parameter. Here the parameters with their docments become a folded table below what autodoc
shows of a name, and the source follows, folded.
"""
import ast
import functools
import importlib
import inspect
import re
import textwrap
from dataclasses import field, is_dataclass, make_dataclass
from itertools import takewhile

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from tools.notebooks import PACKAGE, ROOT, module_of, modules, name_of, read, source

EMPTY = inspect.Parameter.empty
GLOSSARY = "docs/glossary"
LONGEST = 100  # of a constant's value that is shown
source_of = functools.cache(inspect.getsource)  # it reads a file's tokens each time


def described(thing):
    "What docments can read: of a NamedTuple, whose constructor has no fields, a dataclass at the same place in the source."
    if not (inspect.isclass(thing) and hasattr(thing, "_field_defaults")):
        return thing
    fields = [(name, kind, field(**{"default": thing._field_defaults[name]} if name in thing._field_defaults else {}))
              for name, kind in thing.__annotations__.items()]
    return make_dataclass(thing.__name__, fields, namespace={"__module__": thing.__module__})


@functools.cache
def parameters(thing):
    "A function's or class's parameters as docments finds them, with inherited fields and the help of options and fields."
    from fastcore.docments import ann_parts, docments

    found = docments(described(thing), full=True, args_kwargs=True)
    for base in inspect.getmro(thing)[1:-1] if inspect.isclass(thing) else ():
        for name, inherited in (docments(base, full=True) if is_dataclass(base) else {}).items():
            if name in found and not found[name].docment:
                found[name] = inherited
    fields = getattr(thing, "__pydantic_fields__", {})
    for name, entry in found.items():
        helps = [part.help for part in ann_parts(entry.anno)[1] if getattr(part, "help", None)]
        helps += [fields[name].description] if name in fields else []
        entry.anno, entry.docment = ann_parts(entry.anno)[0], entry.docment or " ".join(filter(None, helps))
    return {name: entry for name, entry in found.items() if entry.docment}


def shown(value):
    "A type by its name, an object by its class: as one writes it after `:` or `=`."
    text = value if isinstance(value, str) else getattr(value, "__name__", None) or str(value)
    text = re.sub(r"<(?:[\w.]+\.)?(\w+) object at 0x\w+>", r"\1()", text).replace("<factory>", "{}")
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text)


def as_written(name, entry):
    "A parameter with its type and default, as in the source."
    default = repr(entry.default) if isinstance(entry.default, str) else shown(entry.default)
    kind = "" if entry.anno is EMPTY else shown(entry.anno)
    if name == "return":
        return f"returns {kind}".strip()
    return name + (f": {kind}" if kind else "") + ("" if entry.default is EMPTY else f" = {default}")


def rst(text):
    "A docstring's or comment's names between single backticks, as reStructuredText has them."
    return re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", text.replace("\\", "\\\\").replace("*", "\\*"))


def fold(title, body):
    "A part that the reader opens."
    html = ["", ".. raw:: html", ""]
    return [*html, f"   <details><summary>{title}</summary>", "", *body, *html, "   </details>", ""]


def function_of(thing):
    "The function of a method, a property, or whatever wraps one."
    inner = getattr(thing, "func", None) or getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
    return inspect.unwrap(inner) if callable(inner) else inner


def signature(thing):
    "A function's parameters by name; types and defaults stand in the table."
    names = [str(p.replace(annotation=EMPTY, default=EMPTY)) for p in inspect.signature(thing).parameters.values()]
    return f"({', '.join(name for name in names if name != 'self')})"


def show_signature(app, what, name, thing, options, given, returned):
    return (signature(function_of(thing)), None) if what in ("class", "function", "method") else None


def comment(node, lines):
    "What the source says of an assignment: beside its value, or above it."
    beside = [line.partition("  # ")[2] for line in (lines[node.end_lineno - 1], lines[node.lineno - 1])]
    above = [*takewhile(lambda line: re.match("# (?!%)", line), reversed(lines[: node.lineno - 1]))]
    words = [*beside, " ".join(line.removeprefix("# ") for line in reversed(above))]
    return next((each for each in words if each and each != "fmt: skip"), "")


@functools.cache
def constants(module):
    "A module's constants: name -> the comment in the source, or an option's help; the value, as in the source."
    text, found = source_of(module), {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            several = isinstance(target, ast.Tuple)
            for name, part in zip(target.elts if several else [target], value.elts if several else [value]):
                name = ast.unparse(name)
                helps = [getattr(part, "help", "") for part in getattr(getattr(module, name, None), "__metadata__", [])]
                found[name] = comment(node, text.splitlines()) or "".join(helps), ast.get_source_segment(text, part)
    return found


def show_constant(module, name, indent=""):
    "What a constant is, and its value; a long one is folded, and of one without a comment its beginning is shown."
    words, value = constants(module)[name]
    short = re.sub(r"\. .*", " …", textwrap.shorten(value, LONGEST, placeholder=" …"))  # autosummary would cut after a sentence
    short = f"``{short}``"
    lines = [rst(words[0].upper() + words[1:].rstrip(".")) + "." if words else short, ""]
    if len(value) > LONGEST:
        lines += fold(f"Source of {name}", [".. code-block:: python", "", textwrap.indent(f"{name} = {value}", "   ")])
    elif words:
        lines += [short, ""]
    return textwrap.indent("\n".join(lines), indent).splitlines()


def show_module(name):
    "The module's first line, its notebook, its names with a line each, and the constants, which autodoc leaves out."
    module = importlib.import_module(name)
    page = name_of(modules()[name.removeprefix(f"{PACKAGE}.")])
    public = [name for name in module.__all__ if not name.startswith("_")]
    data = [name for name in public if not (inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value))]
    return [rst(module.__doc__.splitlines()[0]), "", f"Built and tested in :doc:`/nbs/{page}`.", "", ".. autosummary::", "",
            *(f"   {name}" for name in public), "",
            *(line for name in data for line in (f".. py:data:: {name}", "", *show_constant(module, name, "   ")))]


def show(app, what, name, thing, options, lines):
    "What autodoc writes below a name (event autodoc-process-docstring)."
    lines[:] = [rst(line) for line in lines]
    if what == "module":
        lines[:] = show_module(name)
    elif what in ("data", "attribute"):
        package, module, constant = name.split(".")
        lines[:] = show_constant(importlib.import_module(f"{package}.{module}"), constant)[:1]
    elif what != "property":
        function = thing if inspect.isclass(thing) else function_of(thing)
        known = parameters(function) if what != "exception" else {}
        rows = [row for key, entry in known.items()
                for row in (f"   * - ``{as_written(key, entry)}``", f"     - {rst(' '.join(entry.docment.split()))}")]
        if rows:
            lines += fold("Result" if [*known] == ["return"] else "Parameters", [".. list-table::", "", *rows])
        if what != "method" or is_patched(function):
            source = textwrap.dedent(source_of(function))
            lines += fold(f"Source of {name.split('.', 2)[-1]}", [".. code-block:: python", "", textwrap.indent(source, "   ")])
            lines[:] = "\n".join(lines).splitlines()


def is_patched(method):
    "Does a method stand outside its class, as those that grow it by @patch?"
    return source_of(method).startswith("@patch")


def skip(app, owner, name, thing, skipped, options):
    "Of a class, its public methods and properties; the fields are among its parameters."
    method = inspect.isroutine(thing) or isinstance(thing, property) or hasattr(thing, "func")
    return True if owner == "class" and not method else None


def words_of(page):
    "The names that a lesson's own code has from the package: a plain word in its prose, such as `expand`, may be another's."
    if not page.startswith("nbs/"):
        return None
    nb = read(ROOT / f"{page}.ipynb")
    text = "\n".join(source(cell) for cell in nb["cells"] if cell["cell_type"] == "code")
    own = importlib.import_module(f"{PACKAGE}.{module_of(nb)}").__all__ if module_of(nb) else []
    return {*own, *re.findall(r"\w+", " ".join(re.findall(rf"^ *from {PACKAGE}\S* import (\([^)]*\)|.*)", text, re.M)))}


class LinkNames(SphinxPostTransform):
    "A name of the package in the prose leads to its documentation; one that two modules have leads nowhere."

    default_priority = 5

    def run(self):
        found, words = {}, words_of(self.env.docname)
        for name, entry in self.env.domains.python_domain.objects.items():
            for short in {name, name.split(".", 2)[-1]}:
                found[short] = None if short in found else (name, entry)
        for node in list(self.document.findall(nodes.literal)):
            text = node.astext().removesuffix("()").removeprefix(f"{PACKAGE}.")
            entry = found.get(text) or found.get(f"{PACKAGE}.{text}")
            word = words is not None and re.fullmatch("[a-z]+", text) and text not in words
            if entry and not word and not isinstance(node.parent, (nodes.reference, addnodes.pending_xref)):
                name, (page, anchor, *_) = entry
                node.replace_self(make_refnode(self.app.builder, self.env.docname, page, anchor, node.deepcopy(), name))


def terms(document):
    "The glossary's entries: the anchor, the words for it, the text."
    for place in document.findall(nodes.inline):
        if place["ids"] and isinstance(place.parent, nodes.paragraph):
            words = [word for word in re.split(r", | \(|\)", place.astext()) if word]
            text = place.parent.astext().split(": ", 1)[1]
            yield place["ids"][0], words, re.sub(r" \([\w, ]+\)(?=[.;]|$)", "", text)  # not the lessons that it names


class IndexTerms(SphinxTransform):
    "Each word of the glossary is in the index, and so in the search."

    default_priority = 500

    def apply(self):
        if self.env.docname == GLOSSARY:
            self.env.glossary = {anchor: text for anchor, _, text in terms(self.document)}
            entries = [("single", word, anchor, "main", None) for anchor, words, _ in terms(self.document) for word in words]
            self.document.insert(0, addnodes.index(entries=entries))


def explain_terms(app, document, page):
    "A link to a term has the term's text as its title: shown on hover, and by site.js on focus (event doctree-resolved)."
    for link in document.findall(nodes.reference):
        _, found, anchor = link.get("refuri", "").partition("glossary.html#")
        if found and page != GLOSSARY:
            link["reftitle"] = app.env.glossary[anchor]


def load_lazily(app, document, page):
    "Pictures are loaded when the reader comes near them, but for the home page's first (event doctree-resolved)."
    for picture in list(document.findall(nodes.image))[page == "index" :]:
        picture["loading"] = "lazy"


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.autosummary")
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-process-docstring", show)
    app.connect("autodoc-skip-member", skip)
    app.connect("doctree-resolved", explain_terms)
    app.connect("doctree-resolved", load_lazily)
    app.add_post_transform(LinkNames)
    app.add_transform(IndexTerms)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
