"""A session of python-ironicclient's `baremetal` over everything that is served.

    session.py SERVER [PEER]

Each command must end as its line says, at SERVER. With PEER, a real Ironic, each command is run there too: exit code and
fields of the answer must be the same, but for DIFFERENCES. The client runs in this process, as its own `main`: starting it
anew for each command would take most of the time.
"""

import contextlib
import io
import json
import os
import re
import sys
import time

from ironicclient.shell import main

CHECKSUM = "a" * 64

# What is different on purpose: the command's first words, the fields, and why.
DIFFERENCES = [
    ("node show", {"portgroups", "volume"}, "there are no port groups and volumes"),
    ("node create", {"portgroups", "volume"}, "there are no port groups and volumes"),
    ("node validate", {"Reason"}, "reasons are our own words"),
    ("driver show", None, "interfaces that are enabled differ from site to site"),
]

# Commands, what they end with, and what must be in the answer. `{a}` and `{b}` are the names of two nodes.
STEPS = [
    ("driver list", 0, "fake-hardware"),
    ("driver show fake-hardware", 0, "fake-hardware"),
    ("driver show abacus", 1, None),
    ("conductor list", 0, None),
    ("conductor list --long", 0, None),
    ("node list", 0, None),
    ("node create --driver abacus", 1, None),
    ("node create --driver fake-hardware --name {a} --driver-info a=1 --property cpus=4 --extra rack=7"
     " --resource-class large --description first", 0, "enroll"),
    ("node create --driver fake-hardware --name {a}", 1, None),
    ("node create --driver fake-hardware --name {b} --no-automated-clean --deploy-interface direct"
     " --boot-interface fake --power-interface fake", 0, "enroll"),
    ("node create --driver fake-hardware --name {c} --boot-interface ipxe", 1, None),
    ("node show {a}", 0, "large"),
    ("node show nobody", 1, None),
    ("node show {a} --fields name driver", 0, "fake-hardware"),
    ("node show {a} --fields colour", 2, None),
    ("node list --long", 0, "{a}"),
    ("node list --fields uuid name provision_state", 0, "{b}"),
    ("node list --sort name:desc", 0, "{a}"),
    ("node list --limit 1", 0, None),
    ("node list --provision-state enroll", 0, "{a}"),
    ("node list --driver fake-hardware", 0, "{a}"),
    ("node list --driver abacus", 0, None),
    ("node list --resource-class large", 0, "{a}"),
    ("node list --description-contains fir", 0, "{a}"),
    ("node list --maintenance", 0, None),
    ("node list --no-maintenance", 0, "{a}"),
    ("node list --unassociated", 0, "{a}"),
    ("node list --conductor-group ''", 0, "{a}"),
    ("node set {a} --description second --resource-class huge", 0, None),
    ("node show {a} --fields description resource_class", 0, "second"),
    ("node set {a} --extra row=b --property memory_mb=1024", 0, None),
    ("node show {a} --fields extra properties", 0, "row"),
    ("node unset {a} --extra row", 0, None),
    ("node unset {a} --extra none", 1, None),
    ("node set {a} --name {c}", 0, None),
    ("node show {c} --fields name", 0, "{c}"),
    ("node set {c} --name {a}", 0, None),
    ("node set {a} --driver abacus", 1, None),
    ("node set {a} --driver-info image_download_source=local", 0, None),
    ("node set {a} --driver-info fake_password=secret", 0, None),
    ("node show {a} --fields driver_info", 0, "******"),
    ("node set {a} --deploy-interface direct", 0, None),
    ("node set {a} --boot-interface fake", 0, None),
    ("node set {a} --no-automated-clean", 0, None),
    ("node show {a} --fields automated_clean deploy_interface boot_interface", 0, "direct"),
    ("node set {a} --automated-clean", 0, None),
    ("node unset {a} --description", 0, None),
    ("node set {a} --owner me --lessee you", 0, None),
    ("node show {a} --fields owner lessee", 0, "you"),
    ("node set {a} --protected", 1, None),
    ("node set {a} --retired --retired-reason old", 0, None),
    ("node list --retired", 0, "{a}"),
    ("node unset {a} --retired", 0, None),
    ("node add trait {a} CUSTOM_GPU CUSTOM_SSD", 0, None),
    ("node trait list {a}", 0, "CUSTOM_SSD"),
    ("node remove trait {a} CUSTOM_GPU", 0, None),
    ("node remove trait {a} --all", 0, None),
    ("node maintenance set {a} --reason fan", 0, None),
    ("node show {a} --fields maintenance maintenance_reason", 0, "fan"),
    ("node list --maintenance", 0, "{a}"),
    ("node maintenance unset {a}", 0, None),
    ("port create 52:54:00:aa:00:01 --node {uuid}", 0, "52:54:00:aa:00:01"),
    ("port create 52:54:00:aa:00:01 --node {uuid}", 1, None),
    ("port create nonsense --node {uuid}", 1, None),
    ("port list", 0, "52:54:00:aa:00:01"),
    ("port list --long", 0, "52:54:00:aa:00:01"),
    ("port list --node {a}", 0, "52:54:00:aa:00:01"),
    ("port list --address 52:54:00:aa:00:01", 0, "52:54:00:aa:00:01"),
    ("port show --address 52:54:00:aa:00:01", 0, "52:54:00:aa:00:01"),
    ("port delete 0192f1a6-0000-7000-8000-000000000001", 1, None),
    ("node validate {a}", 0, "deploy"),
    ("node provide {a}", 1, None),
    ("node deploy {a}", 1, None),
    ("node manage {b} --wait 120", 0, None),
    ("node show {b} --fields provision_state power_state", 0, "manageable"),
    ("node power on {b}", 0, None),
    ("node reboot {b}", 0, None),
    ("node power off {b}", 0, None),
    ("node clean {b}", 2, None),
    ("node provide {b} --wait 120", 0, None),
    ("node list --provision-state available", 0, "{b}"),
    ("allocation create --resource-class small --name {c} --wait 60", 1, None),
    ("allocation delete {c}", 0, None),
    ("node set {b} --resource-class small", 0, None),
    ("allocation create --resource-class small --name {c} --wait 60", 0, "active"),
    ("allocation list", 0, "{c}"),
    ("allocation show {c}", 0, "small"),
    ("node list --associated --fields name", 0, "{b}"),
    ("node rescue {b} --rescue-password secret", 1, None),
    ("node service {b} --service-steps []", 1, None),
    ("allocation delete {c}", 0, None),
    ("allocation show {c}", 1, None),
    ("node inspect {b}", 1, None),
    ("node history list {b}", 0, None),
    ("node inventory save {b}", 1, None),
    ("node manage {b} --wait 120", 0, None),
    ("node rebuild {b}", 1, None),
    ("node undeploy {b}", 1, None),
    ("node abort {b}", 1, None),
    ("node delete {b}", 0, None),
    ("node delete {b}", 1, None),
    ("node delete {a}", 0, None),
    ("port list", 0, None),
]

