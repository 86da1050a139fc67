"""What is generated from the code is what the code would generate now."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

CHECK = """
import sys
sys.path.insert(0, "scripts")
from reference import generated
stale = [path.name for path, text in generated().items() if path.read_text(encoding="utf-8") != text]
print(" ".join(stale))
"""


def test_generated_files_are_current():
    done = subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.split(), "run: make reference"
