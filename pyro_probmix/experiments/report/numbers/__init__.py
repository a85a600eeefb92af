"""Run folders read back, and what is counted and compared, as plain tables of numbers."""
