"""How far a prediction may be off: intervals by held-out rows, and the part of a variance that more data would take away."""
