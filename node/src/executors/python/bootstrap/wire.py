"""Frames: what crosses the sockets between the node and its Python processes.

    length: 4 bytes | version: 1 | kind: 1 | length of the head: 4 | head: JSON | payload

All numbers are big-endian; the first length counts everything behind itself. Heads are small and made here or by the node;
payloads are bodies and results in whatever serializer they came in, and nobody on the way looks into them.
"""

import codecs
import json
import math
import socket
import struct
import threading

from umbel_bootstrap import codec

VERSION = 1

# From the node.
FORK, RUN, ORDER, STOP, LOOK, LOST, STORED, LARGE, SERVING, DECIDED, HEARTBEAT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
# To the node.
LOADED, FAILED, FORKED, EXITED, READY, DONE, PROGRESS, LOG, LOOKED = 16, 17, 18, 19, 20, 21, 22, 23, 24
EARLY, CALLED = 25, 26

# As the node's own bound (`frame.rs`); a larger frame is a broken peer.
FRAME_MAX = 256 << 20

# As `runs.rs` has it.
PACKET_MAX = 32 << 10

# Descriptors that come along are not for programs that tasks start.
CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

PREFIX = struct.Struct(">IBBI")
LOADS = codec.decoder()
DUMPS = codec.encoder(json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=repr))

# Halves of surrogate pairs, which stand for bytes in names of files and have no form in UTF-8, look as Python itself prints them.
codecs.register_error("umbel", lambda error: ("".join("\\\\u%04x" % ord(half) for half in error.object[error.start : error.end]), error.end))


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


class Runs:
    """A process's end of the socket that its runs come over, one in a packet. One that was received has begun: what was not, the node may
    take back (`runs.rs`). The other way go the endings that need not wake the node.
    """

    def __init__(self, sock, channel):
        self.sock, self.channel = sock, channel
        self.buffer = bytearray(PACKET_MAX)

    def wait(self):
        """The next run as `(kind, head, payload)`; `None` when the node is gone or lets go of this process."""
        return self.read(self.sock.recv_into(self.buffer))

    def look(self):
        """The next run if it is there already."""
        try:
            return self.read(self.sock.recv_into(self.buffer, 0, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return None

    def read(self, size):
        if not size:
            return None
        frame = parse(self.buffer)
        # One that is too large for a packet comes the other way.
        return self.channel.receive() if frame[0] == LARGE else frame

    def tell(self, packed):
        """Sends an ending for the node to find. It looks for it, as it knows of the run that was received before."""
        if len(packed) <= PACKET_MAX:
            try:
                self.sock.send(packed, socket.MSG_DONTWAIT)
                return
            except OSError:
                pass
        self.channel.send_packed(packed)


class Channel:
    """One end of a socket. Any thread may send; one receives."""

    def __init__(self, sock):
        self.sock = sock
        self.lock = threading.Lock()
        self.buffer = bytearray()
        self.descriptors = []

    def send(self, kind, head, payload=b""):
        """Sends a frame whole; a node that is gone is found out by `receive`."""
        self.send_packed(pack(kind, head, payload))

    def send_packed(self, data):
        """Sends frames that are bytes already."""
        with self.lock:
            try:
                self.sock.sendall(data)
            except OSError:
                pass

    def receive(self):
        """The next frame as `(kind, head, payload)`; `None` when the node is gone or lets go of this process."""
        while True:
            frame = self.parse()
            if frame is not None:
                return frame
            data = self.sock.recv(1 << 16)
            if not data:
                return None
            self.buffer += data

    def read_available(self):
        """What has come by now, as a list of frames; `None` when the node is gone. For those who were told that something has."""
        try:
            data = self.sock.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not data:
            return None
        self.buffer += data
        frames = []
        while True:
            frame = self.parse()
            if frame is None:
                return frames
            frames.append(frame)

    def receive_with_descriptors(self):
        """As `receive`, keeping descriptors that come along in `descriptors`."""
        while True:
            frame = self.parse()
            if frame is not None:
                return frame
            data, ancillary, _, _ = self.sock.recvmsg(1 << 16, socket.CMSG_SPACE(64), CLOEXEC)
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    count = len(content) // 4
                    self.descriptors.extend(struct.unpack("%di" % count, content[: count * 4]))
            if not data:
                return None
            self.buffer += data

    def parse(self):
        """The frame at the beginning of what has been read, if it is there whole."""
        buffer = self.buffer
        if len(buffer) < PREFIX.size:
            return None
        length, version, _, _ = PREFIX.unpack_from(buffer)
        if version != VERSION or length > FRAME_MAX:
            raise ProtocolError("a frame of version %d and %d bytes" % (version, length))
        if len(buffer) < length + 4:
            return None
        frame = parse(buffer)
        del buffer[: length + 4]
        return frame


def parse(buffer):
    """The frame that `buffer` begins with."""
    length, _, kind, head_length = PREFIX.unpack_from(buffer)
    begin = PREFIX.size + head_length
    head = LOADS(buffer[PREFIX.size : begin].decode("utf-8"))
    return kind, head, bytes(buffer[begin : length + 4])


def pack(kind, head, payload=b""):
    """A frame as bytes. The node can read every head, whatever of the application's got into it."""
    try:
        text = DUMPS(head)
    except ValueError:
        text = DUMPS(finite(head))
    return pack_bytes(kind, text.encode("utf-8", "umbel"), payload)


def finite(value):
    """The same without numbers that JSON has no form for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def pack_bytes(kind, head, payload):
    """The same with a head that is JSON already."""
    return PREFIX.pack(6 + len(head) + len(payload), VERSION, kind, len(head)) + head + payload
