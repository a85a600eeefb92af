"""Data sets and their splits: toys, UCI, stocks, tables of a user's own; stacked for a run."""
