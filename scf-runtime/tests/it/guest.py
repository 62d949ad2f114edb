"""A guest in Python: gives what it is given, or makes the system call that it is asked for.

It speaks the protocol that scf_runtime::process describes, on descriptor 0.
"""
import ctypes
import os
import struct
import sys
import time

HEAD = struct.Struct("<IB3s")
CALL, READY, OUTPUT, REFUSED = 1, 2, 3, 4


def receive(length):
    body = bytearray()
    while len(body) < length:
        part = os.read(0, length - len(body))
        if not part:
            sys.exit(0)
        body += part
    return bytes(body)


def send(kind, body=b""):
    left = memoryview(HEAD.pack(len(body), kind, b"") + body)
    while left:
        left = left[os.write(0, left):]


def answer(text, attempt):
    if text == b"attempt":
        return str(attempt).encode()
    if text.startswith(b"syscall "):
        number, *arguments = (int(word) for word in text.split()[1:])
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments)) == -1:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return b"done"
    if text == b"fork":
        return str(os.fork()).encode()
    if text == b"hang up":
        print("over and out", flush=True)
        os.close(0)
        time.sleep(3600)
    if text == b"null":
        return ctypes.string_at(0)
    return text


send(READY)
while True:
    length, kind, attempt = HEAD.unpack(receive(HEAD.size))
    assert kind == CALL
    body = receive(length)
    try:
        send(OUTPUT, answer(body[16:], int.from_bytes(attempt, "little")))
    except OSError as error:
        send(REFUSED, str(error).encode())
