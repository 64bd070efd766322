//! The job: a nightly import of orders from small files, instrumented the way a program would be.
//!
//! Calls of `made.note` are for the proof at the end, and nothing a program needs: leave them out of a copy.

use std::{error::Error, fmt, fmt::Write as _, hint::black_box};

use otlp::{Client, KeyValue, Scope, SpanContext, SpanId, SpanKind, Status, TraceId, Tracer, Value};

use crate::check::{Ids, Made};

pub(crate) const FILES: u32 = 8_000;
pub(crate) const SPANS_PER_FILE: usize = 25;
pub(crate) const SPANS: usize = FILES as usize * SPANS_PER_FILE;

const ROWS_PER_FILE: u32 = 5;
const COUNTRIES: [&str; 4] = ["de", "fr", "pt", "se"];

/// One thread's importer.
pub(crate) struct Importer {
    jobs: Tracer,
    storage: Tracer,
    csv: Tracer,
    database: Tracer,
    made: Made,
}

impl Importer {
    pub(crate) fn new(client: &Client, spans: usize) -> Self {
        // One tracer per component, made once and kept.
        Self {
            jobs: client.tracer(Scope::new("nightly-import").with_version("1.4.0")),
            storage: client.tracer(Scope::new("object-storage").with_version("0.9.2")),
            csv: client.tracer(Scope::new("csv").with_version("3.0.0").with_attribute(KeyValue::new("strict", true))),
            database: client.tracer(Scope::new("orders-db").with_version("2.1.0")),
            made: Made::with_capacity(spans),
        }
    }

    /// One trace: the file is loaded, its rows are checked, the good ones are written, the file is put away.
    pub(crate) fn import_file(&self, upload: &Upload) {
        let mut span = self
            .jobs
            .span("import file")
            .root()
            .kind(SpanKind::Consumer)
            .link(&upload.announced_by, [KeyValue::new("messaging.message.id", upload.number)])
            .attribute("file.name", &upload.name)
            .start();
        let _current = span.enter();
        self.made.note(&span);

        let text = self.load(upload);
        let orders: Vec<Order> = (1..).zip(text.lines()).filter_map(|(row, line)| self.read_row(row, line)).collect();
        let total = self.write_batch(upload.number, &orders);
        self.archive(upload);
        self.announce(upload, &orders);

        span.set_attribute("import.orders", orders.len()).set_attribute("import.total", total);
        if orders.len() == ROWS_PER_FILE as usize {
            span.set_status(Status::Ok);
        } else {
            span.add_event("rows were skipped", [KeyValue::new("rows", ROWS_PER_FILE as usize - orders.len())]);
        }
    }

    fn load(&self, upload: &Upload) -> String {
        self.storage.in_span("load file", |span| {
            self.made.note(span);
            let text = self.fetch(upload);
            self.storage.in_span("verify checksum", |span| {
                self.made.note(span);
                let checksum = checksum(text.as_bytes());
                span.set_attribute("file.checksum", checksum.to_be_bytes());
            });
            span.set_attribute("file.size", text.len());
            text
        })
    }

    fn fetch(&self, upload: &Upload) -> String {
        let mut span = self
            .storage
            .span("GET")
            .kind(SpanKind::Client)
            .attribute("http.request.method", "GET")
            .attribute("server.address", "storage.example.com")
            .attribute("server.port", 443)
            .attribute("url.path", &upload.name)
            .start();
        self.made.note(&span);
        let text = upload.read();
        pass_time(2_000);
        span.set_attribute("http.response.status_code", 200);
        text
    }

    /// The order in a row, unless there is something wrong with it.
    fn read_row(&self, row: u32, line: &str) -> Option<Order> {
        self.csv.in_span("process row", |span| {
            self.made.note(span);
            span.set_attribute("row.number", row);
            let order = self.parse(line);
            match self.validate(&order) {
                Ok(()) => Some(order),
                Err(error) => {
                    span.record_error(&error);
                    None
                }
            }
        })
    }

    fn parse(&self, line: &str) -> Order {
        self.csv.in_span("parse row", |span| {
            self.made.note(span);
            let mut fields = line.split(',');
            let mut number = || fields.next().and_then(|field| field.parse().ok()).unwrap_or_default();
            let order = Order { customer: number(), quantity: number(), cents: number(), country: number() };
            span.set_attribute("row.bytes", line.len()).set_attribute("customer.id", order.customer);
            order
        })
    }

    fn validate(&self, order: &Order) -> Result<(), EmptyOrder> {
        self.csv.in_span("validate row", |span| {
            self.made.note(span);
            let country = COUNTRIES[order.country as usize % COUNTRIES.len()];
            span.set_attribute("customer.country", country)
                .set_attribute("order.amount", order.amount())
                .set_attribute("order.discount", order.discount())
                .set_attribute("order.valid", order.quantity > 0);
            if order.quantity > 95 {
                span.add_event("unusual quantity", [KeyValue::new("order.quantity", order.quantity)]);
            }
            if order.quantity > 0 { Ok(()) } else { Err(EmptyOrder { customer: order.customer }) }
        })
    }

