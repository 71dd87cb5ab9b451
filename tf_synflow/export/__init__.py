"""Export to TFLite: run and compared in the runtime users deploy with before a file is left."""

from tf_synflow.export.report import ExportReport
from tf_synflow.export.tflite import export_tflite

__all__ = ["ExportReport", "export_tflite"]
