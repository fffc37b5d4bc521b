"""Semantic segmentation: a class for every pixel, in the graph or after it; judged by mean intersection over union."""

from linglos_deploy.tasks.kinds.segment.task import segment

__all__ = ["segment"]
