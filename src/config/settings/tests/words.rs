//! Settings with named values: what they display can be parsed again, also from the environment.

use std::{fmt, str::FromStr};

use proptest::prelude::*;

use super::*;
use crate::{config::Protocol, error::ParseError};

fn is_read_back<T>(value: T, variable: &str, of: impl Fn(&Settings) -> T)
where
    T: FromStr<Err = ParseError> + fmt::Display + fmt::Debug + PartialEq + Copy,
{
    let text = value.to_string();
    for text in [text.clone(), text.to_uppercase(), format!(" {text}\t")] {
        assert_eq!(text.parse(), Ok(value), "{text:?}");
        let (settings, _) = resolve(Options::default(), &[(variable, &text)]).unwrap();
        assert_eq!(of(&settings), value, "{variable}={text:?}");
    }
    assert_eq!(format!("{value:>40}").trim_start(), text, "it is padded as asked");
}

#[test]
fn a_setting_with_words_is_read_from_what_it_shows_itself_as_in_code_and_in_the_environment() {
    // ENV-07
    for level in [LogLevel::None, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug] {
        is_read_back(level, env::LOG_LEVEL, |settings| settings.log_level);
    }
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_compiled_in()) {
        is_read_back(compression, env::COMPRESSION, |settings| settings.compression);
    }
    for compression in Compression::ALL {
        assert_eq!(compression.to_string().parse(), Ok(compression), "compiled in or not");
    }
    for strategy in [DropStrategy::NewestFirst, DropStrategy::OldestFirst] {
        is_read_back(strategy, env::DROP_STRATEGY, |settings| settings.drop_strategy);
    }
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        assert_eq!(protocol.to_string().parse(), Ok(protocol));
    }
}

#[test]
fn a_text_that_names_no_setting_is_told_with_what_is_allowed_alike_in_code_and_in_the_environment() {
    // ENV-08
    let told = |text: &str, error: ParseError, variable: Option<&str>| {
        let must = format!("{text:?}: must be ");
        let message = error.to_string();
        assert!(message.starts_with(&must), "{message}");
        if let Some(variable) = variable {
            let (_, warnings) = resolve(Options::default(), &[(variable, text)]).unwrap();
            assert!(warnings[0].starts_with(&format!("{variable}={message}; using ")), "{warnings:?} and {message}");
        }
        message
    };
    let level = told("loud", "loud".parse::<LogLevel>().unwrap_err(), Some(env::LOG_LEVEL));
    assert!(level.ends_with("one of none, off, error, warn, info, debug"), "{level}");
    let compression = told("lzma", "lzma".parse::<Compression>().unwrap_err(), Some(env::COMPRESSION));
    assert!(compression.ends_with("one of none, gzip, brotli, zstd"), "{compression}");
    for text in ["oldest", "block", "block:", "block:0", "block:-1", "block:1s", "newest_first:1", ""] {
        let variable = Some(env::DROP_STRATEGY).filter(|_| !text.is_empty());
        told(text, text.parse::<DropStrategy>().unwrap_err(), variable);
    }
    for text in ["http/json", "http", "grpcs"] {
        let protocol = told(text, text.parse::<Protocol>().unwrap_err(), None);
        assert!(protocol.ends_with("one of http/protobuf, grpc"), "{protocol}");
    }
}

proptest! {
    #[test]
    fn a_time_to_block_is_read_back_and_what_is_less_than_a_millisecond_counts_as_one(nanos in 1..u64::MAX) {
        let strategy = DropStrategy::Block(Duration::from_nanos(nanos));
        let read: DropStrategy = strategy.to_string().parse().unwrap();
        let DropStrategy::Block(read_back) = read else { panic!("{read:?}") };
        prop_assert!(read_back >= Duration::from_nanos(nanos) && read_back < Duration::from_nanos(nanos) + MS);
        prop_assert_eq!(read.to_string(), strategy.to_string());
        let millis = DropStrategy::Block(Duration::from_millis(nanos));
        prop_assert_eq!(millis.to_string().parse(), Ok(millis));
    }

    #[test]
    fn no_text_makes_reading_a_setting_panic(text in any::<String>()) {
        let shown = [
            text.parse::<LogLevel>().map_err(|error| error.to_string()).err(),
            text.parse::<Compression>().map_err(|error| error.to_string()).err(),
            text.parse::<DropStrategy>().map_err(|error| error.to_string()).err(),
            text.parse::<Protocol>().map_err(|error| error.to_string()).err(),
        ];
        prop_assert!(shown.iter().flatten().all(|shown| !shown.contains(char::is_control)), "{:?}", shown);
    }
}
