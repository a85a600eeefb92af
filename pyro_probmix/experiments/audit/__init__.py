"""The audit: which of the choices that the paper leaves open makes which of its claims true."""
