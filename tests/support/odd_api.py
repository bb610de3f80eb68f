"""An HTTP server of the standard library that answers with what it was asked, or does one thing wrong: its path says which."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("latin-1")
        how = self.path.partition("?")[0].strip("/")
        if how == "crash":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(4)
        if how == "late":
            time.sleep(30)
        if how == "elsewhere":
            return self.say(302, b"", location="http://127.0.0.1:1/secret")
        if how == "there":
            return self.say(307, b"", location="/echo?redirected=1")
        if how == "circle":
            return self.say(307, b"", location="/circle")
        if how == "huge":
            return self.say(200, b"x" * 20_000_000, kind="text/plain")
        if how == "notjson":
            return self.say(200, b'{"a": ', kind="application/json")
        if how == "picture":
            return self.say(200, b"\x89PNG\xff\xfe", kind="image/png")
        if how == "nothing":
            return self.say(204, b"")
        if how == "conflict":
            return self.say(409, json.dumps({"detail": "taken"}).encode())
        if how == "broken":
            return self.say(500, b"<h1>Oops</h1>", kind="text/html")
        if how == "garbled":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            self.close_connection = True
            return None
        if how == "drops":
            self.close_connection = True
            return None
        seen = {"method": self.command, "path": self.path, "body": body}
        seen["headers"] = {key.lower(): value for key, value in self.headers.items()}
        return self.say(200, json.dumps(seen).encode())

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def say(self, status, body, kind="application/json", location=None):
        self.send_response(status)
        self.send_header("content-type", kind)
        if location:
            self.send_header("location", location)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
        return None

    def log_message(self, *words):
        print(*words, os.environ.get("KEY"), file=sys.stderr, flush=True)


print("listening soon", flush=True)
if sys.argv[1] == "0":
    sys.exit("no port")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
