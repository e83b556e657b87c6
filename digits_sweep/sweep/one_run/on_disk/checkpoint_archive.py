"""What a checkpoint file holds, looked at before torch loads it: nothing that inflates or that is no tensor.

`torch.load` with `weights_only` runs no code, but a file of a few kilobytes can still ask it for all memory there is.
"""

import io
import pickletools
import zipfile

from digits_sweep.errors import UnreadableRecord
from digits_sweep.results.disk.reading import reason_of

MOST_ENTRIES = 10_000

# All that the pickle of a checkpoint refers to. Of what else `weights_only` allows, `bytearray` can fill the memory.
GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Byte", "Bool")),
}


def check_checkpoint(content: bytes, name: str) -> None:
    """Check what `torch.save` has made before it is loaded: nothing in it inflates or refers to anything but tensors.

    `content` is the archive alone, and `name` the name of its file. Raises `UnreadableRecord` if the archive has more
    entries or bytes than the file can hold, is compressed, or if its pickle names what no checkpoint needs.
    """
    try:
        # Another beginning would make torch read another format, and a comment could hide a second directory.
        if not content.startswith(b"PK\x03\x04") or content[-22:-18] != b"PK\x05\x06":
            raise ValueError("not an archive of torch.save")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES:
                raise ValueError(f"more than {MOST_ENTRIES:,} entries")
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise ValueError("its entries are compressed")
            if sum(entry.file_size for entry in entries) > len(content):
                raise ValueError("its entries are larger than the file")
            # torch does not distinguish case, and knows no second name of an entry, which zipfile would prefer.
            pickles = [entry for entry in entries if entry.orig_filename.lower().endswith("data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"{len(pickles)} pickles")
            _check_pickle(archive.read(pickles[0]))
    # zipfile and pickletools document no narrower errors for content that is made to mislead them.
    except Exception as error:
        raise UnreadableRecord(f"{name}: not a checkpoint: {reason_of(error)}") from error


def _check_pickle(content: bytes) -> None:
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"its pickle has the operation {operation.name}")
        if operation.name == "GLOBAL" and argument not in GLOBALS:
            raise ValueError(f"its pickle refers to {str(argument).replace(' ', '.')}")
