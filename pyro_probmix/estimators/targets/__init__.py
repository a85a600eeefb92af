"""What an estimator's targets ask of its density: the head that fits them, and how far it is widened."""
