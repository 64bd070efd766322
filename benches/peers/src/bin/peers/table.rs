//! The table: a column for each contender, a row for each measure.

use std::{fmt::Write as _, fs, process::Command, time::Duration};

use crate::{
    Result,
    build::Build,
    callgrind,
    contenders::{CONTENDERS, FLOOR, OURS, PACKAGES, WITH_TLS},
    measure::{BRIEF_SPANS, BURST_SPANS, EMPTY, PACED_RATE, Plan},
    samples::Samples,
};

/// A row: what it says, and how a cell is made of the samples of its column.
type Row<'s> = (String, Box<dyn Fn(&'static str) -> Option<String> + 's>);

pub(crate) fn render(plan: &Plan, samples: &Samples, took: Duration) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}\n", heading(plan, took)?)?;
    let columns: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
    writeln!(text, "| | {} |", columns.join(" | "))?;
    writeln!(text, "|---|{}", "--:|".repeat(columns.len()))?;
    for (label, cell) in rows(samples) {
        let cells: Vec<_> = columns.iter().map(|column| cell(column).unwrap_or_else(|| "–".to_owned())).collect();
        writeln!(text, "| {label} | {} |", cells.join(" | "))?;
    }
    writeln!(text, "\n{}", notes(plan, samples))?;
    Ok(text)
}

fn heading(plan: &Plan, took: Duration) -> Result<String> {
    let told = |program: &str, arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8(Command::new(program).args(arguments).output()?.stdout)?.trim().to_owned())
    };
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown CPU");
    let cpus = std::thread::available_parallelism()?;
    let versions = Build::versions();
    let versions: Vec<_> =
        PACKAGES.iter().map(|name| format!("{name} {}", versions.get(name).unwrap_or(&"?"))).collect();
    Ok(format!(
        "Measured {}, {} CPUs of {}, {}; a {} run of {} s. {}. Medians, with the minimum in brackets where there are two.",
        told("date", &["-u", "+%F"])?,
        cpus,
        model.trim_start_matches(['\t', ' ', ':']),
        told("rustc", &["--version"])?,
        plan.name,
        took.as_secs(),
        versions.join(", "),
    ))
}

