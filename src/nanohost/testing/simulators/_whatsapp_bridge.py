"""The bridge of the simulated linked WhatsApp: a process that passes lines between its host and the simulator.

Run by its path, standard library only, so that it starts in no time. It ends with its stdin, as the real one does, and
dies when the simulator hangs up.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def main(host: str, port: str) -> None:
    phone = socket.create_connection((host, int(port)))
    threading.Thread(target=_listen, args=(phone,), daemon=True).start()
    while chunk := os.read(0, 65536):
        phone.sendall(chunk)
    os._exit(0)


def _listen(phone: socket.socket) -> None:
    try:
        while chunk := phone.recv(65536):
            while chunk:
                chunk = chunk[os.write(1, chunk) :]
    except OSError:
        pass
    os.write(2, b"panic: the phone hung up\n")
    os._exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
