"""The site: `pip install ".[docs]" && sphinx-build -W --keep-going docs site`."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import softline

project = "softline"
author = "the softline developers"
copyright = author
version = release = softline.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxarg.ext",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = True  # a name that leads nowhere is a warning
default_role = "literal"  # `alpha` in a docstring is a name
smartquotes = False  # "sgd" is to be copied, and so is --epochs

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc has them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Docstrings are held to numpydoc's rules, but for
numpydoc_validation_checks = {
    "all",
    "ES01",  # a sentence may be all there is to say,
    "SA01",  # without anything to see also,
    "EX01",  # or an example;
    "PR07",  # names and types may say it all: `fit_intercept : bool, default=True`,
    "PR08",  # a description begin with a name: "float32, float64, ... are read",
    "RT02",  # results have names,
    "RT03",  # and need no description where it is `self`;
    "SS02",  # a summary begin with a formula, or "scikit-learn",
    "SS05",  # or a noun that ends in s: "Probabilities of the classes.";
    "GL08",  # and a method inherit its docstring from the one that it overrides.
}
numpydoc_validation_exclude = {
    r"^softline\.reference\.",  # what arguments they have in common is said once, at the top
    r"^softline\.cs231n\.",  # the course's functions, some described in a sentence
    r"^softline\.callbacks\.(Batch|Epoch)$",  # records: their fields are their attributes
    r"^softline\.datasets\.(Dataset|Features|Look|Preparation)\b",
    r"^softline\.gradient_check\.GradientCheck$",
    r"^softline\.plots\.ConfusionMatrixDisplay",  # scikit-learn's parameters
    r"^softline\.datasets\.SealedTestSet$",  # made by `sealed`
}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"softline {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"  # prompts and what was printed


def visit_math(self, node):
    """Formulas as MathML, which browsers draw themselves: no script, no network."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def link_to_sklearn(app, env, node, text):
    """What docstrings say of scikit-learn's classes leads to its site."""
    name = node["reftarget"]
    if name.startswith("sklearn."):
        uri = f"https://scikit-learn.org/stable/modules/generated/{name}.html"
        return nodes.reference("", "", text, internal=False, refuri=uri)


def skip_member(app, what, name, obj, skip, options):
    """What estimators inherit from scikit-learn has its pages there; fields of a tuple are its attributes."""
    inherited = (getattr(obj, "__module__", None) or "").startswith("sklearn.")
    field = (getattr(obj, "__doc__", None) or "").startswith("Alias for field")
    return inherited or field or skip


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("missing-reference", link_to_sklearn)
    app.connect("autodoc-skip-member", skip_member)
