//! Which source of a setting counts, and what to report about the others.

use std::fmt;

use http::header::AUTHORIZATION;

use crate::{
    config::{Endpoint, Headers, Protocol, SamplerChoice, endpoint, exporter::ProtocolName, headers},
    env::{self, Environment, Rejected},
    error::Error,
};

const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
const DEFAULT_GRPC_ENDPOINT: &str = "http://localhost:4317";

/// The values of `OTEL_EXPORTER_OTLP_PROTOCOL`.
const PROTOCOLS: &str = if cfg!(feature = "grpc") {
    "must be http/protobuf, which receivers take on port 4318, or grpc, which they take on port 4317"
} else {
    "must be http/protobuf, which receivers take on port 4318; grpc needs the cargo feature `grpc` of otlp"
};

/// The source of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Code,
    Variable(&'static str),
    Default,
}

/// Chooses among the sources of each setting and collects what to report.
pub(super) struct Chooser<'a> {
    pub(super) environment: &'a Environment,
    pub(super) warnings: Vec<String>,
    /// The section that the values in code are currently part of, if it was given as a whole.
    pub(super) section: Option<&'static str>,
    pub(super) lost: Vec<Lost>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self { environment, warnings: Vec::new(), section: None, lost: Vec::new() }
    }
}

impl Chooser<'_> {
    /// Takes the first usable value: code, the variables in their order, the default. Each variable is read even if
    /// another source wins, so that a bad value is always reported.
    pub(super) fn value<T: fmt::Debug>(
        &mut self,
        code: Option<T>,
        variables: &[&'static str],
        read: impl Fn(&'static str, &str) -> Result<T, Rejected>,
        default: T,
    ) -> (T, Source) {
        let (mut said, mut rejected) = (None, Vec::new());
        for &name in variables {
            match self.environment.get(name).map(|text| read(name, text?)) {
                None => {}
                Some(Err(why)) => rejected.push((name, why)),
                Some(Ok(value)) => said = said.or(Some((value, name))),
            }
        }
        if let (Some(section), Some(value), Some((other, variable))) = (self.section, &code, &said)
            && format!("{value:?}") != format!("{other:?}")
        {
            self.lost.push(Lost { section, variable });
        }
        let said = said.map(|(value, name)| (value, Source::Variable(name)));
        let chosen = code.map(|value| (value, Source::Code)).or(said).unwrap_or((default, Source::Default));
        self.warnings.extend(
            rejected.into_iter().map(|(name, why)| format!("{name}={}: {}; using {:?}", why.value, why.must, chosen.0)),
        );
        chosen
    }

    /// Resolves a setting with one variable.
    pub(super) fn one<T: fmt::Debug>(
        &mut self,
        code: Option<T>,
        variable: &'static str,
        read: impl Fn(&str) -> Result<T, Rejected>,
        default: T,
    ) -> T {
        self.value(code, &[variable], |_, text| read(text), default).0
    }

    /// Resolves a setting with a variable of the signal and a general one (OTLPV-01).
    pub(super) fn signal<T: fmt::Debug>(
        &mut self,
        code: Option<T>,
        variables: [&'static str; 2],
        read: impl Fn(&str) -> Result<T, Rejected>,
        default: T,
    ) -> T {
        self.value(code, &variables, |_, text| read(text), default).0
    }

    /// Reads a variable that adds to a setting; an unusable one adds nothing.
    pub(super) fn text<T>(&mut self, variable: &'static str, read: impl Fn(&str) -> Result<T, Rejected>) -> Option<T> {
        let value = self.environment.get(variable)?.and_then(read);
        let tell = |why: &Rejected| format!("{variable}={}: {}; using nothing of it", why.value, why.must);
        value.inspect_err(|why| self.warnings.push(tell(why))).ok()
    }

    /// Resolves a setting that is a list. In a list with unusable names the others count.
    pub(super) fn list<T: fmt::Display>(
        &mut self,
        code: Option<T>,
        variable: &'static str,
        read: impl Fn(&str) -> (Option<T>, Option<Rejected>),
        default: T,
    ) -> T {
        let (usable, rejected) = match self.environment.get(variable) {
            None => (None, None),
            Some(Err(why)) => (None, Some(why)),
            Some(Ok(text)) => read(text),
        };
        let chosen = code.or(usable).unwrap_or(default);
        self.warnings.extend(rejected.map(|why| format!("{variable}={}: {}; using {chosen}", why.value, why.must)));
        chosen
    }

    /// Resolves the protocol. One that is not supported is reported, unless a source of higher rank has named another
    /// (OTLPV-10).
    pub(super) fn protocol(&mut self, in_code: Option<Protocol>) -> Protocol {
        let mut chosen = in_code;
        for variable in [env::TRACES_PROTOCOL, env::PROTOCOL] {
            let why = match self.environment.get(variable) {
                None => continue,
                Some(Err(why)) => why,
                Some(Ok(text)) => {
                    match ProtocolName::read(text) {
                        ProtocolName::Supported(protocol) => {
                            chosen.get_or_insert(protocol);
                            continue;
                        }
                        ProtocolName::Unsupported if chosen.is_some() => continue,
                        ProtocolName::Unsupported => chosen = Some(Protocol::default()),
                        ProtocolName::Unknown => {}
                    }
                    Rejected::new(text, PROTOCOLS)
                }
            };
            let used = chosen.unwrap_or_default();
            self.warnings.push(format!("{variable}={}: {}; using {used}", why.value, why.must));
        }
        chosen.unwrap_or_default()
    }

    /// Reports a configuration file, which is not supported.
    pub(super) fn config_file(&mut self) {
        let Some((variable, text)) =
            env::CONFIG_FILES.iter().find_map(|name| Some((name, self.environment.get(name)?)))
        else {
            return;
        };
        let why = text.map_or_else(|why| why, |text| Rejected::new(text, ""));
        self.warnings.push(format!(
            "{variable}={}: configuration files are not supported; using the other variables",
            why.value
        ));
    }

    /// Resolves where calls of gRPC go. No path belongs to such a URL, and a scheme only in most (GRPC-01, OTLPV-14).
    pub(super) fn grpc_endpoint(
        &mut self,
        base: Option<String>,
        traces: Option<String>,
        is_insecure: bool,
    ) -> Result<(Endpoint, Source), Error> {
        let parse = |text: &str| Endpoint::parse_address(text, is_insecure);
        let in_code = |knob, text: Option<String>| {
            let rejected = |text: &str, must| Error::rejected(knob, Rejected::new(&endpoint::redacted(text), must));
            text.map(|text| parse(&text).map_err(|must| rejected(&text, must))).transpose()
        };
        let traces = in_code("with_traces_endpoint", traces)?;
        let base = in_code("with_endpoint", base)?;
        let read = |_: &str, text: &str| {
            let text = text.trim();
            parse(text).map_err(|must| Rejected::new(&endpoint::redacted(text), must))
        };
        let default = parse(DEFAULT_GRPC_ENDPOINT).map_err(|must| Error::config("with_endpoint", "", must))?;
        let (endpoint, source) = self.value(traces.or(base), &[env::TRACES_ENDPOINT, env::ENDPOINT], read, default);
        match endpoint.without_traces_path() {
            Some(bare) => {
                let told =
                    format!("{endpoint}: gRPC has no path /v1/traces, which belongs to OTLP over HTTP; using {bare}");
                self.warnings.push(told);
                Ok((bare, source))
            }
            None => Ok((endpoint, source)),
        }
    }

    pub(super) fn endpoint(
        &mut self,
        base: Option<String>,
        traces: Option<String>,
    ) -> Result<(Endpoint, Source), Error> {
        let in_code = |knob, text: Option<String>| -> Result<Option<Endpoint>, Error> {
            let Some(text) = text else { return Ok(None) };
            let parsed = Endpoint::parse(&text);
            parsed.map(Some).map_err(|must| Error::rejected(knob, Rejected::new(&endpoint::redacted(&text), must)))
        };
        let traces = in_code("with_traces_endpoint", traces)?;
        let base = in_code("with_endpoint", base)?.map(|base| {
            if !base.has_traces_path() {
                return base.with_traces_path();
            }
            if traces.is_none() {
                self.warnings.push(format!(
                    "with_endpoint = {base}: is a base URL and should not end in /v1/traces; using it as it is \
                     (with_traces_endpoint takes whole URLs)"
                ));
            }
            base
        });
        let read = |name, text: &str| {
            let text = text.trim();
            let parsed = Endpoint::parse(text).map_err(|must| Rejected::new(&endpoint::redacted(text), must))?;
            Ok(if name == env::ENDPOINT { parsed.with_traces_path() } else { parsed })
        };
        let default = Endpoint::parse(DEFAULT_ENDPOINT).map_err(|must| Error::config("with_endpoint", "", must))?;
        let (endpoint, source) = self.value(traces.or(base), &[env::TRACES_ENDPOINT, env::ENDPOINT], read, default);
        if source == Source::Variable(env::ENDPOINT) && endpoint.to_string().ends_with("/v1/traces/v1/traces") {
            self.warnings.push(format!(
                "{}: is a base URL and should not end in /v1/traces; using {endpoint} ({} takes whole URLs)",
                env::ENDPOINT,
                env::TRACES_ENDPOINT
            ));
        }
        Ok((endpoint, source))
    }

    /// The signal's variable replaces the general one; code and the URL's user information add to the list.
    pub(super) fn headers(&mut self, code: Headers, endpoint: &Endpoint) -> Headers {
        let mut chosen: Option<Headers> = None;
        for name in [env::TRACES_HEADERS, env::HEADERS] {
            if let Some((headers, unusable)) = self.text(name, |text| Ok(headers::parse_list(text))) {
                self.warnings.extend(unusable_entries(name, &unusable));
                // A list without a usable entry still replaces the general one: credentials for one receiver must not
                // go to another because of a typo.
                chosen.get_or_insert(headers);
            }
        }
        let mut headers = headers::unique(chosen.unwrap_or_default().into_iter().chain(code));
        if let Some(authorization) = endpoint.authorization()
            && !headers.iter().any(|(name, _)| name == AUTHORIZATION)
        {
            headers.push((AUTHORIZATION, authorization.clone()));
        }
        headers
    }

    /// Resolves the sampler. An argument counts only if the sampler's name takes one (SDKV-09).
    pub(super) fn sampler(&mut self, in_code: Option<String>) -> SamplerChoice {
        let named = |text: &str| {
            let (is_parent_based, root) = env::choice(text, &SamplerChoice::NAMES)?;
            Ok(SamplerChoice::Named { is_parent_based, root })
        };
        let in_code = in_code.map(SamplerChoice::InCode);
        let sampler = self.one(in_code, env::TRACES_SAMPLER, named, SamplerChoice::default());
        let ratio = self.one(None, env::TRACES_SAMPLER_ARG, env::share, 1.0);
        sampler.with_ratio(ratio)
    }
}

/// How many unusable entries of a header list are reported.
const TOLD: usize = 8;

/// The one warning about a header list; it shows nothing of the list.
fn unusable_entries(name: &str, unusable: &[usize]) -> Option<String> {
    let mut places: Vec<_> = unusable.iter().take(TOLD).map(ToString::to_string).collect();
    places.extend(unusable.len().checked_sub(TOLD + 1).map(|more| format!("and {} more", more + 1)));
    let (entries, are) = match unusable {
        [] => return None,
        [_] => ("entry", "is"),
        _ => ("entries", "are"),
    };
    Some(format!(
        "{name}: {entries} {} {are} not name=value with a usable name and a percent-encoded value; \
         using the list without (values are never shown)",
        places.join(", ")
    ))
}

/// A variable that is set to a different value but ignored, because code gives a section as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) section: &'static str,
    pub(super) variable: &'static str,
}

impl Chooser<'_> {
    /// Reports all ignored variables in one line.
    pub(super) fn tell_lost(&mut self) {
        let variables: Vec<_> = self.lost.iter().map(|lost| lost.variable).collect();
        let mut sections: Vec<_> = self.lost.iter().map(|lost| lost.section).collect();
        sections.dedup();
        let does = match variables[..] {
            [] => return,
            [_] => "does",
            _ => "do",
        };
        self.warnings.push(format!(
            "{}: set, and {does} not count, since code gives {} as a whole; OtlpConfig::from_env() has them as the \
             environment says",
            variables.join(", "),
            sections.join(", ")
        ));
    }
}
