"""Masks: which weights are kept, how they are chosen, and what they leave of a network."""
