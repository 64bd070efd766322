//! What a resource tells without being asked: which detectors there are, and what each makes of the facts.

use std::fmt;

use super::facts::{Facts, Wanted};
use crate::{
    env::{self, Rejected},
    value::{KeyValue, Value},
};

/// The semantic conventions that the names below are taken from.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

listed! {
    public
    /// Finds out something about where spans come from and adds it to the resource of every client, once, when the client
    /// is made ([Detecting resource
    /// information](https://opentelemetry.io/docs/specs/otel/resource/sdk/#detecting-resource-information-from-the-environment)).
    ///
    /// On by default: all but [`HostId`](Self::HostId); `OTLP_RESOURCE_DETECTORS`. What they find is below the environment
    /// and code: an attribute of the same name that is given there replaces it. What cannot be found out is left out. No
    /// detector asks the network, needs privileges, or reads the arguments of the command line, which may hold secrets. If
    /// one of them finds something, requests name the semantic conventions it is said in as the schema URL of the resource.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum ResourceDetector {
        /// `service.instance.id`: a random UUID for each client. The child of a `fork` has one of its own.
        ServiceInstance,
        /// `process.pid`, `process.executable.name` and, on Linux, `process.creation.time`.
        Process,
        /// `host.name` and `host.arch`, the architecture that the program was compiled for.
        Host,
        /// `host.id`: the content of `/etc/machine-id`, which every user of a Linux machine may read but which is not meant
        /// to leave it. Off by default.
        HostId,
        /// `os.type`, the name of the operating system.
        Os,
    }
}

impl ResourceDetector {
    /// Those that are on by default.
    const USUAL: [Self; 4] = [Self::ServiceInstance, Self::Process, Self::Host, Self::Os];

    /// The detector's name in `OTLP_RESOURCE_DETECTORS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceInstance => "serviceinstance",
            Self::Process => "process",
            Self::Host => "host",
            Self::HostId => "hostid",
            Self::Os => "os",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    fn found(self, facts: &Facts) -> Vec<(&'static str, Option<Value<'static>>)> {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        match self {
            Self::ServiceInstance => vec![("service.instance.id", text(&facts.instance))],
            Self::Process => vec![
                ("process.pid", Some(facts.pid.into())),
                (
                    "process.creation.time",
                    facts.started.map(|at| humantime::format_rfc3339_millis(at).to_string().into()),
                ),
                ("process.executable.name", text(&facts.executable)),
            ],
            Self::Host => {
                vec![("host.name", text(&facts.host_name)), ("host.arch", Some(architecture(facts.arch).into()))]
            }
            Self::HostId => vec![("host.id", text(&facts.machine))],
            Self::Os => vec![("os.type", Some(system(facts.os).into()))],
        }
    }
}

/// Detectors, each at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detectors(Vec<ResourceDetector>);

impl Detectors {
    pub(crate) fn new(detectors: impl IntoIterator<Item = ResourceDetector>) -> Self {
        let mut list = Vec::new();
        for detector in detectors {
            if !list.contains(&detector) {
                list.push(detector);
            }
        }
        Self(list)
    }

    /// A comma list, and what is to be said about it. Of a list with unusable names the others count; `None` if nothing
    /// is left.
    pub(crate) fn parse(text: &str) -> (Option<Self>, Option<Rejected>) {
        if text.trim().eq_ignore_ascii_case("all") {
            return (Some(Self::new(ResourceDetector::ALL.iter().copied())), None);
        }
        let must = "must be a list of serviceinstance, process, host, hostid and os, or all or none alone";
        let (list, rejected) = env::list(text, must, &[], ResourceDetector::named);
        (list.map(Self::new), rejected)
    }

    pub(super) fn contain(&self, detector: ResourceDetector) -> bool {
        self.0.contains(&detector)
    }

    /// What they need to know.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            instance: self.contain(ResourceDetector::ServiceInstance),
            started: self.contain(ResourceDetector::Process),
            host_name: self.contain(ResourceDetector::Host),
            machine: self.contain(ResourceDetector::HostId),
        }
    }

    /// What they make of `facts`, and the schema URL it goes by: none where there is nothing (RES-10).
    pub(super) fn detect(&self, facts: &Facts) -> (Vec<KeyValue<'static>>, &'static str) {
        let found = self.0.iter().flat_map(|detector| detector.found(facts));
        let attributes: Vec<_> = found.filter_map(|(key, value)| Some(KeyValue::new(key, value?))).collect();
        let schema_url = if attributes.is_empty() { "" } else { SCHEMA_URL };
        (attributes, schema_url)
    }
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new(ResourceDetector::USUAL)
    }
}

/// As `OTLP_RESOURCE_DETECTORS` would have them.
impl fmt::Display for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().map(|detector| detector.name()).collect::<Vec<_>>() {
            none if none.is_empty() => f.write_str("none"),
            names => f.write_str(&names.join(",")),
        }
    }
}

/// The conventions' name of an architecture; others go by the compiler's.
fn architecture(name: &'static str) -> &'static str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// The conventions' name of an operating system; others go by the compiler's.
fn system(name: &'static str) -> &'static str {
    match name {
        "android" => "linux",
        "macos" | "ios" => "darwin",
        "dragonfly" => "dragonflybsd",
        "illumos" => "solaris",
        other => other,
    }
}

#[cfg(test)]
mod tests;
