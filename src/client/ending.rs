//! The end of the process: closes every remaining client, and reports spans that went nowhere.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::Engine;
use crate::{
    capture::{Untaken, is_installed, untaken},
    config::{Options, Settings},
    env::Environment,
    error::{Count, Diagnostics, LogLevel, Subject},
    exit::{Ending, ProcessSpan},
    fork,
    sync::locks::Mutex,
};

/// How long to wait for a lock: in the child of a fork the thread that held it may be gone.
const PATIENCE: Duration = Duration::from_millis(100);

const CLOSED: &str = "the client was closed: keep the guard until the end of main (`let _guard = otlp::init()?;`: \
                      `let _ =` drops it at once), and end spans before it";
const NO_CLIENT: &str = "there was no client: call otlp::init() at the start of main and keep its guard (in a test, \
                         set_default on the thread that records), or set OTEL_SDK_DISABLED=true where none is wanted";

/// Clients in the order in which they were made.
static LIVE: Mutex<Vec<Weak<Engine>>> = Mutex::new(Vec::new());

/// The diagnostics of the client that was closed last.
static LAST_CLOSED: Mutex<Option<Arc<Diagnostics>>> = Mutex::new(None);

/// Remembers a client until it is gone.
pub(super) fn remember(engine: &Arc<Engine>) {
    if let Some(mut live) = LIVE.try_lock_for(PATIENCE) {
        live.retain(|engine| engine.strong_count() > 0);
        live.push(Arc::downgrade(engine));
    }
}

/// Notes that a client was closed.
pub(super) fn closed(diagnostics: &Arc<Diagnostics>) {
    if let Some(mut last) = LAST_CLOSED.try_lock_for(PATIENCE) {
        *last = Some(Arc::clone(diagnostics));
    }
}

/// Ends the process span, closes every client and reports spans that went nowhere.
pub(super) fn end_process(ending: Ending<'_>) {
    ProcessSpan::end(ending);
    // Counted first: spans recorded while clients are closed here are not a mistake of the program.
    let (early, late) = (untaken(Untaken::Early), untaken(Untaken::Late));
    close_all();
    tell_untaken(early, late);
}

/// Closes the remaining clients, the youngest first: an older one may export what a younger one's processors give it.
/// Each has its own budget, and all budgets begin now.
fn close_all() {
    let Some(live) = LIVE.try_lock_for(PATIENCE).map(|live| live.clone()) else { return };
    let engines: Vec<_> = live.iter().filter_map(Weak::upgrade).collect();
    let used: Vec<_> = engines.iter().filter_map(|engine| engine.used()).collect();
    let open: Vec<_> = used.into_iter().filter(|engine| !engine.exporter.is_stopped()).collect();
    if open.len() > 1 {
        open.iter().for_each(|engine| engine.exporter.hurry());
    }
    for engine in open.iter().rev() {
        engine.close();
    }
    // The process ends: freeing memory would only be work, and in the child of a fork a lock may be held for ever.
    std::mem::forget(engines);
}

/// Writes one line about spans that no client took, addressed to the program's author.
fn tell_untaken(early: u64, late: u64) {
    // The parent reports what was counted before a fork.
    if early + late == 0 || fork::generation() > 0 {
        return;
    }
    let last = LAST_CLOSED.try_lock_for(PATIENCE).and_then(|last| last.clone());
    let said = |spans: u64, why: &str| {
        let (spans, diagnostics) = (Count(spans, "span"), last.as_ref()?);
        let line = format_args!("{spans} {} not recorded, since {why}", spans.were());
        Some(diagnostics.say(LogLevel::Error, Subject::Shutdown, line))
    };
    if late > 0 {
        said(late, CLOSED);
    } else if is_installed() && last.is_some() {
        said(early, "there was no client yet: call otlp::init() earlier");
    } else {
        tell_uninitialised(early);
    }
}

/// Reports that there never was a client. Silent unless tracing was configured: users of a released tool have usually
/// not asked for it.
fn tell_uninitialised(spans: u64) {
    let Ok((settings, _)) = Settings::resolve(Options::default(), Environment::from_process()) else { return };
    if settings.disabled.is_some() || !settings.tells_author() {
        return;
    }
    let spans = Count(spans, "span");
    let line = format_args!("{spans} {} not recorded, since {NO_CLIENT}", spans.were());
    Diagnostics::new(settings.log_level, None).say(LogLevel::Error, Subject::Shutdown, line);
}
