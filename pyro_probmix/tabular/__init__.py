"""Models of tables in files: columns as numbers, fitting, saving, predicting, and the page of a check."""
