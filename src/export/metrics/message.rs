//! Metrics as protobuf: an `ExportMetricsServiceRequest` and its content.

use crate::{
    capture::put_attribute,
    export::encode::protobuf::EncodedResource,
    proto::{
        data::{CUMULATIVE, DATA_POINTS, IS_MONOTONIC, TEMPORALITY},
        histogram_point::{self, BUCKET_COUNTS, COUNT, MAX, MIN},
        metric::{GAUGE, HISTOGRAM, NAME, SUM, UNIT},
        metrics::RESOURCE_METRICS,
        number_point::{self, AS_INT, START, TIME},
        resource_metrics::SCOPE_METRICS,
        scope,
        scope_metrics::{METRICS, SCOPE},
    },
    value::KeyValue,
    wire::Buffer,
};

/// The attributes of a data point; no name twice.
pub(super) type Attributes = Vec<KeyValue<'static>>;

pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) data: Data,
}

/// Sums and histograms are cumulative.
pub(super) enum Data {
    Gauge(Vec<Point>),
    Sum { points: Vec<Point>, is_monotonic: bool },
    Histogram(Vec<Distribution>),
}

pub(super) struct Point {
    pub(super) attributes: Attributes,
    pub(super) value: i64,
}

/// A histogram without boundaries.
pub(super) struct Distribution {
    pub(super) attributes: Attributes,
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// The time that all data points of a request cover, in UNIX nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct Interval {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// The request that carries `metrics`.
pub(super) fn request(resource: &EncodedResource, metrics: &[Metric], interval: Interval) -> Buffer {
    let mut request = Buffer::default();
    request.message_field(RESOURCE_METRICS, |resource_metrics| {
        resource_metrics.raw(resource.as_slice());
        resource_metrics.message_field(SCOPE_METRICS, |scope_metrics| {
            scope_metrics.message_field(SCOPE, |named| {
                named.bytes_field(scope::NAME, env!("CARGO_PKG_NAME").as_bytes());
                named.bytes_field(scope::VERSION, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for metric in metrics {
                scope_metrics.message_field(METRICS, |to| metric.put(to, interval));
            }
        });
    });
    request
}

impl Metric {
    fn put(&self, to: &mut Buffer, interval: Interval) {
        to.bytes_field(NAME, self.name.as_bytes());
        to.bytes_field(UNIT, self.unit.as_bytes());
        match &self.data {
            Data::Gauge(points) => to.message_field(GAUGE, |gauge| put_points(gauge, points, interval)),
            Data::Sum { points, is_monotonic } => to.message_field(SUM, |sum| {
                put_points(sum, points, interval);
                sum.varint_field(TEMPORALITY, CUMULATIVE);
                sum.varint_field(IS_MONOTONIC, u64::from(*is_monotonic));
            }),
            Data::Histogram(points) => to.message_field(HISTOGRAM, |histogram| {
                for point in points {
                    histogram.message_field(DATA_POINTS, |to| point.put(to, interval));
                }
                histogram.varint_field(TEMPORALITY, CUMULATIVE);
            }),
        }
    }
}

fn put_points(to: &mut Buffer, points: &[Point], interval: Interval) {
    for point in points {
        to.message_field(DATA_POINTS, |to| {
            interval.put(to);
            to.fixed64_field(AS_INT, point.value as u64);
            put_attributes(to, number_point::ATTRIBUTES, &point.attributes);
        });
    }
}

impl Distribution {
    fn put(&self, to: &mut Buffer, interval: Interval) {
        interval.put(to);
        to.fixed64_field(COUNT, self.count);
        to.fixed64_field(histogram_point::SUM, self.sum.to_bits());
        // Packed, as repeated numbers are.
        to.bytes_field(BUCKET_COUNTS, &self.count.to_le_bytes());
        put_attributes(to, histogram_point::ATTRIBUTES, &self.attributes);
        to.fixed64_field(MIN, self.min.to_bits());
        to.fixed64_field(MAX, self.max.to_bits());
    }
}

impl Interval {
    fn put(self, to: &mut Buffer) {
        to.fixed64_field(START, self.start);
        to.fixed64_field(TIME, self.now);
    }
}

fn put_attributes(to: &mut Buffer, field: u32, attributes: &Attributes) {
    attributes.iter().for_each(|attribute| put_attribute(to, field, &attribute.key, &attribute.value));
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::{self as common, AnyValue, InstrumentationScope, any_value},
        metrics::v1::{self as proto, NumberDataPoint, metric, number_data_point},
    };
    use prost::Message as _;

    use super::*;

    const INTERVAL: Interval = Interval { start: 5, now: 1_700_000_000_000_000_000 };

    fn attributes() -> Attributes {
        vec![KeyValue::new("error.type", "timeout"), KeyValue::new("server.port", 4318)]
    }

    fn their_attributes() -> Vec<common::KeyValue> {
        let of = |key: &str, value| common::KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..common::KeyValue::default()
        };
        let timeout = any_value::Value::StringValue("timeout".to_owned());
        vec![of("error.type", timeout), of("server.port", any_value::Value::IntValue(4318))]
    }

    fn points() -> Vec<Point> {
        vec![Point { attributes: attributes(), value: 7 }, Point { attributes: Vec::new(), value: i64::MAX }]
    }

    fn their_points() -> Vec<NumberDataPoint> {
        let of = |attributes, value| NumberDataPoint {
            attributes,
            start_time_unix_nano: INTERVAL.start,
            time_unix_nano: INTERVAL.now,
            value: Some(number_data_point::Value::AsInt(value)),
            ..NumberDataPoint::default()
        };
        vec![of(their_attributes(), 7), of(Vec::new(), i64::MAX)]
    }

    #[test]
    fn every_kind_of_metric_decodes_to_what_it_was() {
        // A differential test: what the official types make of it, and what they would have written.
        let resource = EncodedResource::new(&[KeyValue::new("service.name", "shop")], "https://example.com/1");
        let distribution = Distribution { attributes: attributes(), count: 3, sum: 1.5, min: 0.25, max: 1.0 };
        let data = [
            Data::Gauge(points()),
            Data::Sum { points: points(), is_monotonic: true },
            Data::Sum { points: Vec::new(), is_monotonic: false },
            Data::Histogram(vec![distribution]),
        ];
        let aggregation_temporality = proto::AggregationTemporality::Cumulative.into();
        let their_data = [
            metric::Data::Gauge(proto::Gauge { data_points: their_points() }),
            metric::Data::Sum(proto::Sum { data_points: their_points(), aggregation_temporality, is_monotonic: true }),
            metric::Data::Sum(proto::Sum { aggregation_temporality, ..proto::Sum::default() }),
            metric::Data::Histogram(proto::Histogram {
                data_points: vec![proto::HistogramDataPoint {
                    attributes: their_attributes(),
                    start_time_unix_nano: INTERVAL.start,
                    time_unix_nano: INTERVAL.now,
                    count: 3,
                    sum: Some(1.5),
                    bucket_counts: vec![3],
                    min: Some(0.25),
                    max: Some(1.0),
                    ..proto::HistogramDataPoint::default()
                }],
                aggregation_temporality,
            }),
        ];
        let metrics: Vec<_> = data.into_iter().map(|data| Metric { name: "sent", unit: "{span}", data }).collect();
        let ours = request(&resource, &metrics, INTERVAL);

        let decoded = ExportMetricsServiceRequest::decode(ours.as_slice()).unwrap();
        let [resource_metrics] = &decoded.resource_metrics[..] else { panic!("{decoded:?}") };
        assert_eq!(resource_metrics.schema_url, "https://example.com/1");
        assert_eq!(resource_metrics.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let [scope_metrics] = &resource_metrics.scope_metrics[..] else { panic!("{decoded:?}") };
        let (name, version) = (env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        assert_eq!(scope_metrics.scope, Some(InstrumentationScope { name, version, ..Default::default() }));
        assert_eq!(scope_metrics.metrics.len(), their_data.len());
        for (metric, data) in scope_metrics.metrics.iter().zip(their_data) {
            assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("sent", "{span}"));
            assert_eq!(metric.data, Some(data));
        }
    }
}
