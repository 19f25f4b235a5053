"""A cluster with a fleet of simulated machines in many states, as `bessemer dev` runs it."""

import hashlib
import http.server
import os
import pathlib
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

BESSEMER = pathlib.Path(__file__).parents[2] / "target/debug/bessemer"
LIMIT_SECONDS = 180
CLASSES = ["compute", "storage", "gpu"]


class Fleet:
    """Runs until it is closed; everything it made is removed then."""

    def __init__(self, machines=0):
        self.directory = tempfile.TemporaryDirectory(prefix="bessemer-dashboard-")
        self.process = subprocess.Popen(
            [BESSEMER, "dev", "--data", f"{self.directory.name}/dev", "--listen", "127.0.0.1:0",
             "--dashboard", "127.0.0.1:0", "--machines", str(machines)],
            stdout=subprocess.PIPE, text=True)
        self.api = self._told("api")
        self.url = self._told("dashboard")
        self.image = pathlib.Path(self.directory.name) / "debian-12.raw"
        self.image.write_bytes(os.urandom(1 << 20) + bytes(30 << 20) + os.urandom(1 << 20))

    def _told(self, what):
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == [what]:
                return words[1]
        raise SystemExit(f"bessemer dev ended without telling its {what}")

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.directory.cleanup()

    def bessemer(self, *arguments, check=True):
        environment = dict(os.environ, BESSEMER_API=self.api, BESSEMER_ACTOR="ada")
        done = subprocess.run([BESSEMER, *arguments], env=environment, text=True, capture_output=True)
        if check and done.returncode:
            raise SystemExit(f"bessemer {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def each(self, nodes, *arguments, check=True):
        """Runs `bessemer node VERB NODE …` for each of the nodes, a few at a time."""
        verb, *rest = arguments
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda node: self.bessemer("node", verb, node, *rest, check=check), nodes))

    def populate(self, racks, in_rack):
        """A fleet as it may be on any day: most of it runs, some is free, some is worked on, some has failed."""
        names = [f"r{rack:02}-n{place:02}" for rack in range(1, racks + 1) for place in range(1, in_rack + 1)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda it: self.bessemer(
                "node", "create", "--name", it[1], "--driver", "fake", "--driver-info", f"disk_bytes={64 << 20}",
                "--resource-class", CLASSES[it[0] * len(CLASSES) // len(names)], "--property", "memory_mb=262144",
                "--port", "02:be:55:%02x:%02x:%02x" % (it[0] >> 16, it[0] >> 8 & 255, it[0] & 255)), enumerate(names)))
        count = len(names)
        managed, provided, deployed = names[:count * 19 // 20], names[:count * 17 // 20], names[:count * 13 // 20]
        self.each(managed, "manage", "--wait")
        self.each(provided, "provide", "--wait")
        self.each(deployed, "deploy", "--image", str(self.image), "--wait")
        damaged = pathlib.Path(self.directory.name) / "damaged.raw"
        damaged.write_bytes(self.image.read_bytes())
        self.each(provided[-6:-3], "deploy", "--image", str(damaged), "--checksum", "0" * 64, "--wait", check=False)
        for node in deployed[40:42] + provided[-9:-7]:
            self.bessemer("node", "maintenance", "on", node, "--reason", "fan replaced")
        return names, provided[-30:-10]


class SlowImage:
    """Serves an image so slowly that its preparation can be watched."""

    def __init__(self, content):
        self.sha256 = hashlib.sha256(content).hexdigest()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()

            def do_GET(self):
                self.do_HEAD()
                try:
                    for start in range(0, len(content), 1 << 18):
                        self.wfile.write(content[start:start + (1 << 18)])
                        time.sleep(0.5)
                except OSError:
                    pass  # It was enough.

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ubuntu-24.04.raw"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
