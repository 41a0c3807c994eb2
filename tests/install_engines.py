"""Installs engines before anything is measured: `python -m tests.install_engines NAME ...`."""

import sys

import engines
from harness.launch.install import ensure_installed
from harness.paths import cache_folder

for name in sys.argv[1:]:
    engine = engines.load()[name]
    print(ensure_installed(engine, "cpu", engine.tested_on("cpu"), cache_folder(), print))
