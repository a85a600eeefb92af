"""What a page is made of, and its HTML and Markdown."""
