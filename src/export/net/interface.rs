//! The network interfaces of this machine, by their names.

/// The number of an interface that is given by its name or, if none has that name, by its number; `None` if there is
/// none. Takes up to a few system calls.
#[cfg(unix)]
pub(in crate::export) fn number(zone: &str) -> Option<u32> {
    let name = std::ffi::CString::new(zone).ok()?;
    // SAFETY: the name ends with a zero, lives until the call is over, and is only read.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => zone.parse().ok(),
        number => Some(number),
    }
}

#[cfg(not(unix))]
pub(in crate::export) fn number(zone: &str) -> Option<u32> {
    zone.parse().ok()
}
