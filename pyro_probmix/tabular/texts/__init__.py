"""Texts as people write numbers, dates, times and gaps, and what a user has to decide of them."""