fn rows(samples: &Samples) -> Vec<Row<'_>> {
    let s = samples;
    /// A number with as many digits as tell something.
    fn number(value: f64) -> String {
        match value.abs() {
            0.0..10.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }
    let median = move |label: &str, measure: &'static str| -> Row<'_> {
        (label.to_owned(), Box::new(move |column| s.median(column, measure).map(number)))
    };
    let both = move |label: &str, median: &'static str, min: &'static str| -> Row<'_> {
        let cell =
            move |column| Some(format!("{} ({})", number(s.median(column, median)?), number(s.min(column, min)?)));
        (label.to_owned(), Box::new(cell))
    };
    let over = move |label: &str, base: &'static str, measure: &'static str| -> Row<'_> {
        let cell = move |column| {
            let median = s.median(column, measure)? - s.median(base, measure)?;
            let min = s.min(column, measure)? - s.min(base, measure)?;
            (column != base).then(|| format!("{median:.1} ({min:.1})"))
        };
        (label.to_owned(), Box::new(cell))
    };
    let peak = move |label: &str, measure: &'static str| -> Row<'_> {
        let cell = move |column| {
            (column != FLOOR.name).then_some(())?;
            Some(format!("{:.1}", s.max(column, measure)? - s.median(FLOOR.name, measure)?))
        };
        (label.to_owned(), Box::new(cell))
    };
    let tenths = move |label: &str, measure: &'static str| -> Row<'_> {
        (label.to_owned(), Box::new(move |column| Some(format!("{:.1}", s.median(column, measure)?))))
    };
    let percent = move |label: &str, measure: &'static str| -> Row<'_> {
        (label.to_owned(), Box::new(move |column| Some(format!("{:.1} %", s.median(column, measure)?))))
    };
    let seconds = move |label: &str, measure: &'static str| -> Row<'_> {
        (label.to_owned(), Box::new(move |column| Some(format!("{:.2}", s.median(column, measure)?))))
    };
    let allocations = move |column| {
        let count = |measure| s.median(column, measure).map(|value: f64| format!("{value:.2}"));
        Some(format!("{} + {}", count("allocations")?, count("reallocations")?))
    };
    vec![
        both("ns to record a span, five attributes", "hot_median_ns", "hot_min_ns"),
        both("ns to record a span, no attributes", "bare_median_ns", "bare_min_ns"),
        median("instructions to record, five attributes", "hot_instructions"),
        median("instructions to record, no attributes", "bare_instructions"),
        ("allocations + reallocations, five attributes".to_owned(), Box::new(allocations)),
        median("instructions per delivered span, all threads", "delivered_instructions"),
        both("CPU ns per delivered span, all threads, paced", "paced_cpu_ns", "paced_cpu_ns"),
        percent("delivered, paced", "paced_delivered"),
        tenths("bytes on the wire per span, paced", "paced_wire_bytes"),
        median("spans per request, paced", "paced_request_spans"),
        peak("peak RSS added, paced, MiB", "paced_peak_mib"),
        percent("delivered of a burst, 1 thread", "burst1_delivered"),
        percent("delivered of a burst, 4 threads", "burst4_delivered"),
        median("CPU ns per delivered span, burst, 1 thread", "burst1_cpu_ns"),
        median("CPU ns per delivered span, burst, 4 threads", "burst4_cpu_ns"),
        tenths("bytes on the wire per span, burst, 1 thread", "burst1_wire_bytes"),
        tenths("bytes on the wire per span, burst, 4 threads", "burst4_wire_bytes"),
        peak("peak RSS added, burst, 1 thread, MiB", "burst1_peak_mib"),
        peak("peak RSS added, burst, 4 threads, MiB", "burst4_peak_mib"),
        over("a short program, wall ms added", EMPTY, "exit_wall_ms"),
        over("a short program, CPU ms added", EMPTY, "exit_cpu_ms"),
        seconds("a short program, receiver refuses, s", "refused_s"),
        seconds("a short program, receiver silent, s", "silent_s"),
        median("stripped program, KiB", "stripped_kib"),
        median("crates", "crates"),
    ]
}

fn notes(plan: &Plan, samples: &Samples) -> String {
    let mut notes = vec![
        format!(
            "Paced: {} spans at {PACED_RATE} per second. Burst: {BURST_SPANS} spans in a tight loop. Both with default \
             settings and gzip, in groups of a root and 199 children with five attributes each. A short program makes \
             {BRIEF_SPANS} spans and ends.",
            plan.paced_spans,
        ),
        "Peak RSS is the largest of all rounds, over the same program without tracing (floor).".to_owned(),
        "On the wire counts the bodies of requests. Recording is measured with queues that hold a round of 2,000 spans \
         and are sent between the rounds."
            .to_owned(),
        "fastrace's attributes are text; its LocalSpan shares the thread's stack and is handed over with its root. emit \
         cannot hold back: its worker takes spans while they are recorded."
            .to_owned(),
    ];
    if let Some(count) = samples.median(OURS.name, "substitute_instructions") {
        notes.push(format!(
            "Under callgrind otlp never learns the rate of the TSC and asks the operating system for the time: {count:.0} of its \
             instructions to record a span are that, and replace two readings of the TSC.",
        ));
    }
    let empty = samples.median(EMPTY, "stripped_kib");
    let tls = samples.median(WITH_TLS, "stripped_kib").zip(samples.median(WITH_TLS, "crates"));
    if let Some((empty, (kib, crates))) = empty.zip(tls) {
        notes.push(format!(
            "otlp and emit can speak TLS; the others are built without it. With it the OpenTelemetry SDK's program has \
             {kib:.0} KiB and {crates} crates. An empty program has {empty:.0} KiB.",
        ));
    }
    if plan.instructions && !callgrind::is_installed() {
        notes.push("valgrind is not installed: no instructions were counted.".to_owned());
    }
    notes.join("\n")
}
