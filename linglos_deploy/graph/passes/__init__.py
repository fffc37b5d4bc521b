"""Edits of graphs on ``onnx_ir``: one pass a file, each stating what it requires and what it ensures."""
