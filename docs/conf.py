"""How the documentation is built: ``make docs``."""

import re
import warnings

import matplotlib
from sphinx_gallery.scrapers import figure_rst
from sphinx_gallery.sorting import FileNameSortKey

import mixtura

matplotlib.use("agg")
warnings.filterwarnings("ignore", category=UserWarning, module="matplotlib")

project = "Mixtura"
author = "The Mixtura developers"
project_copyright = "The Mixtura developers"
version = release = mixtura.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
templates_path = ["_templates"]
autodoc_typehints = "none"
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


def displays(block, block_vars, gallery_conf):
    """Save the figures of our displays, which are not pyplot's."""
    paths = []
    for value in list(block_vars["example_globals"].values()):
        figure = getattr(value, "figure_", None)
        if figure is not None and not getattr(figure, "_saved", False):
            path = next(block_vars["image_path_iterator"])
            figure.savefig(path, dpi=100)
            figure._saved = True
            paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])


sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": FileNameSortKey,
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib", displays),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 5,
    "plot_gallery": "True",
    "download_all_examples": False,
    "show_signature": False,
}


def of_the_repository(app, name, source):
    """Links to files of the repository, which its readers need, lead to pages here, or become names."""
    text = source[0].replace("(../ARCHITECTURE.md)", "(architecture.md)")
    source[0] = re.sub(r"\[`?([^\]`]+)`?\]\(\.\./[^)]+\)", r"`\1`", text)


def setup(app):
    """Connect what is above."""
    app.connect("source-read", of_the_repository)


html_theme = "pydata_sphinx_theme"
html_title = "Mixtura"
html_static_path = ["_static"]
html_css_files = ["mixtura.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