# Ours alone: a deployment with an image that there is, which real Ironic's fake machines do not write, and what real Ironic
# answers with 500 (`node unset --automated-clean`).
DEPLOYMENT = [
    ("node create --driver fake-hardware --name {a} --no-automated-clean --uuid {machine}"
     " --driver-info disk_bytes={disk_bytes}", 0, "enroll"),
    ("port create {address} --node {machine}", 0, None),
    ("node unset {a} --automated-clean", 0, None),
    ("node set {a} --no-automated-clean", 0, None),
    ("node manage {a} --wait 300", 0, None),
    ("node inspect {a} --wait 300", 0, None),
    ("node inventory save {a} --file {file}", 0, None),
    ("node provide {a} --wait 300", 0, None),
    ("node validate {a}", 0, "deploy"),
    ("node deploy {a}", 1, None),
    ("node set {a} --instance-info image_source={image} --instance-info image_checksum={checksum}", 0, None),
    ("node deploy {a} --config-drive {drive} --wait 300", 0, None),
    ("node show {a} --fields provision_state instance_info power_state", 0, "active"),
    ("node rebuild {a} --wait 300", 0, None),
    ("node undeploy {a} --wait 300", 0, None),
    ("node show {a} --fields provision_state instance_info", 0, "available"),
    ("node manage {a} --wait 300", 0, None),
    ('node clean {a} --clean-steps [{{"interface":"deploy","step":"erase_devices_metadata"}}] --wait 300', 0, None),
    ("node history list {a} --long", 0, "deploying"),
    ("node delete {a}", 0, None),
]


