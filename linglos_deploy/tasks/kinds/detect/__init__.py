"""Object detection: boxes with a class and a score; judged by COCO's average precision."""

from linglos_deploy.tasks.kinds.detect.task import detect

__all__ = ["detect"]
