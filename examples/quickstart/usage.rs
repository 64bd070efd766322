//! What the process used, as Linux tells it; nothing elsewhere.

use std::{fs, path::Path, time::Duration};

/// CPU time so far of this process's live threads whose name begins with `prefix`.
pub(crate) fn cpu_of_threads(prefix: &str) -> Option<Duration> {
    let mut cpu = None;
    for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let thread = thread.path();
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            *cpu.get_or_insert(Duration::ZERO) += cpu_of_thread(&thread)?;
        }
    }
    cpu
}

fn cpu_of_thread(thread: &Path) -> Option<Duration> {
    if let Ok(schedstat) = fs::read_to_string(thread.join("schedstat")) {
        return schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos);
    }
    // Kernels without it count in hundredths of a second. The thread's name is in parentheses and may hold
    // blanks; user and system time are the 12th and 13th field behind it.
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// The most memory this process ever had resident, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
