"""Tables in files: their columns as numbers, and models of them that are kept, used and checked."""
