"""Draw the particles that ImageJ finds in one movie, and their distances from the true positions.

Writes particles.png. It needs a Docker engine, as track.py does.
"""

import io

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure
from movies import FRAMES, SIZE, make_movie
from track import errors, find_in

PICTURE = "particles.png"
BLUE, ORANGE = "#56b4e9", "#d55e00"


def draw(movie, found, truth):
    """Return a figure of the first frame with the particles, and of the errors in all frames."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = image.imread(io.BytesIO(movie), format="tiff")  # Pillow reads the first page
    # The centre of the first pixel is at 0.5, 0.5, as in ImageJ.
    left.imshow(first, cmap="gray", vmin=0, vmax=180, extent=(0, SIZE, SIZE, 0))
    left.plot(*truth[0].T, "o", markersize=14, markerfacecolor="none", color=BLUE, label="true position")
    left.plot(*np.array(found[0]).T, "+", markersize=6, color=ORANGE, label="found by ImageJ")
    left.set(xlabel="x in pixels", ylabel="y in pixels", title="first frame")
    figure.legend(loc="outside lower left", ncols=2)

    right.hist(errors(found, truth).ravel(), bins=20, color=ORANGE)
    right.set(xlabel="distance from the true position in pixels", ylabel="particles", title=f"all {FRAMES} frames")
    return figure


def main():
    movie, truth = make_movie(0)
    [found] = find_in([movie])
    draw(movie, found, truth).savefig(PICTURE, dpi=80, metadata={"Software": None})
    print("saved", PICTURE)


if __name__ == "__main__":
    main()
