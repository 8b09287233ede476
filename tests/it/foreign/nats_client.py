"""The NATS client protocol on a plain socket, with Python's standard library alone.

  nats_client.py publish HOST:PORT SUBJECT DATA NAME=VALUE…   publishes with headers, prints the stream's answer
  nats_client.py subscribe HOST:PORT SUBJECT COUNT            prints `ready`, then one JSON line for each message
"""

import json
import socket
import sys


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.file = self.socket.makefile("rb")
        assert self.file.readline().startswith(b"INFO "), "no NATS server answers there"
        self.send(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"lang":"python-stdlib","version":"1"}\r\nPING\r\n')
        self.expect_pong()

    def send(self, data):
        self.socket.sendall(data)

    def expect_pong(self):
        while True:
            line = self.file.readline().strip()
            if line == b"PONG":
                return
            assert not line.startswith(b"-ERR") and line, line

    def message(self):
        """Returns (subject, headers, data) of the next message."""
        while True:
            line = self.file.readline().strip()
            if line == b"PING":
                self.send(b"PONG\r\n")
                continue
            words = line.split()
            if words and words[0] == b"MSG":
                data = self.file.read(int(words[-1]))
                self.file.readline()
                return words[1].decode(), {}, data.decode()
            if words and words[0] == b"HMSG":
                header_length, total = int(words[-2]), int(words[-1])
                block = self.file.read(total)
                self.file.readline()
                headers = {}
                for header in block[:header_length].decode().split("\r\n")[1:]:
                    if ":" in header:
                        name, value = header.split(":", 1)
                        headers[name.lower()] = value.strip()
                return words[1].decode(), headers, block[header_length:].decode()
            assert line and not line.startswith(b"-ERR"), line


def publish(address, subject, data, *pairs):
    connection = Connection(address)
    block = "NATS/1.0\r\n" + "".join("{}: {}\r\n".format(*pair.split("=", 1)) for pair in pairs) + "\r\n"
    header, body = block.encode(), data.encode()
    connection.send(b"SUB _INBOX.answer 1\r\n")
    head = f"HPUB {subject} _INBOX.answer {len(header)} {len(header) + len(body)}\r\n".encode()
    connection.send(head + header + body + b"\r\n")
    print(connection.message()[2], flush=True)


def subscribe(address, subject, count):
    connection = Connection(address)
    connection.send(f"SUB {subject} 1\r\nPING\r\n".encode())
    connection.expect_pong()
    print("ready", flush=True)
    for _ in range(int(count)):
        subject, headers, data = connection.message()
        print(json.dumps({"subject": subject, "headers": headers, "data": json.loads(data)}), flush=True)


{"publish": publish, "subscribe": subscribe}[sys.argv[1]](*sys.argv[2:])
