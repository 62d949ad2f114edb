"""A handler in Python, on the interfaces of wasi:http as its toolchain binds them."""

from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

# Kept by an instance from one request to the next.
seen = 0


def read(request: IncomingRequest) -> bytes:
    body = request.consume()
    pieces = []
    with body.stream() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(64 * 1024))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return b"".join(pieces)
                raise


def answer(request: IncomingRequest) -> tuple[int, bytes, bytes]:
    """The status, the content type and the body."""
    global seen
    url = urlsplit(request.path_with_query() or "/")
    match url.path:
        case "/":
            name = parse_qs(url.query).get("name", ["world"])[0]
            return 200, b"text/plain", f"hello, {name}\n".encode()
        case "/seen":
            seen += 1
            return 200, b"text/plain", str(seen).encode()
        case "/echo":
            return 200, request.headers().get("content-type")[0], read(request)
        case "/throw":
            raise RuntimeError("thrown on purpose")
        case _:
            return 404, b"text/plain", b"not found\n"


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        status, media, content = answer(request)
        response = OutgoingResponse(Fields.from_list([("content-type", media)]))
        response.set_status_code(status)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            # What one write takes at most.
            for start in range(0, len(content), 4096):
                stream.blocking_write_and_flush(content[start : start + 4096])
        OutgoingBody.finish(body, None)
