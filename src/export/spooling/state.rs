//! What a client knows of its spool.

use std::{sync::atomic::AtomicBool, time::Instant};

use super::gate::Gate;
use crate::{
    config::{Endpoint, Protocol, Settings},
    export::spool::Spool,
    sync::locks::Mutex,
};

/// The spool of one client.
pub(in crate::export) struct Spooling {
    pub(super) spool: Spool,
    pub(super) gate: Mutex<Gate>,
    /// Held by the worker that takes a body out and sends it: one at a time.
    pub(super) restoring: Mutex<()>,
    /// A shutdown has written what was left; before, nobody else gives it up.
    pub(super) rest_written: AtomicBool,
    /// When what nobody will send was last removed.
    pub(super) swept: Mutex<Option<Instant>>,
}

impl Spooling {
    /// Nothing, unless there is a directory for it. Touches no file.
    pub(in crate::export) fn new(settings: &Settings) -> Option<Self> {
        let dir = settings.spool.dir.as_deref()?;
        let spool = Spool::new(&settings.spool, dir, &meant_for(settings).url().to_string());
        let gate = Mutex::new(Gate::new(Instant::now()));
        let rest_written = AtomicBool::new(false);
        Some(Self { spool, gate, restoring: Mutex::open_to_callbacks(()), rest_written, swept: Mutex::default() })
    }
}

/// Whom bodies are meant for: where HTTP has them go. They are the same over gRPC, whose URL has no path for a signal, so
/// that either protocol sends what lies there for the same host and port.
fn meant_for(settings: &Settings) -> Endpoint {
    match settings.protocol {
        Protocol::HttpProtobuf => settings.endpoint.clone(),
        Protocol::Grpc => settings.endpoint.clone().with_traces_path(),
    }
}
