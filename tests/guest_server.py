"""A web server for inside a sandbox, as the text of a program: its answers tell what has come in."""


def answering(port: int, *headers: str) -> str:
    """Return a server that says `listening`, then answers with the path and those headers; `/missing` is not found."""
    return f"""
import http.server

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = " ".join([self.path, *(str(self.headers[name]) for name in {headers!r})]).encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Answered", "inside")
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", {port}), Answers)
print("listening", flush=True)
server.serve_forever()
"""
