"""Executes the notebooks on a comparison and writes each as one HTML page that needs nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from harness.errors import HarnessError
from harness.judge.comparison import stored_comparison
from harness.records.campaign import read_campaign

HERE = Path(__file__).resolve().parent
SAMPLE = HERE / "sample"
CELL_DEADLINE_S = 300
FAILED, BAD_FOLDER = 1, 2


class CellFailed(Exception):
    """One line: which notebook, which cell, what."""


class ThisInterpreter(KernelSpecManager):
    """The one kernel there is: the Python that runs this file. A kernel of the same name that was installed
    into someone's home could have other packages, and would compute with another harness."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=make_ipkernel_cmd(extra_arguments=["--log-level=ERROR"]), display_name=kernel_name, language="python"
        )


def execute(path: Path, results: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run from its own folder. Raises CellFailed at the first cell that fails;
    cells are counted from the top of the notebook, text cells too."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    # The kernel keeps a profile, a history and its keys: none of it belongs into the user's home.
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(IPYTHONDIR=scratch, JUPYTER_RUNTIME_DIR=scratch)
        environment = {**os.environ, "RESULTS": str(results), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=ThisInterpreter(),
            connection_file=str(Path(scratch, "kernel.json")),
        )
        client = NotebookClient(notebook, km=kernel, timeout=CELL_DEADLINE_S)
        # A kernel that the client did not make itself it would leave running.
        # What goes wrong in a cell comes back by message; on its standard error a kernel that is shut down while
        # it answers prints a traceback of its own sockets.
        quiet = {"stderr": subprocess.DEVNULL}
        with client.setup_kernel(cleanup_kc=True, env=environment, cwd=str(HERE), **quiet):
            for number, cell in enumerate(notebook.cells, start=1):
                try:
                    client.execute_cell(cell, number - 1)
                except CellExecutionError as error:
                    what = f"{error.ename}: {_first_line(error.evalue)}"
                    raise CellFailed(f"{path.name}, cell {number}: {what}") from None
                except (CellControlSignal, DeadKernelError) as error:
                    raise CellFailed(f"{path.name}, cell {number}: {_first_line(str(error))}") from None
    return notebook


def _first_line(text: str) -> str:
    # IPython colours what it says of an error, even where nobody sees colours.
    return next(iter(re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()), "no message")


def page(notebook: nbformat.NotebookNode) -> str:
    """One HTML page by page.html.j2. Code is folded but for cells tagged `formula`; cells tagged `prose` show
    only what they say."""
    lines = (line for cell in notebook.cells for line in cell.source.splitlines())
    resources = {
        "title": next((line[2:] for line in lines if line.startswith("# ")), "Notebook"),
        "highlight_style": HtmlFormatter().get_style_defs(".highlight"),
    }
    exporter = HTMLExporter(template_file=str(HERE / "page.html.j2"), exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    return str(body)


def write(path: Path, text: str) -> None:
    """The whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def why_not(results: Path) -> str | None:
    """Why no notebook can read this folder; null where it can."""
    try:
        read_campaign(results)
        stored_comparison(results)
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = Path(error.filename).name
        return f"{results}: not a finished comparison: there is no {missing}. `make compare` writes such a folder."
    except HarnessError as error:
        return str(error)
    return None


def main(arguments: list[str]) -> int:
    """Exit status: 0 every page is written, 1 a cell failed, 2 the folder is no comparison."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: python notebooks/export.py [RESULTS_DIR]", file=sys.stderr)
        return BAD_FOLDER
    results = Path(arguments[0]).resolve() if arguments else SAMPLE
    # The sample is committed: a page written into it would be committed as well.
    target = Path("results/notebooks") if results == SAMPLE else results / "notebooks"
    if reason := why_not(results):
        print(reason, file=sys.stderr)
        return BAD_FOLDER
    for path in sorted(HERE.glob("*.ipynb")):
        try:
            text = page(execute(path, results))
        except CellFailed as failure:
            print(failure, file=sys.stderr)
            return FAILED
        written = target / f"{path.stem}.html"
        write(written, text)
        print(f"page    {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
