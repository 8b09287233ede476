"""A participant written with Python's standard library alone: `service.py NAME`.

Prints its port, then one JSON line for every request, before it answers. Orders whose id begins with
`REFUSED` are refused by the service named shipping.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = sys.argv[1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length).decode()
        body = json.loads(text) if text else None
        line = {
            # The same clock for all processes: their lines are read side by side.
            "at": time.monotonic_ns(),
            "service": NAME,
            "method": self.command,
            "target": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if NAME == "shipping" and str((body or {}).get("orderId", "")).startswith("REFUSED"):
            self.answer(422, {"type": "no_carrier", "title": "no carrier goes there"})
        elif self.command == "POST":
            self.answer(201, {"id": f"{NAME}-1", **(body or {})})
        elif self.command == "GET":
            self.answer(200, [])
        else:
            self.answer(200, {})

    def answer(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        kind = "application/problem+json" if status >= 400 else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
