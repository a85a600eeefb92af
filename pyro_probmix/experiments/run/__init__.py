"""Runs: their jobs, where these run, how a job is trained and measured, the folder of results."""
