"""What holds for a batch of rows of any class: exchanging and expanding them, their supports, where their mass is."""
