"""Nobody adds a call to the package that would run what a file holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "bench"

PICKLE = "bench/untrusted/pickles.py"
"""The one reader of pickles: it knows the names of an array and no others."""
MODULES = {
    "pickle": {PICKLE, "bench/untrusted/weights.py"},  # the latter for its exception
    # git, without a shell, for a baseline of a revision
    "subprocess": {"bench/check/source.py"},
    "tarfile": {"bench/untrusted/archives.py", "bench/data/fetch.py"},  # the latter likewise
    "xml": {"bench/check/formats.py"},  # which only writes
    # the last reads what it has just written to memory
    "zipfile": {PICKLE, "bench/untrusted/archives.py", "bench/models/network_hash.py"},
}
"""Modules that can run what they read, or write where an archive says, and who may import them."""
NOBODYS = {
    *("cPickle", "cloudpickle", "codeop", "dill", "joblib", "jsonpickle", "marshal", "pty"),
    *("runpy", "shelve", "xmlrpc"),
}
CALLS = {
    *("eval", "exec", "compile", "__import__", "breakpoint"),
    *("os.system", "os.popen", "os.startfile", "os.execv", "os.execvp", "os.spawnv"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all"),
    *("pickle.load", "pickle.loads", "torch.hub.load", "pd.read_pickle", "pandas.read_pickle"),
    *(
        "torch.jit.load",
        "torch.package.PackageImporter",
        "shutil.unpack_archive",
        "tempfile.mktemp",
    ),
    *("np.fromregex", "jinja2.Template", "ast.literal_eval"),
}
METHODS = {"extractall", "extract", "read_pickle", "from_string"}
READERS = {"torch.load", "np.load", "numpy.load", "Image.open", "load_file"}
"""Calls that read a file of strangers: they stand in one folder, where docs/security.md points."""
OUTSIDE = {
    "bench/core/weight_sketch.py",  # safetensors without torch
    "bench/report/draw/matrix.py",  # decodes the pictures that it has drawn, or that were checked
    "bench/selftest/file_cases.py",  # changes a file that it has just written
}
LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}
IMPORTERS = {
    "bench/__init__.py",
    "bench/attacks/adapters/signatures.py",
    "bench/attacks/registry.py",
    "bench/core/registry.py",
    "tools/speed/contenders/base.py",
    "bench/models/external/from_python.py",
    "bench/norms/build.py",
}
"""Who may import a module by its name: from lists in the package, of an installed plugin, or under
--trust-code."""
AUTOESCAPE_OFF = {"bench/report/render.py"}
"""Markdown and LaTeX have filters of their own, which their templates call by name."""


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_constant(call: ast.Call, name: str, value: object) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return len(given) == 1 and isinstance(given[0], ast.Constant) and given[0].value is value


def faults(text: str, where: str) -> Iterator[str]:
    """Yields what must not be in a module."""
    for node in ast.walk(ast.parse(text)):
        at = f"{where}:{getattr(node, 'lineno', 0)}: "
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            roots = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            for root in (name.partition(".")[0] for name in roots):
                if root in NOBODYS or where not in MODULES.get(root, {where}):
                    yield f"{at}import of {root}"
            if isinstance(node, ast.ImportFrom):
                for name in names:
                    full = f"{node.module}.{name}"
                    hidden = ("torch.load", "numpy.load", "yaml.load", "os.system", "pickle.load")
                    if full.startswith(hidden):
                        yield f"{at}call it by its module: {full}"
        elif isinstance(node, ast.Attribute) and node.attr in LOADERS:
            yield f"{at}unsafe loader {dotted(node)}"
        elif isinstance(node, ast.Call):
            yield from (at + fault for fault in call_faults(node, where))


def call_faults(call: ast.Call, where: str) -> Iterator[str]:
    name = dotted(call.func)
    last = name.rpartition(".")[2]
    if name in CALLS or (isinstance(call.func, ast.Attribute) and last in METHODS):
        yield f"call of {name or last}"
    if name == "torch.load" and not is_constant(call, "weights_only", True):
        yield "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and not is_constant(call, "allow_pickle", False):
        yield "np.load without allow_pickle=False"
    if any(keyword.arg == "shell" for keyword in call.keywords):
        yield "a shell"
    named = call.args[:1] and isinstance(call.args[0], ast.Constant)
    by_name = last in ("import_module", "spec_from_file_location") and not named
    if by_name and where not in IMPORTERS:
        yield "import of a module by a name that may come from a file"
    if last == "Environment":
        off = is_constant(call, "autoescape", False) and where in AUTOESCAPE_OFF
        if not (off or is_constant(call, "autoescape", True)):
            yield "templates that escape nothing"
    inside = where.startswith("bench/untrusted/") or where in OUTSIDE
    if name in READERS and not inside:
        yield f"call of {name} outside bench/untrusted"
    if last == "Unpickler" and where != PICKLE:
        yield "an unpickler"
    if name.endswith("Image.open") and not any(k.arg == "formats" for k in call.keywords):
        yield "a picture of any format, among them PostScript"


@pytest.mark.process
def test_the_package_runs_nothing_that_a_file_holds() -> None:
    found = [
        fault
        for path in sorted(PACKAGE.rglob("*.py"))
        for fault in faults(path.read_text(), path.relative_to(PACKAGE.parent).as_posix())
    ]
    assert not found


def test_no_template_turns_escaping_off() -> None:
    for path in sorted(PACKAGE.rglob("*.j2")):
        text = path.read_text()
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, path


def test_every_word_of_a_template_that_is_not_html_goes_through_a_filter() -> None:
    """Markdown and LaTeX templates escape by name; what they show bare is made by the renderer."""
    made = {
        "report.md.j2": {"stem", "table", "caption", "alt(figure)", "sup((mark,)).strip()"},
        "report.tex.j2": {
            *("stem", "kind", "cell(cell_)", "sup(column.marks)", "sup((mark,))"),
            "numbered(name, loop.index0)",
        },
        "paper.tex.j2": {"environment", "name", "alignment", "heading", "line", "mark"},
        "index.md.j2": {"claims", "runs", "others"},
    }
    for path in sorted(PACKAGE.rglob("*.j2")):
        if path.name == "page.html.j2":
            continue
        opening, closing = ("<<", ">>") if path.name.endswith("tex.j2") else ("{{", "}}")
        for part in path.read_text().split(opening)[1:]:
            shown = part.partition(closing)[0].strip()
            own = '"' in shown and not shown.startswith("e(")  # words of the template's own
            assert own or shown.startswith("e(") or shown in made[path.name], (path.name, shown)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "import torch\ntorch.load(p, weights_only=flag)",
        "from torch import load",
        "import numpy as np\nnp.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import pickle",
        "from pickle import loads",
        "import yaml\nyaml.load(t, Loader=yaml.FullLoader)",
        "import yaml\nyaml.unsafe_load(t)",
        "import yaml\nx = yaml.UnsafeLoader",
        "eval('1')",
        "exec(text)",
        "import os\nos.system('id')",
        "import subprocess",
        "run('id', shell=True)",
        "import tarfile",
        "archive.extractall(folder)",
        "import jinja2\njinja2.Environment()",
        "import jinja2\njinja2.Environment(autoescape=False)",
        "import importlib\nimportlib.import_module(name)",
        "from PIL import Image\nImage.open(path)",
        "import marshal",
        "import pandas as pd\npd.read_pickle(p)",
    ],
)
def test_the_audit_sees_what_it_looks_for(text: str) -> None:
    assert list(faults(text, "bench/new.py"))
