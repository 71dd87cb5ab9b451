"""What is in a .tflite file: its tensors and ops, its constants and its bytes.

The one reader of them all, of the exporter's own files and of anybody's.
"""
