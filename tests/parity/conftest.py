"""A runner that answers with a function, for tests that need no real model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from linglos_deploy.signature import Batch, ModelSignature, TensorSpec

Answer = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass
class FunctionRunner:
    answer: Answer
    signature: ModelSignature

    def run(self, batch: Batch) -> Batch:
        return dict(self.answer(batch["image"]))


@pytest.fixture
def runner() -> Callable[..., FunctionRunner]:
    """Make a runner; its outputs are named by the keywords, each a function of the image."""

    def make(**outputs: Callable[[np.ndarray], np.ndarray]) -> FunctionRunner:
        signature = ModelSignature(
            inputs=(TensorSpec("image", "float32", ("batch", 4)),),
            outputs=tuple(TensorSpec(name, "float32", ("batch", f"{name}_1")) for name in outputs),
        )
        return FunctionRunner(lambda image: {name: function(image) for name, function in outputs.items()}, signature)

    return make
