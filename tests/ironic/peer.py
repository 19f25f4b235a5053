"""Starts a real Ironic with fake hardware on loopback, and runs a command beside it.

    peer.py PORT COMMAND...

Everything it needs is in a directory that is removed in the end. `IRONIC_PID` tells the command its process.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CONFIG = """
[DEFAULT]
auth_strategy = noauth
rpc_transport = none
host = peer
state_path = {home}/state
enabled_hardware_types = fake-hardware
enabled_boot_interfaces = fake
enabled_deploy_interfaces = fake,direct
enabled_inspect_interfaces = no-inspect,fake
enabled_management_interfaces = fake
enabled_network_interfaces = noop
enabled_power_interfaces = fake
enabled_storage_interfaces = noop
default_deploy_interface = fake
[api]
host_ip = 127.0.0.1
port = {port}
[conductor]
automated_clean = false
[database]
connection = sqlite:///{home}/ironic.sqlite
[oslo_concurrency]
lock_path = {home}/lock
"""

READY_SECONDS = 120

PR_SET_PDEATHSIG = 1


def die_with_parent():
    """However this process ends, the server does not outlive it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main():
    port, command = sys.argv[1], sys.argv[2:]
    programs = pathlib.Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="ironic-") as directory:
        home = pathlib.Path(directory)
        for name in ("state", "lock"):
            (home / name).mkdir()
        config = home / "ironic.conf"
        config.write_text(CONFIG.format(home=home, port=port))
        with open(home / "log", "w", encoding="utf-8") as log:
            option = ["--config-file", str(config)]
            create = [programs / "ironic-dbsync", *option, "create_schema"]
            subprocess.run(create, check=True, stdout=log, stderr=log)
            server = subprocess.Popen(
                [programs / "ironic", *option], stdout=log, stderr=log, preexec_fn=die_with_parent)
            try:
                wait_until_ready(port, home / "log", server)
                environment = {**os.environ, "IRONIC_PID": str(server.pid)}
                return subprocess.run(command, check=False, env=environment).returncode
            finally:
                server.terminate()
                server.wait(30)


def wait_until_ready(port, log, server):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/conductors", timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"Ironic is not ready:\n{log.read_text()[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
