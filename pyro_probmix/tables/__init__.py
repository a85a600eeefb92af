"""Tables in CSV and Parquet files: reading, writing, and what kinds of values their columns hold."""
