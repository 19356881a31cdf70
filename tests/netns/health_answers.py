"""Answers health checks of a backend as a file says: `python health_answers.py PORT FILE`."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(Path(sys.argv[2]).read_text()))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words):
        pass


server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Answer)
print("ready", flush=True)
server.serve_forever()
