"""Data sets, runners, the result store, reports and figures of the experiments."""
