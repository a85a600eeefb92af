"""The parts of a page, and its HTML and Markdown."""
