"""What a user of openstacksdk does with Ironic: enrol, deploy, change, look.

    sdk.py SERVER

`DEPLOYMENT` says on which machine, and what. The node is left there, deployed.
"""

import json
import os
import sys

import openstack

LIMIT_SECONDS = 300


def main():
    what = json.loads(os.environ["DEPLOYMENT"])
    cloud = openstack.connect(
        auth_type="none", endpoint=sys.argv[1], baremetal_endpoint_override=sys.argv[1],
        baremetal_api_version="1.115")
    baremetal = cloud.baremetal

    assert [driver.name for driver in baremetal.drivers()] == ["fake-hardware", "ipmi", "redfish"], \
        list(baremetal.drivers())
    assert all(conductor.alive for conductor in baremetal.conductors())

    node = baremetal.create_node(
        id=what["machine"], name=what["a"], driver="fake-hardware",
        driver_info={"disk_bytes": what["disk_bytes"], "fake_password": "secret"},
        provision_state="enroll")
    assert node.provision_state == "enroll" and node.driver_info["fake_password"] == "******"
    node = baremetal.update_node(node, is_automated_clean_enabled=False, resource_class="large")
    assert node.resource_class == "large"
    node = baremetal.patch_node(node, [{"op": "add", "path": "/extra/rack", "value": 7}])
    assert node.extra == {"rack": 7}, node.extra
    port = baremetal.create_port(node_id=node.id, address=what["address"])
    assert [it.id for it in baremetal.ports(node=node.id)] == [port.id]
    assert baremetal.get_port(port.id).address == what["address"]

    node = baremetal.set_node_provision_state(node, "manage", wait=True, timeout=LIMIT_SECONDS)
    node = baremetal.set_node_provision_state(node, "provide", wait=True, timeout=LIMIT_SECONDS)
    assert node.provision_state == "available"
    assert [it.id for it in baremetal.nodes(provision_state="available")] == [node.id]

    baremetal.set_node_maintenance(node, reason="fan")
    assert baremetal.get_node(node.id).is_maintenance
    baremetal.unset_node_maintenance(node)

    node = baremetal.update_node(node, instance_info={
        "image_source": what["image"], "image_checksum": what["checksum"]})
    baremetal.validate_node(node, required=("boot", "deploy", "power"))
    baremetal.set_node_provision_state(
        node, "active", config_drive=json.loads(what["drive"]), wait=True, timeout=LIMIT_SECONDS)
    baremetal.wait_for_nodes_provision_state([node.id], "active", timeout=LIMIT_SECONDS)
    assert baremetal.get_node(node.id, fields=["power_state"]).power_state == "power on"

    baremetal.set_node_power_state(node, "power off", wait=True, timeout=LIMIT_SECONDS)
    baremetal.set_node_power_state(node, "rebooting", wait=True, timeout=LIMIT_SECONDS)
    found = baremetal.find_node(what["a"])
    assert found.id == node.id and baremetal.find_node("nobody") is None

    other = baremetal.create_node(name="sdk-other", driver="fake-hardware", provision_state="enroll")
    baremetal.delete_node(other.id)
    try:
        baremetal.get_node(other.id)
    except openstack.exceptions.NotFoundException:
        pass
    else:
        raise AssertionError("a node that was deleted is still there")


if __name__ == "__main__":
    main()
