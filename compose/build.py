"""Builds the images of engines that install natively: `make images [ENGINES=a,b]`.

Prints the lines that make the compose files use them; progress goes to standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

import engines
from harness.errors import DONE, INTERRUPTED, HarnessError, unknown
from harness.launch.compose import image_variable
from harness.launch.images import build_image
from harness.paths import cache_folder
from harness.progress import Display


def main(names: Sequence[str]) -> int:
    """Builds the images of `names`, or all that run on a CPU; returns the exit status."""
    known = engines.load()
    names = names or [e.name for e in known.values() if e.native.install and "cpu" in e.containers]
    try:
        for name in names:
            if name not in known:
                raise unknown("engine", name, known)
        with Display(Console(stderr=True)) as display:
            for name in names:
                tag = build_image(known[name], cache_folder(), display.say)
                display.keep(f"{known[name].title}: {tag}")
                print(f"export {image_variable(known[name])}={tag}", flush=True)
    except HarnessError as problem:
        print(f"images: {problem}", file=sys.stderr)
        return problem.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]).replace(",", " ").split()))
