"""What a target makes of a .tflite file, and what it measures.

Nothing is imported here: a worker process must be small when it is idle.
"""
