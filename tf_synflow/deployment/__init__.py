"""What is in a .tflite file, what a target makes of it, and what it measures.

Nothing is imported here: a worker process must be small when it is idle.
"""
