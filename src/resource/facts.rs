//! What a process and its machine know of themselves: read at once, without network and without privileges.

use std::{fs, process, time::SystemTime};

use crate::env::{self, ARCH, OS};

/// Facts, of which those that nobody asked for are not looked up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// A random UUID.
    pub(super) instance: Option<String>,
    pub(super) pid: u32,
    /// When the process was created.
    pub(super) started: Option<SystemTime>,
    /// The file name of the program.
    pub(super) executable: Option<String>,
    pub(super) host_name: Option<String>,
    /// The machine's own id.
    pub(super) machine: Option<String>,
    /// What the program was compiled for, as the compiler names it.
    pub(super) arch: &'static str,
    pub(super) os: &'static str,
}

/// Which facts are looked up: those that take something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) instance: bool,
    pub(super) started: bool,
    pub(super) host_name: bool,
    pub(super) machine: bool,
}

impl Facts {
    /// What is `wanted` of this process as it is now.
    pub(super) fn of_this_process(wanted: Wanted, executable: Option<&str>) -> Self {
        let if_asked = |is_wanted, look_up: fn() -> Option<String>| if is_wanted { look_up() } else { None };
        Self {
            instance: if_asked(wanted.instance, random_uuid),
            pid: process::id(),
            started: if wanted.started { started() } else { None },
            executable: executable.map(str::to_owned),
            host_name: if_asked(wanted.host_name, env::host_name).filter(|name| !name.is_empty()),
            machine: if_asked(wanted.machine, machine_id),
            arch: ARCH,
            os: OS,
        }
    }
}

/// A UUID of version 4 (RES-12).
fn random_uuid() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    // Version and variant (RFC 9562, section 5.4).
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    Some([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// What systemd and D-Bus call this machine. Both files can be read by everybody (RES-11).
fn machine_id() -> Option<String> {
    let read = |path| read_machine_id(&fs::read_to_string(path).ok()?);
    ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(read)
}

/// Before the first boot is over the file says that there is no id yet.
fn read_machine_id(text: &str) -> Option<String> {
    let id = text.trim();
    (id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(target_os = "linux")]
use linux::started;

/// Elsewhere nobody says without being asked in a way that costs more.
#[cfg(not(target_os = "linux"))]
fn started() -> Option<SystemTime> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use nix::time::{ClockId, clock_gettime};

    use super::*;

    /// The unit of `/proc/self/stat`, which is the same on every architecture.
    const TICK: Duration = Duration::from_millis(10);

    /// When this process was created. The same each time it is asked.
    pub(super) fn started() -> Option<SystemTime> {
        // The name of the program stands in there, in whatever encoding.
        let stat = fs::read("/proc/self/stat").ok()?;
        let ticks = start_ticks(&String::from_utf8_lossy(&stat))?;
        booted()?.checked_add(TICK.checked_mul(ticks)?)
    }

    /// The field `starttime`: what stands before it are the pid, the program in parentheses, where anything may stand,
    /// and 19 others.
    pub(super) fn start_ticks(stat: &str) -> Option<u32> {
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_ascii_whitespace().nth(19)?.parse().ok()
    }

    /// When the machine was started. The two clocks drift apart as the wall clock is set, so that the first answer
    /// stands: it is half of what identifies a process, and its children's.
    fn booted() -> Option<SystemTime> {
        /// Milliseconds since 1970; 0 before they are known.
        static BOOTED: AtomicU64 = AtomicU64::new(0);
        let millis = match BOOTED.load(Ordering::Relaxed) {
            0 => {
                let wall = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME).ok()?);
                let up = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
                let millis = u64::try_from(wall.checked_sub(up)?.as_millis()).ok()?;
                match BOOTED.compare_exchange(0, millis, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => millis,
                    Err(earlier) => earlier,
                }
            }
            known => known,
        };
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wanted(all: bool) -> Wanted {
        Wanted { instance: all, started: all, host_name: all, machine: all }
    }

    fn all() -> Facts {
        Facts::of_this_process(wanted(true), Some("tool"))
    }

    #[test]
    fn what_this_machine_tells_makes_sense() {
        let facts = all();
        assert_eq!((facts.pid, facts.executable.as_deref()), (process::id(), Some("tool")));
        assert!(facts.host_name.is_some_and(|name| !name.is_empty()));
        assert!(!facts.arch.is_empty() && !facts.os.is_empty());
        if cfg!(target_os = "linux") {
            let started = facts.started.unwrap();
            assert!(started <= SystemTime::now() + Duration::from_millis(20), "{started:?}");
            assert_eq!(all().started, Some(started), "it stays what it was");
        }
    }

    #[test]
    fn every_client_gets_another_random_uuid_of_version_4() {
        // RES-12
        let (one, other) = (all().instance.unwrap(), all().instance.unwrap());
        assert_ne!(one, other);
        let read = uuid::Uuid::parse_str(&one).unwrap();
        assert_eq!((read.get_version_num(), read.get_variant()), (4, uuid::Variant::RFC4122));
        assert_eq!(one, read.hyphenated().to_string());
    }

    #[test]
    fn what_nobody_asks_for_is_not_looked_up() {
        let facts = Facts::of_this_process(wanted(false), None);
        assert_eq!((facts.instance, facts.started, facts.host_name, facts.machine), (None, None, None, None));
    }

    #[test]
    fn a_machine_without_an_id_has_none() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(read_machine_id(&format!("{id}\n")).as_deref(), Some(id));
        for text in ["", "uninitialized\n", "0123", "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(read_machine_id(text), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_start_is_read_behind_a_program_name_with_anything_in_it() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        for name in ["tool", "a) b (c", ""] {
            assert_eq!(linux::start_ticks(&format!("1 ({name}) {fields}")), Some(777), "{name}");
        }
        for stat in ["", "1 (tool", "1 (tool) S 1 2", "1 (tool) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"] {
            assert_eq!(linux::start_ticks(stat), None, "{stat}");
        }
    }
}
