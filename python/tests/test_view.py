"""The program framelease.view."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VIEW = [sys.executable, "-m", "framelease.view"]


def test_view_prints_hashes(publisher: str) -> None:
    command = [*VIEW, "--socket", publisher, "--hash", "--frames", "3"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n")
    assert len(lines) == 4 and all(len(line.split(" ")[1]) == 8 for line in lines[:3])


def test_view_saves_a_png(publisher: str, tmp_path: Path) -> None:
    file = tmp_path / "view.png"
    subprocess.run([*VIEW, "--socket", publisher, "--png", str(file)], timeout=20, check=True)
    assert file.read_bytes().startswith(b"\x89PNG") and b"IEND" in file.read_bytes()[-8:]


def test_view_names_a_missing_publisher() -> None:
    done = subprocess.run([*VIEW, "--socket", "/nowhere"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "/nowhere" in done.stderr
