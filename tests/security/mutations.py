"""Changes of the files of a recorded sweep: of their bytes, of their values, and of values whose checksums then fit."""

import copy
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from safetensors.torch import load, save

from digits_sweep.sweep import checkpoint

RUN = "batch_size=500"
NAMES = (f"{RUN}/record.json", f"{RUN}/history.csv", f"{RUN}/checkpoint.safetensors", "sweep.json")

# The files of a study of the critical batch size.
OF_A_STUDY = ("study.json", "tuning.csv", "steps_to_target.csv", "branches.csv", "critical_batch_size.json")

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


def change_cell(path: Path, where: float, value: Any) -> None:
    """Change one cell of a CSV file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    cells = [(row, column) for row, line in enumerate(lines) for column in range(line.count(",") + 1)]
    row, column = cells[int(where * len(cells))]
    parts = lines[row].split(",")
    parts[column] = value if isinstance(value, str) else json.dumps(value)
    lines[row] = ",".join(parts)
    path.write_bytes("\n".join(lines).encode("utf-8", "replace"))


def change_and_seal(sweep: Path, name: str, where: float, value: Any, how: str) -> None:
    """Change one value of a file, and make every checksum fit: what somebody who means it would do."""
    path = sweep / name
    if name.endswith("record.json"):
        _seal(path, lambda content: replaced(content, where, value, how))
    elif name.endswith("history.csv"):
        change_cell(path, where, value)
        written = {"bytes": path.stat().st_size, "crc32": zlib.crc32(path.read_bytes())}
        _seal(
            path.with_name("record.json"), lambda content: content["files"].update({"history.csv": written}) or content
        )
    elif name.endswith("checkpoint.safetensors"):
        _change_checkpoint(path, where, value, how)
    else:
        change_values(sweep, name, where, value, how)


def _change_checkpoint(path: Path, where: float, value: Any, how: str) -> None:
    """Change one value of the text in a checkpoint."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = load(content)
    text = json.dumps(replaced(json.loads(header["__metadata__"]["run"]), where, value, how))
    path.write_bytes(save(tensors, {"run": text, "crc32": str(checkpoint._crc32(text, tensors))}))


def _seal(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("sha256", None)
    text = json.dumps(change(content), indent=2).removeprefix("{\n").encode() + b"\n"
    path.write_bytes(b'{\n  "sha256": "' + hashlib.sha256(text).hexdigest().encode() + b'",\n' + text)
