"""Runs: their jobs, the workers, training and scoring of a job, the folder of results."""
