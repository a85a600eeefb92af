"""Data sets and their splits: toys, UCI, stocks, users' tables; stacked for a run."""
