"""Tables of a report: ours beside the paper's, paired differences, scores, what was run."""
