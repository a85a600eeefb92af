"""Where the rows of a fit come from: tensors, Parquet files and memory maps, in minibatches; their checks."""
