"""Figures of a report, and the style that they share."""
