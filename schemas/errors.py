"""Every error this project raises on purpose.

WildrfError
├── InputError            what the user gave cannot be used: a path, a file, an option
│   ├── PolicyError       wildrf.toml asks for something we cannot do
│   ├── ExportError       a platform export is not one we can read
│   ├── CheckpointError   a detector checkpoint cannot be used as asked
│   └── OtherRunError     a run folder holds a run of other data or another recipe
├── CatalogError          the catalog cannot hold or answer this
├── StoreError            the media store cannot hold or return this
│   └── DigestMismatch    bytes on disk do not hash to their own name
├── ServiceError          a server we depend on (Label Studio) refused or is not there
└── GateError             a gate said no: leak, shortcut, disagreement, incomplete

Each message says what was found, what was expected and what to do, in one line. `exit_code` is what the
command line ends with: 2 for bad input or a broken environment, 1 where a gate said no.
"""

from typing import ClassVar


class WildrfError(Exception):
    """The root: anything the command line shows as one line instead of a traceback."""

    exit_code: ClassVar[int] = 2


class InputError(WildrfError):
    """What the user gave cannot be used."""


class PolicyError(InputError):
    """wildrf.toml asks for something we cannot do; the message names the line."""


class ExportError(InputError):
    """A platform export is not one we can read."""


class CheckpointError(InputError):
    """A detector checkpoint cannot be used as asked."""


class OtherRunError(InputError):
    """A run folder holds another run; `differs` says in what."""

    def __init__(self, folder: str, differs: str) -> None:
        self.differs = differs
        super().__init__(
            f"{folder} holds another run ({differs}); expected an empty folder or the same run; "
            "name another folder, or remove this one"
        )


class CatalogError(WildrfError):
    """The catalog cannot hold or answer this."""


class StoreError(WildrfError):
    """The media store cannot hold or return this."""


class DigestMismatch(StoreError):
    """The bytes on disk do not hash to their own name."""

    def __init__(self, digest: str, actual: str) -> None:
        self.digest = digest
        self.actual = actual
        super().__init__(
            f"media {digest[:12]} is corrupt: its bytes hash to {actual[:12]}; "
            "delete that file and run `wildrf fetch` again"
        )


class ServiceError(WildrfError):
    """A server we depend on refused or is not there."""


class GateError(WildrfError):
    """A gate said no. The command that raises it has already reported why."""

    exit_code: ClassVar[int] = 1
