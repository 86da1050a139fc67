"""A virtual environment for each peer, made on first use: peers need packages that do not go together.

``NAME.txt`` beside this file pins every package of an environment; it is made by
``uv pip compile --python-version 3.11``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

REQUIREMENTS = Path(__file__).parent
ENVIRONMENTS = Path(__file__).parents[2] / ".peers"


def python_of(name: str) -> Path:
    """The Python of a peer's environment; makes the environment when it is not there or not that of ``NAME.txt``.

    Args:
        name: of the requirement file, without its ending.

    Raises:
        FileNotFoundError: no such requirement file.
        subprocess.CalledProcessError: the packages could not be installed.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    wanted = sha256(requirements.read_bytes()).hexdigest()
    home = ENVIRONMENTS / name
    python, mark = home / "bin" / "python", home / "requirements.sha256"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != wanted:
        print(f"Making {home} (once; several minutes and gigabytes) …", file=sys.stderr, flush=True)
        shutil.rmtree(home, ignore_errors=True)
        ENVIRONMENTS.mkdir(exist_ok=True)
        (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
        uv = Path(sys.executable).with_name("uv")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run([uv, "venv", "--quiet", "--python", version, home], check=True)  # noqa: S603
        install = ["pip", "install", "--quiet", "--python", str(python), "--requirement", str(requirements)]
        subprocess.run([uv, *install], check=True)  # noqa: S603
        mark.write_text(wanted, encoding="utf-8")
    return python
