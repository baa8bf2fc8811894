# SPDX-License-Identifier: MIT
"""A file system that does not answer, as one on a server that is gone."""
import ctypes
import os
import pathlib
import shutil
import tempfile

import pytest

MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


class HungFileSystem:
    """An ordinary directory, until it hangs: then every look at a path below it waits until release(). It is not in tmp_path,
    where others look, too."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="dps-hung-"))
        self.fd = -1

    def hang(self):
        try:
            self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)  # whoever reads from it would be the server
        except OSError as error:
            pytest.skip(f"there is no FUSE here: {error}")
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        if libc.mount(b"hung", os.fsencode(self.path), b"fuse", 0, options.encode()) < 0:
            error = ctypes.get_errno()
            os.close(self.fd)
            self.fd = -1
            pytest.skip(f"FUSE cannot be mounted here: {os.strerror(error)}")

    def release(self):
        """What waits fails, and the directory is an ordinary one again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            assert libc.umount2(os.fsencode(self.path), MNT_DETACH) == 0, os.strerror(ctypes.get_errno())

    def close(self):
        self.release()
        shutil.rmtree(self.path)
