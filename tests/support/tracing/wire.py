"""What LangSmith's SDK writes on the wire: multipart bodies, plain or compressed, and batches, as parts of runs."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any, Literal, cast

from zstandard import ZstdDecompressor

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_NAME = re.compile(rb'name="([^"]+)"')
_PART = re.compile(r"^(post|patch|feedback|attachment)\.([0-9a-f-]{36})(?:\.(.+))?$")
Operation = Literal["post", "patch", "feedback", "attachment"]


class Malformed(ValueError):
    """A request is not what LangSmith's protocol allows."""


@dataclass(frozen=True)
class Part:
    """One part of a request: what is done to which run, and the field that `content` is, "" for the run's own."""

    operation: Operation
    id: str
    field: str
    content: bytes


def decompressed(body: bytes, encoding: str | None) -> bytes:
    """Return a request's body without its compression. Raises `Malformed` for an encoding that nobody agreed on."""
    if encoding in {None, "", "identity"}:
        return body
    if encoding != "zstd":
        raise Malformed(f"the encoding {encoding}")
    with ZstdDecompressor().stream_reader(BytesIO(body), read_across_frames=True) as reader:
        return reader.read()


def parts_of_multipart(body: bytes, content_type: str) -> Iterator[Part]:
    """Yield the parts of a multipart body. Raises `Malformed` for one that has no end or no names."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise Malformed(f"no boundary in {content_type}")
    first, *pieces = (b"\r\n" + body).split(f"\r\n--{found[1]}".encode())
    if first.strip() or not pieces or not pieces.pop().startswith(b"--"):
        raise Malformed("a multipart body without a beginning or an end")
    for piece in pieces:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        part = _PART.match("" if name is None else name[1].decode())
        if part is None:
            raise Malformed(f"a part with the head {head!r}")
        yield Part(cast(Operation, part[1]), part[2], part[3] or "", content)


def parts_of_batch(body: bytes) -> Iterator[Part]:
    """Yield the runs of a batch, each as one part."""
    batch: dict[str, list[dict[str, Any]] | None] = read_json(body)
    for operation in ("post", "patch"):
        for run in batch.get(operation) or []:
            yield Part(operation, str(run["id"]), "", write_json(run))


def read_json(content: bytes) -> Any:
    """Return the value of a JSON text. A number with a point is a `Decimal`: exactly what the wire says."""
    return json.loads(content or b"null", parse_float=Decimal)


def write_json(value: object) -> bytes:
    """Return a value as a JSON text. A `Decimal` is written as the number that it is."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("list[object]", value)]
    return value
