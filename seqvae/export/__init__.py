"""Export to ONNX: a model of text as graphs and a tokenizer, which run without torch and without this package."""

from seqvae.export.folder import check_exportable, export_onnx

__all__ = ["check_exportable", "export_onnx"]
