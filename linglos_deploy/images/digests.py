"""Digests of sets of images: the same in any order, and mergeable like the statistics themselves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.codec import to_json
from linglos_deploy.files import sha256_bytes
from linglos_deploy.images.preprocessing import PreprocessSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MODULUS = 1 << 256


def image_digest(image: NDArray[np.uint8] | NDArray[np.float32]) -> int:
    """Return the SHA-256 of one image's element type, shape and values, as an integer."""
    digest = hashlib.sha256(f"{image.dtype.name}{list(image.shape)}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return int.from_bytes(digest.digest(), "big")


def combine(*digests: int) -> int:
    """Return the digest of a union: the sum modulo 2^256, so that an image that is there twice counts twice."""
    return sum(digests) % _MODULUS


def as_hex(digest: int) -> str:
    """Return a digest as 64 lower-case hexadecimal digits."""
    return f"{digest:064x}"


def preprocess_digest(spec: PreprocessSpec) -> str:
    """Return the SHA-256 of a preprocessing's JSON form."""
    return sha256_bytes(to_json(spec).encode())
