"""Changes of the files of a recorded sweep: of their bytes, of their values, and of values whose checksums then fit."""

import copy
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

RUN = "batch_size=500"
NAMES = (f"{RUN}/record.json", f"{RUN}/history.csv", f"{RUN}/checkpoint.pt", "sweep.json")

# What a value may be replaced by: of another type, of another size, and text that means something elsewhere.
VALUES = (
    *(None, True, False, 0, -1, 1, 2, 5, 1.5, 1e-300, 1e308, 10**30, 2**63, "nan", "inf", "", "0", "1e999"),
    *("\x1b]52;c;AAAA\x07", "${oc.env:HOME}", "$\\badcmd$", "=1+1", "../../x", "a" * 5_000, "completed", "failed"),
    *([], {}, [[[]]], [1, 2], {"a": 1}, {"_target_": "os.system"}, ["${seed}"], [0] * 500, "\ud800", "\u202e", "mlp"),
)


@st.composite
def byte_changes(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """One to three changes: what is done, where (from 0, the beginning, to 1, the end), and with which bytes."""
    change = st.tuples(
        st.sampled_from(["flip", "digit", "cut", "remove", "insert", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    )
    return draw(st.lists(change, min_size=1, max_size=3))


def changed_bytes(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Return `content` after these changes."""
    for what, where, extra in changes:
        place = int(where * len(content))
        before, after = content[:place], content[place:]
        if what == "flip":
            content = before + bytes(byte ^ extra[0] for byte in after[:1]) + after[1:]
        elif what == "digit":
            digits = [each for each in range(len(content)) if content[each : each + 1].isdigit()]
            if digits:
                place = digits[int(where * len(digits))]
                content = content[:place] + str(extra[0] % 10).encode() + content[place + 1 :]
        elif what == "cut":
            content = before
        elif what == "remove":
            content = before + after[len(extra) * 8 :]
        elif what == "insert":
            content = before + extra + after
        else:
            content = before + after[:64] + after
    return content


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested dictionaries and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*path, key)
        yield from places(each, (*path, key))


def replaced(content: Any, where: float, value: Any, how: str) -> Any:
    """Return nested content with one value replaced, removed, or kept under another name."""
    content = copy.deepcopy(content)
    paths = list(places(content))
    *parents, key = paths[int(where * len(paths))]
    holder = content
    for each in parents:
        holder = holder[each]
    if how == "remove":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        holder[value if isinstance(value, str) else "another"] = holder.pop(key)
    else:
        holder[key] = value
    return content


def change_values(sweep: Path, name: str, where: float, value: Any, how: str) -> None:
    """Change one value of a JSON file; its checksum, if it has one, then contradicts it."""
    path = sweep / name
    path.write_text(json.dumps(replaced(json.loads(path.read_text(encoding="utf-8")), where, value, how)))


def change_and_seal(sweep: Path, name: str, where: float, value: Any, how: str) -> None:
    """Change one value of a file, and make every checksum fit: what somebody who means it would do."""
    path = sweep / name
    if name.endswith("record.json"):
        content = replaced(json.loads(path.read_text(encoding="utf-8")), where, value, how)
        _write_record(path, content)
    elif name.endswith("history.csv"):
        text = value if isinstance(value, str) else json.dumps(value)
        lines = path.read_text(encoding="utf-8").split("\n")
        cells = [(row, column) for row, line in enumerate(lines) for column in range(line.count(",") + 1)]
        row, column = cells[int(where * len(cells))]
        parts = lines[row].split(",")
        parts[column] = text
        lines[row] = ",".join(parts)
        path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
        _seal_history(path)
    elif name.endswith("checkpoint.pt"):
        _change_checkpoint(path, where, value, how)
    else:
        change_values(sweep, name, where, value, how)


def _change_checkpoint(path: Path, where: float, value: Any, how: str) -> None:
    """Change one value of a checkpoint, or of the record that it holds as a text of JSON."""
    content = torch.load(io.BytesIO(path.read_bytes()[:-4]), weights_only=True)
    content["record"] = json.loads(content["record"])
    content = replaced(content, where, value, how)
    if isinstance(content, dict) and isinstance(content.get("record"), dict | list):
        content["record"] = json.dumps(content["record"])
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue() + zlib.crc32(buffer.getvalue()).to_bytes(4, "big"))


def _seal_history(path: Path) -> None:
    record = path.with_name("record.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    signature = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    content["files"]["history.csv"] = signature
    _write_record(record, content)


def _write_record(path: Path, content: dict[str, Any]) -> None:
    content.pop("sha256", None)
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": checksum}))
