"""Tables of a report: our numbers beside the paper's, paired differences, scores, the runs."""
