//! Steps on disk, between which a process can be killed.

use std::{fs::File, path::Path};

/// Forces to the disk which files a directory has. Where that cannot be done, there is nothing better to do.
pub(super) fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// Between two steps on disk. A process can be killed at each of them; tests do so.
pub(super) fn boundary() {
    #[cfg(test)]
    super::tests::boundary();
}
