"""The way of predictions into ArviZ, and figures by it."""
