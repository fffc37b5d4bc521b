"""PyTorch to ONNX: tracing, graph passes, decompositions of the saliency gate, precision."""
