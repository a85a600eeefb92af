"""Columns of a table as numbers for a network: their kinds, categories, dates, gaps, and how each is scaled."""
