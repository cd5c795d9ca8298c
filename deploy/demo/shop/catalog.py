"""The catalog of the demo shop: products from PostgreSQL over HTTP, with a ranking that costs some CPU per request.

Plain Python 3, no package: the PostgreSQL client below speaks just enough of the protocol (password, extended
and simple query). A failed query answers 500, an exhausted pool 503 after two seconds. Settings come from the
environment, faults from standard input as JSON lines; end of input stops it.
"""
import json
import os
import queue
import random
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POOL_SIZE = 12
POOL_WAIT_S = 2.0
CPU_PER_REQUEST_S = 0.006
control = {"errors": 0.0}


class DatabaseError(Exception):
    pass


class Connection:
    """One PostgreSQL connection; unusable after an OSError, usable after a DatabaseError."""

    def __init__(self, host, port, user, password, database):
        self.socket = socket.create_connection((host, port), timeout=3)
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")
        body = struct.pack("!i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        while True:
            kind, data = self._read()
            if kind == b"R":
                method = struct.unpack("!i", data[:4])[0]
                if method == 3:
                    self.socket.sendall(self._message(b"p", password.encode() + b"\0"))
                elif method != 0:
                    raise DatabaseError(f"authentication method {method} is not supported, expected password")
            elif kind == b"E":
                raise DatabaseError(self._error(data))
            elif kind == b"Z":
                return

    @staticmethod
    def _message(kind, body):
        return kind + struct.pack("!i", len(body) + 4) + body

    @staticmethod
    def _error(data):
        fields = {part[:1]: part[1:].decode() for part in data.split(b"\0") if part}
        return f"{fields.get(b'C', '?')} {fields.get(b'M', 'unknown error')}"

    def _read(self):
        head = self.input.read(5)
        if len(head) < 5:
            raise ConnectionResetError("the database closed the connection")
        length = struct.unpack("!i", head[1:])[0] - 4
        return head[:1], self.input.read(length)

    def _rows(self):
        rows, error = [], None
        while True:
            kind, data = self._read()
            if kind == b"D":
                rows.append(self._row(data))
            elif kind == b"E":
                error = self._error(data)
            elif kind == b"Z":
                if error is not None:
                    raise DatabaseError(error)
                return rows

    @staticmethod
    def _row(data):
        count, at, row = struct.unpack("!h", data[:2])[0], 2, []
        for _ in range(count):
            length = struct.unpack("!i", data[at : at + 4])[0]
            at += 4
            if length < 0:
                row.append(None)
            else:
                row.append(data[at : at + length].decode())
                at += length
        return row

    def query(self, text, *arguments):
        bind = struct.pack("!h", len(arguments))
        for argument in arguments:
            value = str(argument).encode()
            bind += struct.pack("!i", len(value)) + value
        self.socket.sendall(
            self._message(b"P", b"\0" + text.encode() + b"\0\0\0")
            + self._message(b"B", b"\0\0\0\0" + bind + b"\0\0")
            + self._message(b"E", b"\0\0\0\0\0")
            + self._message(b"S", b"")
        )
        return self._rows()

    def simple(self, text):
        self.socket.sendall(self._message(b"Q", text.encode() + b"\0"))
        return self._rows()

    def close(self):
        self.input.close()
        self.socket.close()


class Pool:
    """At most POOL_SIZE connections, made when needed; a broken one is replaced at the next request."""

    def __init__(self, **settings):
        self.settings = settings
        self.slots = queue.LifoQueue()
        for _ in range(POOL_SIZE):
            self.slots.put(None)

    def run(self, work):
        connection = self.slots.get(timeout=POOL_WAIT_S)
        try:
            if connection is None:
                connection = Connection(**self.settings)
            return work(connection)
        except OSError:
            if connection is not None:
                connection.close()
            connection = None
            raise
        finally:
            self.slots.put(connection)


def rank(rows, rounds):
    """Orders products by a score computed in pure Python: the CPU work of a request."""
    scores = {}
    for number in range(rounds):
        for row in rows:
            score = scores.get(row[0], 7)
            for letter in row[1]:
                score = (score * 31 + ord(letter) + number) % 1000003
            scores[row[0]] = score
    return sorted(rows, key=lambda row: scores[row[0]])


def calibrate():
    """Rounds of rank() that cost CPU_PER_REQUEST_S here, so that the shop needs as much CPU on any machine."""
    sample = [[str(number), f"sample product {number}"] for number in range(20)]
    best = None
    for _ in range(5):
        before = time.thread_time()
        rank(sample, 10)
        spent = (time.thread_time() - before) / 10
        best = spent if best is None else min(best, spent)
    return max(1, round(CPU_PER_REQUEST_S / best))


def read_control():
    for line in sys.stdin:
        control.update(json.loads(line))
    os._exit(0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        try:
            if random.random() < control["errors"]:
                raise RuntimeError("price rule not found")
            if self.path == "/products":
                self.answer(200, self.server.products())
            elif self.path.startswith("/products/"):
                self.answer(200, self.server.product(int(self.path.rsplit("/", 1)[1])))
            else:
                self.answer(404, {"error": "no such page"})
        except queue.Empty:
            self.answer(503, {"error": f"no database connection within {POOL_WAIT_S} s"})
        except BrokenPipeError:
            self.close_connection = True
        except (OSError, DatabaseError, RuntimeError, ValueError) as error:
            print(f"ERROR {self.path}: {error}", file=sys.stderr, flush=True)
            self.answer(500, {"error": str(error)})


class Catalog(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address, pool):
        super().__init__(address, Handler)
        self.pool = pool
        self.rounds = calibrate()

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def products(self):
        rows = self.pool.run(lambda c: c.query("SELECT id, name, price FROM products ORDER BY id LIMIT 20"))
        return {"products": [{"id": int(r[0]), "name": r[1], "price": int(r[2])} for r in rank(rows, self.rounds)]}

    def product(self, number):
        def work(connection):
            if random.random() < 0.2:
                # the product of the week: one hot row that many requests write
                connection.simple("UPDATE products SET views = views + 1 WHERE id = 1")
            found = connection.query("SELECT id, name, price, views FROM products WHERE id = $1", number)
            near = connection.query("SELECT id, name FROM products WHERE id > $1 ORDER BY id LIMIT 20", number % 180)
            return found, near

        found, near = self.pool.run(work)
        related = [int(row[0]) for row in rank(near, self.rounds)[:5]]
        if not found:
            return {"id": number, "name": None, "related": related}
        row = found[0]
        return {"id": int(row[0]), "name": row[1], "price": int(row[2]), "related": related}


def main():
    env = os.environ
    pool = Pool(
        host=env["DATABASE_HOST"],
        port=int(env["DATABASE_PORT"]),
        user="shop",
        password=env["DATABASE_PASSWORD"],
        database="shop",
    )
    server = Catalog((env["LISTEN_HOST"], int(env["LISTEN_PORT"])), pool)
    threading.Thread(target=read_control, daemon=True).start()
    server.serve_forever()


main()
