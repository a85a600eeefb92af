"""The members of an ensemble: their rows and network, what a fit leaves of them, the rows that they hold out."""
