"""The heat equation: the solver agrees with independent solutions, and the sweeps run on the embedded cloud."""

import dataclasses
import json

import numpy as np
import pytest

from examples.heat_equation import solver

SWEEP = ("heat_equation", "python", "heat_equation.py", "--quick")


def direct_solution(size, temperature):
    """Solve the grid's equations with numpy's linear algebra."""
    second_difference = 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    matrix = np.kron(second_difference, np.eye(size)) + np.kron(np.eye(size), second_difference)
    sides = np.zeros((size, size))
    sides[0] = temperature
    return np.linalg.solve(matrix, sides.ravel()).reshape(size, size)


def series(x, y, temperature):
    """Sum the Fourier series for a unit square whose side y = 1 is hot."""
    k = np.arange(1, 200, 2)[:, None, None] * np.pi
    # sinh(k y) / sinh(k), without large exponentials.
    decay = np.exp(k * (y - 1)) * (1 - np.exp(-2 * k * y)) / (1 - np.exp(-2 * k))
    return (4 * temperature / k * np.sin(k * x) * decay).sum(axis=0)


def jacobi_sweeps(size, temperature, tolerance):
    grid = np.zeros((size + 2, size + 2))
    grid[0] = temperature
    sweeps = 0
    while solver.error_bound(grid) > tolerance:
        grid[1:-1, 1:-1] = (grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2] + grid[1:-1, 2:]) / 4
        sweeps += 1
    return sweeps


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_solver_agrees_with_direct_solution_within_its_bound(size):
    steady_state = solver.solve(size, 100)
    error = np.abs(steady_state.temperatures[1:-1, 1:-1] - direct_solution(size, 100)).max()
    assert error <= steady_state.error_bound <= solver.TOLERANCE


def test_solver_converges_to_series_with_square_of_spacing():
    errors = []
    for size in (15, 31, 63):
        points = np.arange(1, size + 1) / (size + 1)
        x, y = np.meshgrid(points, points[::-1])
        differences = solver.solve(size, 100, tolerance=1e-5).temperatures[1:-1, 1:-1] - series(x, y, 100)
        # In the hot corners the temperature jumps, on every grid.
        errors.append(np.abs(differences[y <= 0.75]).max())
    assert errors[2] < 0.02
    assert np.divide(errors[:-1], errors[1:]) == pytest.approx([4, 4], rel=0.1)


def test_sweeps_converge_twice_as_fast_as_jacobi():
    # Both counts from 1e-3 degrees on, because the first sweeps remove errors of other shapes.
    gauss_seidel = solver.solve(30, 100, 1e-6).sweeps - solver.solve(30, 100, 1e-3).sweeps
    jacobi = jacobi_sweeps(30, 100, 1e-6) - jacobi_sweeps(30, 100, 1e-3)
    assert jacobi / gauss_seidel == pytest.approx(2, rel=0.05)


def test_hotter_plate_needs_more_sweeps():
    sweeps = [solver.solve(10, temperature).sweeps for temperature in (1e-5, 0.1, 10, 1000)]
    assert sweeps[0] == 0
    assert sweeps == sorted(set(sweeps))


def test_solver_reports_unfinished_sweeps():
    with pytest.raises(ArithmeticError, match="After 20 sweeps"):
        solver.solve(10, 100, max_sweeps=20)


@pytest.mark.parametrize(("arguments", "named"), [((0, 100), "size=0"), ((10, 100, 0), "tolerance=0")])
def test_solver_refuses_impossible_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        solver.solve(*arguments)


@pytest.mark.parametrize("size", [9, 10])
def test_check_accepts_steady_state_only(size):
    steady_state = solver.solve(size, 100)
    solver.check(steady_state, 100)
    with pytest.raises(ArithmeticError, match=r"instead of 25\.5"):
        solver.check(steady_state, 102)
    unfinished = dataclasses.replace(solver.solve(size, 100, tolerance=10), error_bound=solver.TOLERANCE)
    with pytest.raises(ArithmeticError, match=r"instead of 25\.0"):
        solver.check(unfinished, 100)


def test_both_sweeps_run_on_cloud(example):
    ended = example(*SWEEP, "--no-figures")
    arguments, grid = (json.loads((ended.directory / f"{name}.json").read_text()) for name in ("arguments", "grid"))
    points = [(timing["chunksize"], timing["n_args"], timing["size"]) for timing in arguments["timings"]]
    assert points == [(1, 1, 10), (1, 4, 10), (8, 16, 10), (0, 1, 10), (0, 4, 10), (0, 16, 10)]
    points = [(timing["n_args"], timing["size"], len(timing["cpu_seconds"])) for timing in grid["timings"]]
    assert points == [(5, 10, 5), (5, 20, 5)]
    assert arguments["run"]["cloud"] == "embedded cloud"
    assert all(timing["seconds"] > 0 for timing in arguments["timings"] + grid["timings"])


@pytest.mark.examples
def test_figures_show_both_sweeps(example):
    pytest.importorskip("matplotlib", reason="the figures need matplotlib")
    ended = example(*SWEEP, MPLBACKEND="agg")
    assert ended.pictures == ["arguments.svg", "grid.svg", "plate.svg"]
    # matplotlib writes each text as a comment beside its outline.
    assert "<!-- 8 in each job -->" in (ended.directory / "arguments.svg").read_text()
    assert "<!-- CPU time at 1000 °C -->" in (ended.directory / "grid.svg").read_text()
