"""The parts of retries: their functions, the results of each, and the gaps that are closed before."""
