//! The addresses of interfaces, which /sys does not tell.
#![expect(unsafe_code, reason = "getifaddrs has no safe wrapper in the crates we use")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// The list that the C library made; freed with the guard.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list came from getifaddrs and is freed once, here.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

/// IP addresses by interface name; empty when the kernel does not tell.
pub(super) fn addresses_by_interface() -> BTreeMap<String, Vec<String>> {
    let mut first = ptr::null_mut();
    // SAFETY: `first` is a valid place for the pointer; it is read after success only.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return BTreeMap::new();
    }
    let list = List(first);
    let mut by_interface: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut next = list.0;
    // SAFETY: `next` is null or a node of the list, which lives until the end of this function.
    while let Some(node) = unsafe { next.as_ref() } {
        next = node.ifa_next;
        // SAFETY: a node's name is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) }.to_string_lossy();
        // SAFETY: `ifa_addr` is null or a socket address of the length that its family has.
        if let Some(address) = unsafe { ip_address(node.ifa_addr) } {
            by_interface.entry(name.into_owned()).or_default().push(address.to_string());
        }
    }
    by_interface
}

/// The IP address in a socket address, if it is one.
///
/// # Safety
/// `address` is null or points to a socket address of the length that its family has.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by contract null or valid.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the family says that it is a `sockaddr_in`; read without asking for alignment.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for `sockaddr_in6`.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_its_address() {
        let addresses = addresses_by_interface();
        assert!(addresses["lo"].contains(&"127.0.0.1".to_owned()), "{addresses:?}");
    }
}
