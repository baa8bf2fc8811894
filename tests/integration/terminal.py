# SPDX-License-Identifier: MIT
"""A program at a terminal."""
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading

from process import DEADLINE, Lines, eventually, program


class Terminal:
    """dpsctl, or a command, with a controlling terminal of its own, so that ^C is a signal."""

    def __init__(self, dpsctl, *arguments, command=None, columns=100, **environment):
        self.fd, self.slave = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [*(command or [program("dpsctl")]), *arguments], env=dpsctl.environment | {"TERM": "xterm"} | environment, stdin=self.slave,
            stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.shown = Lines()  # of characters
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                text = os.read(self.fd, 4096).decode(errors="replace")
            except OSError:
                return
            for character in text:
                self.shown.add(character)

    def text(self):
        return "".join(self.shown.lines).replace("\r\n", "\n")

    def wait_for(self, words):
        self.shown.wait_for(lambda _: words in self.text(), DEADLINE, words)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def wait_for_silence(self):
        eventually(lambda: not self.echoes(), what="a terminal that does not echo")

    def echoes(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def hang_up(self):
        """For a program that would not end by itself."""
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.slave)
        self.reader.join(DEADLINE)
        os.close(self.fd)

    def end(self):
        """Its exit code, and all that was shown."""
        code = self.process.wait(DEADLINE)
        os.write(self.slave, b"\0")  # behind everything
        self.wait_for("\0")
        os.close(self.slave)
        self.reader.join(DEADLINE)
        os.close(self.fd)
        return code, self.text().rstrip("\0")
