//! Properties that hold for every environment.

use crate::config::bounds::SHORTEST_DELAY;
use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

/// Texts that resemble what the variables expect.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9=,;% .:/@?#\\[\\]+-]{0,40}",
        "(http|https|ftp)://[a-z0-9:@\\[\\]%/?#.]{0,40}",
        "-?[0-9]{0,25}",
    ]
}

proptest! {
    #[test]
    fn no_environment_makes_it_panic_fail_or_warn_twice(values in prop::collection::vec(text(), VARIABLES.len())) {
        let pairs = VARIABLES.iter().map(|variable| variable.name).zip(values.iter());
        let (settings, warnings) = Settings::resolve(Options::default(), Environment::from_pairs(pairs)).unwrap();
        for variable in VARIABLES {
            let about = |warning: &&String| {
                let rest = warning.strip_prefix(variable.name);
                rest.is_some_and(|rest| rest.starts_with(['=', ':']))
            };
            prop_assert!(warnings.iter().filter(about).count() <= 1, "{:?}", warnings);
        }
        prop_assert!(warnings.iter().all(|warning| !warning.contains(char::is_control)), "{:?}", warnings);
        let batch = &settings.batch;
        prop_assert!(0 < batch.max_batch_size && batch.max_batch_size <= batch.max_queue_size);
        prop_assert!(settings.exit_budget.stall <= settings.exit_budget.total);
        prop_assert!(SHORTEST_DELAY <= batch.batch_timeout && !settings.export_timeout.is_zero());
    }

    #[test]
    fn no_message_contains_anything_of_a_header_list(before in text(), after in text(), in_traces in any::<bool>()) {
        const SECRET: &str = "s3cret";
        let name = if in_traces { env::TRACES_HEADERS } else { env::HEADERS };
        let list = format!("{before}{SECRET}{after}");
        let (settings, warnings) = resolve(Options::default(), &[(name, &list)]).unwrap();
        prop_assert!(warnings.len() <= 1);
        prop_assert!(!contains(&warnings, SECRET), "{:?}", warnings);
        prop_assert!(settings.headers.iter().all(|(_, value)| value.is_sensitive()));
        let options = Options { headers: vec![("a".to_owned(), list)], ..Options::default() };
        prop_assert!(!contains(&resolve(options, &[]), SECRET));
    }

    #[test]
    fn no_message_contains_the_password_of_a_url(
        scheme in prop_oneof![Just("http://"), Just("https://"), Just("ftp://"), Just("")],
        user in prop_oneof!["[a-z]", "[a-z%@:]{0,4}"],
        rest in prop_oneof!["[/?#][a-z]{0,2}", "[ -~]{0,8}"],
        path in "[/a-z0-9?#:@%=]{0,12}",
    ) {
        // Digits also pass for a port, when a raw '/' in the password ends the authority early.
        const SECRET: &str = "54321";
        let url = format!("{scheme}{user}:{SECRET}{rest}@h{path}");
        for name in [env::ENDPOINT, env::TRACES_ENDPOINT] {
            let resolved = resolve(Options::default(), &[(name, &url)]);
            prop_assert!(!contains(&resolved, SECRET), "{:?}", resolved);
        }
        let resolved = resolve(Options { endpoint: Some(url.clone()), ..Options::default() }, &[]);
        prop_assert!(!contains(&resolved, SECRET), "{:?}", resolved);
        let resolved = resolve(Options { traces_endpoint: Some(url), ..Options::default() }, &[]);
        prop_assert!(!contains(&resolved, SECRET), "{:?}", resolved);
    }
}

/// Whether debug output contains the secret; it shows everything: settings, warnings, errors.
fn contains(shown: &impl Debug, secret: &str) -> bool {
    format!("{shown:?}").contains(secret)
}
