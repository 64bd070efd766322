//! Hosts that are reached without a proxy: the syntax of `NO_PROXY`.
//!
//! Whatever curl exempts is exempt. So is what other programs exempt and curl silently ignores: a host with its port, a
//! parent domain behind `*.`, an asterisk among others, a network of IPv6 in brackets or of no bits at all. The author
//! of such an entry does not want a proxy to be used.

use std::net::IpAddr;

/// Whether an entry of `list` matches this host and port. The host is in the form it has in a URL; names are not looked
/// up. Entries are separated by commas, blanks or both; an entry that cannot be parsed matches nothing.
pub(super) fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = without_dot(host.trim_matches(['[', ']']));
    let address: Option<IpAddr> = host.parse().ok();
    let mut entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
    entries.any(|entry| {
        let about = |entry: &str| match address {
            Some(address) => holds_address(entry, address),
            None => holds_name(entry, host),
        };
        entry == "*" || about(entry) || of_port(entry, port).is_some_and(about)
    })
}

/// The entry without its port; `None` if that is another port.
fn of_port(entry: &str, port: u16) -> Option<&str> {
    let (entry, digits) = entry.rsplit_once(':')?;
    // Otherwise it is the end of an IPv6 address.
    let is_port = !entry.contains(':') || entry.ends_with(']');
    (is_port && digits.parse() == Ok(port)).then_some(entry)
}

/// A domain matches itself and all its subdomains, with or without a leading dot.
fn holds_name(entry: &str, host: &str) -> bool {
    let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
    let domain = without_dot(entry.strip_prefix('.').unwrap_or(entry));
    let Some(at) = host.len().checked_sub(domain.len()).filter(|_| !domain.is_empty()) else { return false };
    let is_below = at == 0 || host.as_bytes()[at - 1] == b'.';
    is_below && host.as_bytes()[at..].eq_ignore_ascii_case(domain.as_bytes())
}

/// An address matches itself; a network matches all addresses with its first bits.
fn holds_address(entry: &str, address: IpAddr) -> bool {
    // `[2001:db8::]/32` and `[2001:db8::/32]`.
    let bare = entry.replace(['[', ']'], "");
    let (network, bits) = match bare.split_once('/') {
        Some((network, bits)) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (network, bits.parse::<u32>().ok())
        }
        Some(_) => return false,
        None => (&*bare, Some(128)),
    };
    let is_network = bare.len() > network.len();
    let (Ok(network), Some(bits)) = (network.parse::<IpAddr>(), bits) else { return false };
    let (all, differing) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (32, u128::from(network.to_bits() ^ address.to_bits())),
        (IpAddr::V6(network), IpAddr::V6(address)) => (128, network.to_bits() ^ address.to_bits()),
        _ => return false,
    };
    match bits {
        _ if !is_network => differing == 0,
        bits if bits > all => false,
        bits => differing.checked_shr(all - bits).unwrap_or(0) == 0,
    }
}

/// The trailing dot of the root is optional.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
