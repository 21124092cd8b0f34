"""The programs in the documents run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT, Start

pytest.importorskip("numpy")


@pytest.mark.parametrize("page", ["python/README.md", "docs/interop.md"])
def test_first_program_prints_frames(start: Start, path: str, page: str) -> None:
    program = (ROOT / page).read_text().split("```python\n")[1].split("```")[0]
    assert "/run/camera/socket" in program
    child = start("--fps", "50")
    program = program.replace("/run/camera/socket", path)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout and run.stderr
        lines = [run.stdout.readline() for _ in range(3)]
        child.terminate()
        rest, errors = run.communicate(timeout=20)
    assert run.returncode == 0 and not errors, errors
    assert all("NV12 64x48" in line for line in lines), lines
