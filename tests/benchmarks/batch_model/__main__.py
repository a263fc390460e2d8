"""Run the model of AWS Batch: print its tables, and draw its figures.

    python -m tests.benchmarks.batch_model
    python -m tests.benchmarks.batch_model --quick
    python -m tests.benchmarks.batch_model --output DIRECTORY

This is a model, and no measurement: no time in it was measured with this version of cloudknot on AWS.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks.batch_model import experiments, paper, tables
from tests.benchmarks.batch_model.constants import BatchConstants, HeatConstants
from tests.benchmarks.batch_model.experiments import QUICK, Scale, Series, Sweep
from tests.benchmarks.batch_model.heat import SWEEPS
from tests.helpers.paths import ROOT

FIGURES = ROOT / "docs" / "figures"
TINY = HeatConstants().point * SWEEPS[experiments.TINY] * (experiments.TINY - 2) ** 2
ELEMENTS = {"8 ms": TINY, "1 s": 1.0, "10 s": 10.0}
"""Lengths of an element in the sweep over the chunk size. The first is the paper's, at a grid of 10 x 10."""


def print_paper(scale: Scale) -> tuple[dict[str, Series], dict[str, Series]]:
    """Print the paper's two figures beside its points, and return the model's lines."""
    second, third = experiments.figure_2(scale), experiments.figure_3(scale)
    print("\nFigure 2 of the paper, seconds over the number of arguments (grid 10 x 10):\n")
    print(tables.paper_table("arguments", second, paper.FIGURE_2))
    print("\nFigure 3 of the paper, seconds over the side of the grid (5 temperatures):\n")
    print(tables.paper_table("side", third, paper.FIGURE_3))
    agree = [*tables.agreement(second, paper.FIGURE_2), *tables.agreement(third, paper.FIGURE_3)]
    print(f"\n{sum(agree)} of {len(agree)} published points lie within a factor of {tables.FACTOR} of the model.")
    return second, third


def print_chunks(scale: Scale) -> tuple[dict[str, Series], dict[str, Series], dict[str, Sweep]]:
    """Print the effect of the chunk size on both figures, and return the lines."""
    second, third = experiments.chunked_figure_2(scale), experiments.chunked_figure_3(scale)
    print("\nFigure 2 with other chunk sizes, seconds, default settings, warm machines:\n")
    print(tables.series_table("arguments", second))
    print(f"\nFigure 3 with other chunk sizes; several: {scale.several:,} temperatures:\n")
    print(tables.series_table("side", third))
    sweeps = {name: experiments.sweep(scale, seconds) for name, seconds in ELEMENTS.items()}
    print(f"\n{scale.many:,} elements of one length; on Spot: {experiments.STRESS:g} loss per machine and hour:\n")
    print(tables.sweep_table(sweeps))
    print(f"\n{scale.many:,} elements of 8 ms without a running machine, medians of {scale.seeds} cold starts:\n")
    print(tables.cold_table(experiments.cold_starts(scale)))
    print(f"\n{scale.many:,} elements of 10 s under Spot losses, means of {scale.draws} draws:\n")
    print(tables.spot_table(experiments.spot(scale)))
    return second, third, sweeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller maps; figures only with --output")
    parser.add_argument("--output", type=Path, help=f"folder for the figures, by default {FIGURES.relative_to(ROOT)}")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else Scale()
    output = arguments.output or (None if arguments.quick else FIGURES)
    print("A model of AWS Batch, and no measurement.\n")
    print(tables.constants_table())
    slots = experiments.slots(paper.DEFAULT)
    print(f"\n{slots} children run at the same time with the default settings, {BatchConstants().slots} on a machine.")
    second, third = print_paper(scale)
    chunked_second, chunked_third, sweeps = print_chunks(scale)
    print("\nHalf and twice each constant without a source:\n")
    print(tables.sensitivity_table(experiments.sensitivity(scale)))
    if output is not None:
        # matplotlib takes a second to import, and only the figures need it.
        from tests.benchmarks.batch_model import figures

        output.mkdir(parents=True, exist_ok=True)
        written = [
            figures.draw_paper(second, third, output),
            figures.draw_chunks(chunked_second, chunked_third, scale.several, output),
            figures.draw_sweep(sweeps, scale.many, output),
        ]
        print("\nFigures:", *written, sep="\n  ")


if __name__ == "__main__":
    main()
