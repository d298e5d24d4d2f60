"""An S3-compatible server in memory: the requests that a store needs, with conditional writes, and no signatures."""

from __future__ import annotations

import hashlib
import threading
import xml.sax.saxutils as xml
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class S3Handler(BaseHTTPRequestHandler):
    """Objects are bytes by "/bucket/key"."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # a header and its body in one packet
    disable_nagle_algorithm = True
    objects: dict[str, bytes]
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    @property
    def key(self):
        return unquote(urlsplit(self.path).path)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(body), "Last-Modified": formatdate(usegmt=True)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            old = self.objects.get(self.key)
            expected = self.headers.get("If-Match")
            refused = (self.headers.get("If-None-Match") == "*" and old is not None) or (
                expected is not None and (old is None or expected != tag(old))
            )
            if not refused:
                self.objects[self.key] = body
        self.answer(412 if refused else 200, ETag=tag(body))

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self.answer(200, self.listing(query.get("prefix", [""])[0], query.get("delimiter", [""])[0]))
            return
        body = self.objects.get(self.key)
        if body is None:
            self.answer(404)
            return
        start, stop = 0, len(body)
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            start = int(first) if first else max(0, len(body) - int(last))
            stop = min(len(body), int(last) + 1) if first and last else len(body)
        about = {"ETag": tag(body)} | ({"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"} if asked else {})
        self.answer(206 if asked else 200, body[start:stop], **about)

    do_HEAD = do_GET

    def do_DELETE(self):
        self.objects.pop(self.key, None)
        self.answer(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = [xml.unescape(part.split("</Key>")[0]) for part in body.split("<Key>")[1:]]
        for key in keys:
            self.objects.pop(f"{self.key.rstrip('/')}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{xml.escape(key)}</Key></Deleted>" for key in keys)
        self.answer(200, f'<?xml version="1.0"?><DeleteResult>{deleted}</DeleteResult>'.encode())

    def listing(self, prefix, delimiter):
        root = self.key.rstrip("/") + "/"
        keys = sorted(key.removeprefix(root) for key in list(self.objects) if key.startswith(root + prefix))
        beyond = [key[len(prefix) :] for key in keys]
        folders = {prefix + k.split(delimiter)[0] + delimiter for k in beyond if delimiter and delimiter in k}
        text = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
        for key in keys:
            if not (delimiter and delimiter in key[len(prefix) :]):
                body = self.objects[root + key]
                text += (
                    f"<Contents><Key>{xml.escape(key)}</Key><Size>{len(body)}</Size><ETag>{xml.escape(tag(body))}"
                    "</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        for folder in sorted(folders):
            text += f"<CommonPrefixes><Prefix>{xml.escape(folder)}</Prefix></CommonPrefixes>"
        return (text + "</ListBucketResult>").encode()


def tag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


@contextmanager
def s3_server() -> Iterator[tuple[dict[str, str], dict[str, bytes]]]:
    """A running server: the environment that leads clients to it, and its objects."""
    handler = type("Handler", (S3Handler,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield (
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
            },
            handler.objects,
        )
    finally:
        server.shutdown()
        server.server_close()
