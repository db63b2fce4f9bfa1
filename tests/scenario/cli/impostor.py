"""impostor.py FOLDER: a process that looks as if it had shunt in it, and answers with what it reads from stdin, a line for each
client: as the text of an answer to hello, or as it is where the line begins with `raw`."""

import ctypes
import os
import socket
import struct
import sys
import threading

PR_SET_NAME = 15


def serve(listening):
    ctypes.CDLL(None).prctl(PR_SET_NAME, b'shunt', 0, 0, 0)
    print('ready', flush=True)
    for line in sys.stdin:
        client, _ = listening.accept()
        client.recv(65536)
        text = line.strip().encode()
        if text == b'raw silence':
            client.close()
            continue
        head = struct.pack('=IHHII', 0x544e4853, 1, 0x8001, 16 + len(text), 0)
        client.send(text[4:] if text.startswith(b'raw ') else head + text)
        client.close()


listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind(os.path.join(sys.argv[1], 'impostor.sock'))
listening.listen()
thread = threading.Thread(target=serve, args=[listening])
thread.start()
thread.join()
