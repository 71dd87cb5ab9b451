"""Data, models and the training run of the command-line tools; nothing is imported from here."""
