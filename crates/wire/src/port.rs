//! Network interfaces of nodes.

use bessemer_domain::Invalid;
use bessemer_domain::ids::NodeId;
use bessemer_domain::port::{Port, PortSpec};
use bessemer_proto::v1;

use crate::text::{SHORT_CHARACTERS_MAX, bounded};
use crate::{json, time};

/// The port as a message.
#[must_use]
pub fn to_proto(port: &Port) -> v1::Port {
    v1::Port {
        metadata: Some(v1::Metadata {
            id: port.id.to_string(),
            name: String::new(),
            created_at: Some(time::to_proto(port.created_at)),
            updated_at: Some(time::to_proto(port.updated_at)),
        }),
        spec: Some(v1::PortSpec {
            node_id: port.spec.node.to_string(),
            address: port.spec.address.to_string(),
            pxe_enabled: Some(port.spec.pxe_enabled),
            physical_network: port.spec.physical_network.clone(),
            extra: Some(json::to_proto(&port.spec.extra)),
        }),
        version: port.version,
    }
}

/// Checks what the caller says of a port of `node`.
///
/// # Errors
/// [`Invalid`] with the field's path from `spec`.
pub fn spec_from_proto(node: NodeId, spec: &v1::PortSpec) -> Result<PortSpec, Invalid> {
    Ok(PortSpec {
        node,
        address: spec.address.parse().map_err(|invalid: Invalid| invalid.under("spec"))?,
        pxe_enabled: spec.pxe_enabled.unwrap_or(true),
        physical_network: bounded(
            "spec.physical_network",
            &spec.physical_network,
            SHORT_CHARACTERS_MAX,
        )?,
        extra: json::from_proto("spec.extra", spec.extra.as_ref())?,
    })
}

#[cfg(test)]
mod tests {
    use bessemer_domain::Timestamp;
    use bessemer_domain::ids::PortId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn specs_come_back(node: u128, mac: [u8; 6], pxe_enabled: bool, physical_network in "[a-z]{0,9}") {
            let spec = PortSpec {
                node: NodeId::new(Uuid::from_u128(node)),
                address: mac.map(|byte| format!("{byte:02X}")).join("-").parse().unwrap(),
                pxe_enabled,
                physical_network,
                extra: serde_json::Map::from_iter([("rack".to_owned(), 4.into())]),
            };
            let port = Port {
                id: PortId::new(Uuid::nil()),
                version: 1,
                spec: spec.clone(),
                created_at: Timestamp::default(),
                updated_at: Timestamp::default(),
            };
            let shown = to_proto(&port).spec.unwrap();
            prop_assert_eq!(spec_from_proto(spec.node, &shown).unwrap(), spec);
        }
    }

    #[test]
    fn a_wrong_address_is_named() {
        let spec = v1::PortSpec { address: "52:54".into(), ..Default::default() };
        let invalid = spec_from_proto(NodeId::new(Uuid::nil()), &spec).unwrap_err();
        assert_eq!((invalid.field.as_str(), invalid.value.as_str()), ("spec.address", "52:54"));
    }
}
