//! Threads that the system starts without the standard library, which takes a lock of its own in each thread that
//! begins or ends. A fork while another thread does leaves that lock held for ever in the child: what the standard
//! library starts there never gets as far as its own code.

use std::{
    ffi::{CString, c_void},
    io,
    mem::{self, MaybeUninit},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

/// As the standard library's.
const STACK_BYTES: usize = 2 * 1024 * 1024;

struct Start {
    name: CString,
    run: Box<dyn FnOnce() + Send>,
}

/// Starts a thread that nobody waits for. It has no name for the standard library, and one for the system where that is
/// Linux; an overflow of its stack ends the process without a word. A panic ends it and nothing else.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let start = Start { name: CString::new(name)?, run: Box::new(run) };
    let attributes = Attributes::new()?;
    let start = Box::into_raw(Box::new(start));
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised as long as they live, and `thread` is valid for the write. `begin` is a
    // function of this signature that takes over the box behind the pointer, whatever thread it runs on.
    let failed = unsafe { libc::pthread_create(thread.as_mut_ptr(), &raw const attributes.0, begin, start.cast()) };
    if failed != 0 {
        // SAFETY: there is no thread that would have taken it over.
        drop(unsafe { Box::from_raw(start) });
    }
    checked(failed)
}

extern "C" fn begin(start: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` made it from such a box, and left it to this call.
    let Start { name, run } = *unsafe { Box::from_raw(start.cast::<Start>()) };
    name_this_thread(&name);
    if let Err(panicked) = catch_unwind(AssertUnwindSafe(run)) {
        // Dropping it may panic again.
        mem::forget(panicked);
    }
    ptr::null_mut()
}

fn name_this_thread(_name: &CString) {
    // One that is too long is refused, and nothing happens.
    #[cfg(target_os = "linux")]
    // SAFETY: the name is a string with its end, and the thread is the calling one.
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), _name.as_ptr())
    };
}

/// How the thread is made. Initialised as long as it lives.
struct Attributes(libc::pthread_attr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: valid for the write, and initialised if that succeeds.
        let mut attributes = unsafe {
            checked(libc::pthread_attr_init(attributes.as_mut_ptr()))?;
            Self(attributes.assume_init())
        };
        // SAFETY: initialised.
        checked(unsafe { libc::pthread_attr_setstacksize(&raw mut attributes.0, STACK_BYTES) })?;
        let detached = libc::PTHREAD_CREATE_DETACHED;
        // SAFETY: initialised.
        checked(unsafe { libc::pthread_attr_setdetachstate(&raw mut attributes.0, detached) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and used no more.
        unsafe { libc::pthread_attr_destroy(&raw mut self.0) };
    }
}

fn checked(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_bare_thread_runs_what_it_is_given_with_its_name_and_survives_a_panic() {
        let (tell, told) = mpsc::channel();
        spawn("otlp-test", move || {
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
            tell.send(name).unwrap();
            panic!("on purpose");
        })
        .unwrap();
        let name = told.recv().unwrap();
        assert!(name == "otlp-test\n" || !cfg!(target_os = "linux"), "{name}");
        assert!(told.recv().is_err(), "its end is that of the thread alone");
    }
}
