"""What is written is whole or absent: files that take the place of others, and directories that do.

Below all rooms, because all of them write. `replacing` and `write_whole` are for files, `add_directory`,
`replace_directory` and `restore_directory` for directories.
"""

from onehull.files.directory import add_directory, replace_directory, restore_directory
from onehull.files.file import move_into_place, replacing, sync, write_whole

__all__ = [
    "add_directory",
    "move_into_place",
    "replace_directory",
    "replacing",
    "restore_directory",
    "sync",
    "write_whole",
]
