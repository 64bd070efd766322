//! The file that this code was loaded from, which a host may unload: a plugin, a driver, an extension module.

/// Has the code stay in memory for good. To be called before anything is made that runs code of this crate after the
/// call: a thread, or a handler. glibc takes back what was registered with `atexit` when its library is closed, but not
/// what was with `on_exit`, and nothing takes back threads and signal handlers.
///
/// Costs some microseconds once, and changes nothing for a library that is never closed. In a program that is linked as
/// a whole there is nothing to do.
pub(crate) fn keep() {
    #[cfg(any(
        all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")),
        target_os = "freebsd"
    ))]
    pinned::pin();
    // Elsewhere: musl closes no library, and macOS none that has thread-locals.
}

#[cfg(any(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")), target_os = "freebsd"))]
mod pinned {
    use std::{
        ffi::c_void,
        mem::MaybeUninit,
        ptr,
        sync::atomic::{AtomicBool, Ordering},
    };

    pub(super) fn pin() {
        // Twice does no harm, and nobody waits for who is at it: a fork may have left them behind.
        static PINNED: AtomicBool = AtomicBool::new(false);
        if PINNED.load(Ordering::Relaxed) {
            return;
        }
        let ours = object_of(pin as fn() as *const c_void).filter(|ours| !is_program(ours));
        if let Some(ours) = ours.filter(|ours| !ours.dli_fname.is_null()) {
            let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            // Where it is refused nothing can be done about it. The handle is never closed.
            // SAFETY: the name is that of the object this code is in, which is loaded as long as it runs. With
            // RTLD_NOLOAD nothing else is loaded, and so no constructor runs.
            unsafe { libc::dlopen(ours.dli_fname, flags) };
        }
        PINNED.store(true, Ordering::Relaxed);
    }

    /// Which loaded object an address is in.
    fn object_of(address: *const c_void) -> Option<libc::Dl_info> {
        let mut found = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: `found` is valid for the write, and all of it is written where something is found. The address is
        // not read from.
        (unsafe { libc::dladdr(address, found.as_mut_ptr()) } != 0).then(|| unsafe { found.assume_init() })
    }

    /// Whether an object is the program itself, which nobody closes.
    #[cfg(target_os = "linux")]
    fn is_program(object: &libc::Dl_info) -> bool {
        // SAFETY: takes and answers a number; that of the address of the program's headers, or 0.
        let headers = unsafe { libc::getauxval(libc::AT_PHDR) };
        let program = object_of(ptr::without_provenance(headers as usize));
        program.is_some_and(|program| program.dli_fbase == object.dli_fbase)
    }

    #[cfg(not(target_os = "linux"))]
    fn is_program(_: &libc::Dl_info) -> bool {
        false
    }
}