class Server:
    """An API, and what its commands have said."""

    def __init__(self, url, names):
        self.url = url
        self.names = dict(names)

    def run(self, command):
        """Runs one command. Gives exit code, answer and complaint."""
        argv = [self.value(word) for word in split(command)]
        if takes_format(argv):
            argv += ["-f", "json"]
        os.environ.update(OS_AUTH_TYPE="none", OS_ENDPOINT=self.url)
        if "OS_USERNAME" in os.environ:
            os.environ["OS_AUTH_TYPE"] = "http_basic"
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(argv)
            except SystemExit as stop:
                code = stop.code
        try:
            answer = json.loads(out.getvalue())
        except ValueError:
            answer = None
        if argv[:2] == ["node", "create"] and isinstance(answer, dict):
            self.names["uuid"] = self.names.get("uuid", answer["uuid"])
        return code, answer, out.getvalue() + err.getvalue()

    def value(self, word):
        return word.format(**{"uuid": "", **self.names})


def split(command):
    """Words between spaces; two quotes stand for an empty one."""
    return ["" if word == "''" else word for word in command.split(" ")]


def takes_format(argv):
    """Whether the command answers with a table."""
    shown = re.compile(r"^(node|port|driver|conductor) (list|show|create|validate|history list)")
    return bool(shown.match(" ".join(argv)))


def fields(answer):
    """The names of what an answer holds."""
    if isinstance(answer, list):
        return set(answer[0]) if answer else set()
    return set(answer or ())


def check(server, step):
    """Runs a step, and says what is wrong with how it ended."""
    command, expected, part = step
    code, answer, text = server.run(command)
    wrong = []
    if code != expected:
        wrong.append(f"ended with {code}, not {expected}: {text.strip()[-600:]}")
    if part is not None and server.value(part) not in text:
        wrong.append(f"does not show {server.value(part)}: {text.strip()[-600:]}")
    return wrong, code, answer


def compare(command, ours, theirs):
    """What is different in the two answers and should not be."""
    name = " ".join(command.split()[:2])
    allowed = [fields for prefix, fields, _ in DIFFERENCES if prefix == name]
    if None in allowed:
        return []
    expected = set().union(*allowed)
    wrong = []
    if ours[0] != theirs[0]:
        wrong.append(f"exit code {ours[0]}, at the peer {theirs[0]}")
    missing, more = fields(theirs[1]) - fields(ours[1]), fields(ours[1]) - fields(theirs[1])
    # An empty list tells no fields.
    if ours[1] and theirs[1] and (missing | more) - expected:
        wrong.append(f"lacks {sorted(missing - expected)}, has {sorted(more - expected)} more")
    return wrong


def session(steps, names, urls):
    """Runs the steps at every server. Gives the number of complaints."""
    servers = [Server(url, names) for url in urls]
    complaints = 0
    for step in steps:
        begun = time.monotonic()
        results = [check(server, step) for server in servers]
        wrong = [f"{server.url}: {it}" for server, result in zip(servers, results) for it in result[0]]
        if len(results) == 2:
            wrong += compare(step[0], results[0][1:], results[1][1:])
        verdict = "; ".join(wrong) or "as expected"
        print(f"{time.monotonic() - begun:6.1f} s  baremetal {step[0]}: {verdict}", flush=True)
        complaints += len(wrong)
    return complaints


def run():
    urls = sys.argv[1:]
    names = {"a": "session-a", "b": "session-b", "c": "session-c"}
    complaints = session(STEPS, names, urls)
    count = len(STEPS)
    if "DEPLOYMENT" in os.environ:
        names |= json.loads(os.environ["DEPLOYMENT"])
        complaints += session(DEPLOYMENT, names, urls[:1])
        count += len(DEPLOYMENT)
    print(f"{count} commands, {complaints} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(run())
