//! Files that are renewed while the program runs, such as certificates that are valid for days or hours.

use super::{
    Certificates, Tls,
    files::{self, Identity, NamedFile, Stamp, Unpaired},
    rejected,
};

/// The last usable content of the TLS files.
#[derive(Debug)]
pub(crate) struct Renewal {
    tls: Tls,
    roots: Watched,
    identity: Watched,
}

/// Files that must be read together.
#[derive(Debug, Default)]
struct Watched {
    /// Their state when they were last read.
    stamps: Vec<Option<Stamp>>,
    /// Whether they were unusable then, which was reported.
    is_told: bool,
}

impl Renewal {
    pub(crate) fn new(tls: Tls) -> Self {
        let roots = match &tls.roots {
            NamedFile::Without(_) => Vec::new(),
            NamedFile::File { stamp, .. } => vec![Some(*stamp)],
        };
        let identity =
            tls.identity.iter().flat_map(|identity| &identity.files).map(|(_, stamp)| Some(*stamp)).collect();
        let watched = |stamps| Watched { stamps, is_told: false };
        Self { roots: watched(roots), identity: watched(identity), tls }
    }

    /// The settings for new connections.
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Checks whether files changed, with one system call each, and reads those that did. Returns true if the settings
    /// are different now. Unusable files change nothing, and are reported to `tell` once until they are usable again:
    /// they may be being written at this moment.
    pub(crate) fn look(&mut self, mut tell: impl FnMut(String)) -> bool {
        let mut is_changed = false;
        if let NamedFile::File { path, content, .. } = &self.tls.roots
            && self.roots.has_changed(&[Stamp::of(path)])
        {
            match files::roots(path) {
                Ok(new) => {
                    self.roots.is_told = false;
                    if new.content() != Some(content) {
                        self.tls.roots = new;
                        is_changed = true;
                    }
                }
                Err(why) => self.roots.tell_once(&mut tell, format!("{}: {}", why.value, why.must)),
            }
        }
        if let Some(identity) = &self.tls.identity
            && self.identity.has_changed(&identity.files.each_ref().map(|(path, _)| Stamp::of(path)))
        {
            match renewed(identity) {
                Ok(new) => {
                    self.identity.is_told = false;
                    if new.pair.cert != identity.pair.cert {
                        self.tls.identity = Some(new);
                        is_changed = true;
                    }
                }
                Err(why) => self.identity.tell_once(&mut tell, why),
            }
        }
        is_changed
    }
}

impl Watched {
    /// Whether they look different from the last time, or may have changed without looking different.
    fn has_changed(&mut self, stamps: &[Option<Stamp>]) -> bool {
        let is_same = self.stamps == stamps && stamps.iter().flatten().all(|stamp| stamp.is_settled());
        if !is_same {
            self.stamps = stamps.to_vec();
        }
        !is_same
    }

    fn tell_once(&mut self, tell: &mut impl FnMut(String), why: String) {
        if !std::mem::replace(&mut self.is_told, true) {
            tell(format!("{why}; going on with what was read before, until it changes"));
        }
    }
}

/// Reads a client's certificate and key again. One may be new already and the other still old.
fn renewed(identity: &Identity) -> Result<Identity, String> {
    let [(chain, _), (key, _)] = &identity.files;
    let chain: NamedFile<Certificates> = files::chain(chain).map_err(|why| format!("{}: {}", why.value, why.must))?;
    let key_file = files::key(key).map_err(|why| format!("{}: {}", why.value, why.must))?;
    match files::pair(&chain, &key_file) {
        Ok(Some(new)) => Ok(new),
        Ok(None) => unreachable!("both are files"),
        Err(Unpaired::Certificate(must)) => Err(format!("{}: {must}", chain.shown())),
        Err(Unpaired::Key(must)) => Err(format!("{}: {must}", rejected(key, "").value)),
    }
}