    /// Writes the orders in one transaction and answers their total.
    fn write_batch(&self, file: u32, orders: &[Order]) -> f64 {
        self.database.in_span("write batch", |span| {
            self.made.note(span);
            let quantities: Vec<u32> = orders.iter().map(|order| order.quantity).collect();
            let amounts: Vec<f64> = orders.iter().map(Order::amount).collect();
            let bulk: Vec<bool> = orders.iter().map(|order| order.quantity > 50).collect();
            let total = amounts.iter().sum();
            self.statement("INSERT orders", "INSERT INTO orders VALUES ($1, $2, $3)", orders.len(), None);
            self.statement("INSERT ledger", "INSERT INTO ledger VALUES ($1, $2)", orders.len(), Some(file));
            self.statement("COMMIT", "COMMIT", 0, None);
            span.set_attribute("batch.quantities", quantities)
                .set_attribute("batch.amounts", amounts)
                .set_attribute("batch.bulk", bulk);
            total
        })
    }

    fn statement(&self, name: &str, text: &str, rows: usize, contended_by: Option<u32>) {
        let mut span = self
            .database
            .span(name)
            .kind(SpanKind::Client)
            .attributes([KeyValue::new("db.system.name", "postgresql"), KeyValue::new("db.namespace", "shop")])
            .attribute("db.query.text", text)
            .attribute("db.operation.batch.size", rows)
            .start();
        self.made.note(&span);
        pass_time(1_000 + 200 * rows);
        if contended_by.is_some_and(|file| file % 40 == 7) {
            span.add_event("deadlock, trying again", [KeyValue::new("attempt", 2), KeyValue::new("wait", 0.25)]);
        }
    }

    fn archive(&self, upload: &Upload) {
        self.storage.in_span("archive file", |span| {
            self.made.note(span);
            span.set_attribute("file.name", &upload.name).set_attribute("file.tags", ["imported", "orders"]);
        });
    }

    /// Tells the other services that the orders are there.
    fn announce(&self, upload: &Upload, orders: &[Order]) {
        let span = self
            .jobs
            .span("send imported")
            .kind(SpanKind::Producer)
            .attribute("messaging.system", "kafka")
            .attribute("messaging.destination.name", "imported")
            .attribute(
                "messaging.headers",
                vec![KeyValue::new("file", upload.number), KeyValue::new("orders", Value::from(orders.len()))],
            )
            .start();
        self.made.note(&span);
        span.end();
    }

    /// The ids of all spans this importer made.
    pub(crate) fn into_made(self) -> Vec<Ids> {
        self.made.into_ids()
    }
}

/// A file that waits to be imported.
pub(crate) struct Upload {
    number: u32,
    name: String,
    /// The span, in another service, that told us about the file.
    announced_by: SpanContext,
}

impl Upload {
    pub(crate) fn new(number: u32) -> Self {
        const SAMPLED: u8 = 1;
        let trace_id = TraceId::from_bytes((u128::from(number) + 1).to_be_bytes());
        let span_id = SpanId::from_bytes((u64::from(number) + 1).to_be_bytes());
        let announced_by = SpanContext::new(trace_id, span_id, SAMPLED, true);
        Self { number, name: format!("/orders/2025-06-30/{number:05}.csv"), announced_by }
    }

    /// Made up, but the same in every run.
    fn read(&self) -> String {
        let mut text = String::with_capacity(128);
        for row in 0..ROWS_PER_FILE {
            let random = checksum(&(self.number * ROWS_PER_FILE + row).to_be_bytes());
            let (customer, quantity) = (random % 90_000 + 10_000, (random >> 20) % 100);
            let (cents, country) = ((random >> 30) % 20_000, (random >> 50) % 4);
            let _ = writeln!(text, "{customer},{quantity},{cents},{country}");
        }
        text
    }
}

/// One row of a file.
struct Order {
    customer: u32,
    quantity: u32,
    /// The price of one piece.
    cents: u32,
    country: u32,
}

impl Order {
    fn amount(&self) -> f64 {
        f64::from(self.quantity) * f64::from(self.cents) / 100.0
    }

    fn discount(&self) -> Option<f64> {
        (self.quantity > 50).then_some(0.05)
    }
}

#[derive(Debug)]
struct EmptyOrder {
    customer: u32,
}

impl fmt::Display for EmptyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "customer {} ordered nothing", self.customer)
    }
}

impl Error for EmptyOrder {}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Stands in for the time an answer takes: a microsecond or so of arithmetic.
fn pass_time(rounds: usize) {
    black_box((0..rounds).fold(1_u32, |number, _| black_box(number).rotate_left(5)));
}
