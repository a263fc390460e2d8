"""Find the particles of a movie with ImageJ, a Java program. A Python function runs it as a subprocess."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from pathlib import Path

MACRO = """
setBatchMode(true);
names = split(getArgument(), ":");
open(names[0]);
run("Set Measurements...", "center stack redirect=None decimal=3");
setThreshold(90, 255);
run("Analyze Particles...", "size=3-Infinity display clear stack");
saveAs("Results", names[1]);
run("Quit");
"""
"""Areas brighter than 90 and larger than 3 pixels are particles. Their positions are the centres of brightness."""

SCREEN = "-screen 0 640x480x24 -nolisten local"


def find_particles(movie: bytes) -> list[list[tuple[float, float]]]:
    """Return the positions of the particles in each frame of a TIFF file, as x and y in pixels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "movie.tif").write_bytes(movie)
        (folder / "find.ijm").write_text(MACRO)
        # ImageJ's commands have dialogs, so ImageJ needs a screen. xvfb-run provides one in memory. Containers on one
        # machine share its network, and with it the abstract sockets of screens, so this screen opens none.
        files = f"{folder / 'movie.tif'}:{folder / 'results.csv'}"
        imagej = ["imagej", "-x", "256", "-b", str(folder / "find.ijm"), files]
        process = subprocess.run(["xvfb-run", "-a", "-s", SCREEN, *imagej], check=False, timeout=300)
        # Debian's `imagej` ends with exit code 1 even after a success.
        if not (folder / "results.csv").exists():
            raise RuntimeError(f"ImageJ gave no results (exit code {process.returncode}). Read its output in the log.")
        with (folder / "results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    frames: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        frames.setdefault(int(row["Slice"]), []).append((float(row["XM"]), float(row["YM"])))
    return [frames[number] for number in sorted(frames)]
