"""Tables: what belongs together merges, what does not is named; files come back as they were, or are refused."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.calibration import container
from linglos_deploy.calibration.coverage import Coverage
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable, load_table, merge_tables
from linglos_deploy.errors import ArtifactError, CalibrationError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import ModelSignature

GRAPH = "ab" * 32


def _table(seed=0, **changes) -> CalibrationTable:
    rng = np.random.default_rng(seed)
    tensors = {
        "stem/Conv": observe(rng.standard_normal((2, 4, 5, 5)).astype(np.float32), channel_axis=1),
        "empty": observe(np.empty((0, 4), np.float32), channel_axis=1),
        "broken": observe(np.full((1, 3), np.nan, np.float32), channel_axis=1),
        "ünïcode": observe(np.array([[0.0, -1e-42, 3e38]], np.float32), channel_axis=1),
    }
    plain = CalibrationTable(
        tensors=tensors,
        graph_digest=GRAPH,
        preprocess=PreprocessSpec(),
        data_digest=f"{seed + 1:064x}",
        image_count=2,
        coverage=(Coverage("listing", 8, (seed + 1,)),),
        tools={"onnxruntime": "1.32.0", "numpy": "2.4.6"},
    )
    return replace(plain, **changes)


def test_a_table_comes_back_as_it_was(tmp_path):
    table = _table(position=3, sampling=Sampling(4, 2), synthetic=True)
    table.save(tmp_path / "a.table")
    assert load_table(tmp_path / "a.table") == CalibrationTable.load(tmp_path / "a.table") == table
    assert CalibrationTable({}, GRAPH) == container.decode(container.encode(CalibrationTable({}, GRAPH)), source="x")


@given(
    npst.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 9)), elements=st.floats(width=32)),
    st.text(min_size=1, max_size=8),
)
def test_any_statistics_survive_the_file(values, name):
    table = CalibrationTable({name: observe(values)}, GRAPH)
    assert container.decode(container.encode(table), source="x") == table


def test_the_same_table_gives_the_same_bytes_whatever_the_order():
    table = _table()
    shuffled = replace(
        table,
        tensors=dict(reversed(table.tensors.items())),
        tools=dict(reversed(table.tools.items())),
    )
    assert container.encode(table) == container.encode(shuffled)


@settings(max_examples=25)
@given(st.permutations(range(5)))
def test_merging_does_not_depend_on_the_order(order):
    tables = [_table(seed) for seed in range(5)]
    merged = merge_tables([tables[index] for index in order])
    assert merged == merge_tables(tables)
    assert container.encode(merged) == container.encode(merge_tables(tables))
    assert merged.image_count == 10
    assert merged.data_digest == f"{15:064x}"
    assert not merged.complete


def test_all_shards_together_are_the_whole():
    parts = [Coverage("listing", 3, (index,)) for index in (2, 3, 1)]
    merged = merge_tables([_table(coverage=(part,)) for part in parts])
    assert merged.coverage == (Coverage("listing"),)
    assert merged.complete
    assert parts[0].missing == (1, 3)


def test_tables_of_different_data_add_up():
    merged = _table().merge(_table(1, coverage=(Coverage("another"),), synthetic=True))
    assert [part.listing for part in merged.coverage] == ["another", "listing"]
    assert merged.synthetic


def test_different_tool_versions_are_recorded():
    newer = _table(1, tools={"onnxruntime": "1.33.0", "pillow": "13"})
    assert _table().merge(newer).tools == {"numpy": "2.4.6", "onnxruntime": "1.32.0 | 1.33.0", "pillow": "13"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"graph_digest": "cd" * 32}, "graph"),
        ({"preprocess": PreprocessSpec(crop_pct=1.0)}, "preprocessing"),
        ({"preprocess": None}, "preprocessing"),
        ({"sampling": Sampling(4)}, "sampling"),
        ({"tensors": {"other": TensorStatistics()}}, "tensors"),
        ({"graph_digest": "cd" * 32, "sampling": Sampling(4)}, "graph, sampling"),
        ({"tensors": {name: replace(stats, channels=None) for name, stats in _table().tensors.items()}}, "channels"),
    ],
)
def test_tables_that_do_not_belong_together_name_what_differs(changes, name):
    with pytest.raises(CalibrationError, match=f"do not belong together: {name}"):
        _table().merge(_table(1, **changes))


@pytest.mark.parametrize(
    "parts",
    [
        (Coverage("x", 3, (1,)), Coverage("x", 3, (1, 2))),
        (Coverage("x", 3, (1,)), Coverage("x", 4, (2,))),
        (Coverage("x"), Coverage("x", 3, (1,))),
    ],
)
def test_the_same_images_are_not_counted_twice(parts):
    with pytest.raises(CalibrationError, match="seen the same images"):
        _table(coverage=(parts[0],)).merge(_table(coverage=(parts[1],)))


def test_unfinished_tables_and_no_tables_cannot_be_merged():
    with pytest.raises(CalibrationError, match="unfinished"):
        _table().merge(_table(1, position=4))
    with pytest.raises(CalibrationError, match="no calibration tables"):
        merge_tables([])


@pytest.mark.parametrize("arguments", [("x", 0, ()), ("x", 2, (3,)), ("x", 2, (1, 1))])
def test_impossible_coverage_is_refused(arguments):
    with pytest.raises(ValueError, match="shards"):
        Coverage(*arguments)


def test_a_foreign_table_is_refused_by_what_differs(tmp_path):
    model = OnnxArtifact(tmp_path / "m.onnx", ModelSignature((), ()), GRAPH)
    _table().check_belongs_to(model, preprocess=PreprocessSpec())
    _table(preprocess=None).check_belongs_to(model, preprocess=PreprocessSpec())
    with pytest.raises(CalibrationError, match="another graph than"):
        _table().check_belongs_to(replace(model, digest="cd" * 32))
    with pytest.raises(CalibrationError, match="another graph and another preprocessing"):
        _table().check_belongs_to(replace(model, digest="cd" * 32), preprocess=PreprocessSpec(crop_pct=1.0))


def test_missing_oversized_and_unwritable_tables_are_errors(tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_table(tmp_path / "missing")
    _table().save(tmp_path / "a.table")
    monkeypatch.setattr(container, "MAX_FILE_BYTES", 10)
    with pytest.raises(ArtifactError, match="too large"):
        load_table(tmp_path / "a.table")


def _seal(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def test_a_table_of_a_later_version_asks_for_a_newer_release():
    data = bytearray(container.encode(_table())[:-32])
    struct.pack_into("<I", data, 8, container.VERSION + 1)
    with pytest.raises(ArtifactError, match="newer release"):
        container.decode(_seal(bytes(data)), source="x")


@pytest.mark.parametrize("length", [0, 5, 23, 60, 200, -1, -40])
def test_truncated_tables_are_errors(length):
    with pytest.raises(ArtifactError, match="no usable calibration table"):
        container.decode(container.encode(_table())[:length], source="x")


def _with_header(change, payload=None) -> bytes:
    """Return a table whose header was changed, properly sealed."""
    data = container.encode(_table())
    _, version, length, raw = struct.unpack_from("<8sIIQ", data)
    header = json.loads(data[24 : 24 + length])
    change(header)
    text = json.dumps(header).encode()
    packed = data[24 + length : -32] if payload is None else zlib.compress(payload)
    raw = raw if payload is None else len(payload)
    return _seal(struct.pack("<8sIIQ", container.MAGIC, version, len(text), raw) + text + packed)


def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(header):
        for key in path:
            header = header[key]
        header[last] = value

    return change


CHANGES = [
    _set("image_count", -1),
    _set("image_count", 1 << 80),
    _set("data_digest", "xyz"),
    _set("synthetic", "yes"),
    _set("sampling", {"every": 0, "seed": 0}),
    _set("coverage", [{"listing": "x", "shards": 0, "seen": []}]),
    _set("preprocess", "crop_pct", 7),
    _set("tensors", 2, "minimum", "0x1.0p+1024"),
    _set("tensors", 2, "minimum", "nan"),
    _set("tensors", 2, "minimum", "inf"),
    _set("tensors", 2, "maximum", "-inf"),
    _set("tensors", 2, "maximum", "0x1.0p-20"),
    _set("tensors", 2, "maximum", "0x1.0000000000001p+3"),
    _set("tensors", 2, "count", 3),
    _set("tensors", 2, "non_finite", 10**6),
    _set("tensors", 2, "sum", "12"),
    _set("tensors", 2, "sum_of_squares", "-0x1"),
    _set("tensors", 2, "bins", 5),
    _set("tensors", 2, "bins", 70_000),
    _set("tensors", 2, "channels", "count", [1]),
    _set("tensors", 2, "name", "empty"),
    _set("tensors", 1, "minimum", "0x1.0p+0"),
    _set("tensors", 0, "non_finite", 0),
    _set("tensors", 2, "minimum", "-0x1.0p-20"),
    lambda header: header.pop("tools"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_headers_that_contradict_themselves_are_errors(change):
    with pytest.raises(ArtifactError, match="no usable calibration table"):
        container.decode(_with_header(change), source="x")


def _payload(**changes) -> bytes:
    stats = {"bins": [16256, 16257], "counts": [1, 2]} | changes
    return np.array(stats["bins"], "<u2").tobytes() + np.array(stats["counts"], "<u8").tobytes()


def _one_tensor(payload: bytes) -> bytes:
    def change(header):
        entry = header["tensors"][2] | {"bins": 2, "count": 3, "non_finite": 0, "channels": None}
        header["tensors"] = [entry | {"minimum": "0x1.0p+0", "maximum": "0x1.04p+0"}]

    return _with_header(change, payload)


def test_payloads_that_no_data_could_give_are_errors():
    assert container.decode(_one_tensor(_payload()), source="x").tensors
    wrong = [
        {"bins": [16257, 16256]},
        {"bins": [5, 5]},
        {"counts": [0, 3]},
        {"counts": [1, 3]},
        {"counts": [1, 1 << 63]},
    ]
    for changes in [*wrong, {"bins": [16256, 32640]}, {"bins": [16256, 17000]}]:
        with pytest.raises(ArtifactError):
            container.decode(_one_tensor(_payload(**changes)), source="x")


def test_a_decompression_bomb_allocates_nothing():
    bomb = zlib.compress(bytes(200 << 20))
    text = b"{}"
    for raw in (200 << 20, 10, 1 << 60):
        data = _seal(struct.pack("<8sIIQ", container.MAGIC, 1, len(text), raw) + text + bomb)
        tracemalloc.start()
        with pytest.raises(ArtifactError):
            container.decode(data, source="x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20
    with pytest.raises(ArtifactError, match="payload that does not have"):
        container.decode(_overlong(), source="x")


def _overlong() -> bytes:
    data = container.encode(_table())
    length = struct.unpack_from("<I", data, 12)[0]
    packed = zlib.compress(zlib.decompress(data[24 + length : -32]) + bytes(1 << 20))
    return _seal(data[: 24 + length] + packed)


def test_ten_thousand_mutations_raise_nothing_but_our_own_errors():
    rng = np.random.default_rng(0)
    good = container.encode(_table())
    body = good[:-32]
    header = struct.unpack_from("<I", body, 12)[0]
    tracemalloc.start()
    survivors = 0
    for round_ in range(10_000):
        data = bytearray(body)
        for _ in range(int(rng.integers(1, 5))):
            kind = int(rng.integers(0, 5))
            # Most of the structure is in the prefix and the header.
            place = int(rng.integers(8, 24 + header if rng.random() < 0.8 else len(data)))
            place = min(place, len(data) - 1)
            if kind == 0:
                data[place] ^= 1 << int(rng.integers(0, 8))
            elif kind == 1:
                data[place] = int(rng.integers(0, 256))
            elif kind == 2:
                del data[place : place + int(rng.integers(1, 20))]
            elif kind == 3:
                data[place:place] = data[place : place + int(rng.integers(1, 20))]
            else:
                data[place : place + 1] = b'0123456789-"{}[],:'[int(rng.integers(0, 18)) :][:1]
            if len(data) < 30:
                break
        # Sealed anew, so that the mutation gets past the checksum; every tenth one is not.
        mutated = bytes(data) + good[-32:] if round_ % 10 == 0 else _seal(bytes(data))
        try:
            container.decode(mutated, source="fuzz")
            survivors += 1
        except ArtifactError:
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert 0 < survivors < 5_000  # a changed label is still a table; most changes are not
