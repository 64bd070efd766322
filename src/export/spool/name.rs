//! The names of spooled files: they sort by age, tell who wrote them, and no two are the same. Pure.
//!
//! `<nanoseconds since 1970>-<client>-<process>-<number>[ab…].<what it is>`, where each letter stands for one half of
//! the body that had the name without it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

listed! {
    /// What a file is, told by its extension.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Kind {
        /// A body that may be sent.
        Body,
        /// A file that is being written.
        Unfinished,
        /// A file that was set aside.
        Damaged,
    }
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Body => "otlp",
            Self::Unfinished => "tmp",
            Self::Damaged => "damaged",
        }
    }
}

/// Who wrote a file: a client within a process. A forked child has the client of its parent, and another process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Author {
    /// At random.
    pub(crate) client: u64,
    pub(crate) process: u32,
}

/// A file's name without what it is. Orders by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new(written: SystemTime, author: Author, number: u64) -> Self {
        let nanos = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Self(format!("{nanos:020}-{:016x}-{}-{number}", author.client, author.process))
    }

    /// Understands the name of a file; none if it is not one of the spool's.
    pub(crate) fn parse(file_name: &str) -> Option<(Self, Kind)> {
        let (stem, extension) = file_name.rsplit_once('.')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
        let name = Self(stem.to_owned());
        let (nanos, client, process, number) = name.parts()?;
        let is_decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_ours = nanos.len() == 20
            && client.len() == 16
            && is_decimal(nanos)
            && is_hex(client)
            && is_decimal(process)
            && is_decimal(number.trim_end_matches(['a', 'b']));
        is_ours.then_some((name, kind))
    }

    fn parts(&self) -> Option<(&str, &str, &str, &str)> {
        let mut parts = self.0.split('-');
        let found = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(found)
    }

    /// Where the file is, or would be.
    pub(crate) fn path(&self, directory: &Path, kind: Kind) -> PathBuf {
        directory.join(format!("{}.{}", self.0, kind.extension()))
    }

    /// When its spans were written first, by the clock of that time; none where that is no time of this system.
    pub(crate) fn written(&self) -> Option<SystemTime> {
        let nanos = self.parts().and_then(|(nanos, ..)| nanos.parse().ok())?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))
    }

    pub(crate) fn is_by(&self, author: Author) -> bool {
        self.parts().is_some_and(|(_, client, process, _)| {
            u64::from_str_radix(client, 16) == Ok(author.client) && process.parse() == Ok(author.process)
        })
    }

    /// The names of its halves.
    pub(crate) fn halves(&self) -> [Self; 2] {
        ["a", "b"].map(|half| Self(format!("{}{half}", self.0)))
    }

    /// The name of the body this is a half of.
    pub(crate) fn whole(&self) -> Option<Self> {
        self.0.strip_suffix(['a', 'b']).map(|whole| Self(whole.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::{assert_linear, assert_linear_after, mutated_text, text};

    const AUTHOR: Author = Author { client: 0xab, process: 7 };

    fn at(nanos: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    #[test]
    fn a_name_is_read_back_as_it_was_written() {
        let name = Name::new(at(5_000), AUTHOR, 12);
        for kind in Kind::ALL {
            let path = name.path(Path::new("/spool"), kind);
            let file_name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Name::parse(file_name), Some((name.clone(), kind)), "{file_name}");
        }
        assert_eq!(name.written(), Some(at(5_000)));
        assert!(name.is_by(AUTHOR));
        assert!(!name.is_by(Author { process: 8, ..AUTHOR }), "a forked child is another author");
        assert!(!name.is_by(Author { client: 1, ..AUTHOR }));
    }

    #[test]
    fn names_sort_by_age_whoever_wrote_them() {
        let older = Name::new(at(999), Author { client: u64::MAX, process: u32::MAX }, u64::MAX);
        assert!(older < Name::new(at(1_000), Author { client: 0, process: 0 }, 0));
    }

    #[test]
    fn a_half_knows_its_whole_its_age_and_its_author() {
        let whole = Name::new(at(5), AUTHOR, 1);
        for half in whole.halves() {
            assert_eq!((half.whole().as_ref(), half.written()), (Some(&whole), Some(at(5))));
            assert!(half.is_by(AUTHOR));
            let quarter = &half.halves()[1];
            assert_eq!(quarter.whole(), Some(half));
            let path = quarter.path(Path::new(""), Kind::Body);
            assert!(Name::parse(path.to_str().unwrap()).is_some());
        }
        assert_eq!(whole.whole(), None, "a number is decimal: its digits are no halves");
    }

    #[test]
    fn files_of_others_are_not_touched() {
        for file_name in [
            "",
            "notes.otlp",
            "x.tmp",
            "00000000000000005000-00000000000000ab-7-12",
            "00000000000000005000-00000000000000ab-7-12.gz",
            "00000000000000005000-00000000000000ab-7.otlp",
            "00000000000000005000-00000000000000ab-7-12-1.otlp",
            "00000000000000005000-00000000000000ab-7-12c.otlp",
            "00000000000000005000-00000000000000ab-7-ab.otlp",
            "5000-00000000000000ab-7-12.otlp",
            "0000000000000000500x-00000000000000ab-7-12.otlp",
            "00000000000000005000-00000000000000zz-7-12.otlp",
        ] {
            assert_eq!(Name::parse(file_name), None, "{file_name}");
        }
    }

    #[test]
    fn every_name_is_read_in_time_in_proportion_to_its_length() {
        let read = |text: &str| {
            let (name, _) = Name::parse(text)?;
            Some((name.written(), name.is_by(AUTHOR), name.whole(), name.halves()))
        };
        assert_linear("a file name", |text| read(&format!("{text}.otlp")));
        let beginning = "00000000000000005000-00000000000000ab-7-12";
        assert_linear_after("a file name", beginning, |text| read(&format!("{text}.otlp")));
        let halves = format!("{beginning}{}.otlp", "ab".repeat(1 << 19));
        assert!(read(&halves).is_some());
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_left_alone(name in prop_oneof![
            text(),
            "[0-9]{20}-[0-9a-f]{16}-[0-9]{1,30}-[0-9]{1,30}[ab]{0,9}\\.(otlp|tmp|damaged)",
            mutated_text(Just("00000000000000005000-00000000000000ab-7-12ab.otlp".to_owned())),
        ]) {
            if let Some((read, kind)) = Name::parse(&name) {
                prop_assert_eq!(read.path(Path::new(""), kind), Path::new(&name));
                let _ = (read.written(), read.is_by(AUTHOR), read.whole());
                prop_assert!(read.halves().iter().all(|half| half.whole().as_ref() == Some(&read)));
            }
        }

        #[test]
        fn every_name_that_is_made_is_read_back(nanos: u64, client: u64, process: u32, number: u64) {
            let author = Author { client, process };
            let name = Name::new(at(nanos), author, number);
            let file = name.path(Path::new(""), Kind::Body);
            prop_assert_eq!(Name::parse(file.to_str().unwrap()), Some((name.clone(), Kind::Body)));
            prop_assert!(name.is_by(author));
        }
    }
}
