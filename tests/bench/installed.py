"""The command as it is installed: a virtual environment of its own with a compiled copy of this checkout.

An editable install would add its import hook to every start, and a colleague's edit could change a figure
between two rounds. The third-party packages are those of the interpreter that runs the benchmark.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_SCRIPT = """#!{python}
import sys
from ocisync.__main__ import main
if __name__ == '__main__':
    sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """The interpreter and the command."""

    python: Path
    ocisync: Path


def install(directory: Path) -> Installed:
    """Makes the environment."""
    home = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=300)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    shutil.copytree(CHECKOUT / "ocisync", packages / "ocisync", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(packages, quiet=1)
    # A plain path line: hooks of packages over there are not run.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script = home / "bin" / "ocisync"
    script.write_text(_SCRIPT.format(python=home / "bin" / "python"))
    script.chmod(0o755)
    return Installed(home / "bin" / "python", script)
