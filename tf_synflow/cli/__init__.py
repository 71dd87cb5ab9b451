"""The command-line tools; absl flags live here alone, and each tool is one library call."""
