import pytest

from reconciler.lab import http


def test_an_answer_is_read_as_it_was_written():
    written = http.write_answer("b1", "192.0.2.2 4711", b"hello")
    answer = http.read_answer(written + b"more")
    assert answer == http.Answer("b1", "192.0.2.2 4711", b"hello", len(written))


def test_no_part_of_an_answer_is_an_answer():
    written = http.write_answer("b1", "192.0.2.2 4711", b"hello")
    assert all(http.read_answer(written[:end]) is None for end in range(len(written)))


def test_a_request_is_read_as_it_was_written():
    written = http.write_request("/bytes/10")
    assert http.read_request(written + b"GET") == ("/bytes/10", len(written))
    assert all(http.read_request(written[:end]) is None for end in range(len(written)))


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 503 No\r\nX-Backend: b1\r\nX-Client: c 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Client: c 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Backend: b1\r\nX-Client: c 1\r\nContent-Length: x\r\n\r\n",
        b"x" * (http.MAX_HEAD_BYTES + 1),
    ],
)
def test_a_strange_answer_is_refused(message):
    with pytest.raises(http.BadMessage):
        http.read_answer(message)


@pytest.mark.parametrize("message", [b"PUT / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"x" * 10_000])
def test_a_strange_request_is_refused(message):
    with pytest.raises(http.BadMessage):
        http.read_request(message)
