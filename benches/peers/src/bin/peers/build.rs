//! The programs: built, weighed, and asked what they are made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Result, contenders::PROGRAMS};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Programs ready to run.
pub(crate) struct Build {
    directory: PathBuf,
}

impl Build {
    /// Builds all programs beside this one, each contender with its own feature alone: built together, they would share
    /// the features of what they depend on.
    pub(crate) fn all() -> Result<Self> {
        let directory = env::current_exe()?.parent().ok_or("no directory")?.to_path_buf();
        let target = directory.parent().ok_or("no target directory")?;
        let build = |feature: Option<&str>, programs: &[&str]| -> Result<()> {
            let mut cargo = cargo();
            cargo.args(["build", "--release", "--locked", "--manifest-path", MANIFEST, "--target-dir"]).arg(target);
            cargo.args(feature.iter().flat_map(|feature| ["--features", feature]));
            cargo.args(programs.iter().flat_map(|program| ["--bin", program]));
            let built = cargo.status()?.success();
            if built { Ok(()) } else { Err(format!("{programs:?} could not be built").into()) }
        };
        build(None, &["empty", "floor"])?;
        for program in PROGRAMS {
            build(Some(program), &[program])?;
        }
        Ok(Self { directory })
    }

    /// Where a program is.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The size of a program without symbols, in bytes. `None` if there is no `strip`.
    pub(crate) fn stripped_bytes(&self, name: &str) -> Option<u64> {
        let copy = self.scratch().ok()?.join(name);
        let status = Command::new("strip").arg("-o").arg(&copy).arg(self.program(name)).status().ok()?;
        status.success().then(|| fs::metadata(&copy).ok().map(|copy| copy.len())).flatten()
    }

    /// A directory for what only this run needs.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.directory.join("peers-scratch");
        fs::create_dir_all(&scratch)?;
        Ok(scratch)
    }

    /// How many crates a program is made of, this package left out.
    pub(crate) fn crates(&self, feature: &str) -> Result<usize> {
        let arguments = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
        let output = cargo()
            .args(arguments)
            .args(["--manifest-path", MANIFEST, "--features", feature])
            .stderr(Stdio::inherit())
            .output()?;
        let tree = String::from_utf8(output.stdout)?;
        let crates: BTreeSet<_> =
            tree.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
        if crates.len() < 2 {
            return Err(format!("no crates of {feature}").into());
        }
        Ok(crates.len() - 1)
    }

    /// The version of each package, as it is locked.
    pub(crate) fn versions() -> BTreeMap<&'static str, &'static str> {
        let text = |line: &'static str, key: &str| line.strip_prefix(key).map(|value| value.trim_matches('"'));
        let mut lines = LOCK.lines();
        let mut versions = BTreeMap::new();
        while let Some(line) = lines.next() {
            if let (Some(name), Some(next)) = (text(line, "name = "), lines.clone().next()) {
                versions.extend(text(next, "version = ").map(|version| (name, version)));
            }
        }
        versions
    }
}

/// The cargo that runs this, else the one that is found.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(MANIFEST).parent().unwrap_or(Path::new(".")));
    cargo
}
