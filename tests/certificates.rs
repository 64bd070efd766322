//! The files of TLS as people make them: with `openssl`, with editors, in the wrong form, and anew while the program
//! runs.
//!
//! Some are made by `openssl`. Without it those tests are skipped, or fail if `OTLP_REQUIRE_INTEROP=1`.
#![cfg(all(feature = "testing", feature = "tls"))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use faults::{Authority, FaultServer, Identity, accept};
use otlp::{Client, ClientBuilder, Error, LogLevel, RetryConfig, testing::generate_test_spans};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, date_time_ymd};
use support::assert_accounted;

fn client_of(server: &FaultServer) -> ClientBuilder {
    Client::builder()
        .with_endpoint(server.endpoint())
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
        .with_request_timeout(Duration::from_secs(20))
        .with_log_level(LogLevel::None)
}

#[track_caller]
fn delivers(client: &Client) {
    assert_eq!(client.export_spans(generate_test_spans(2)).unwrap().accepted, 2);
    assert_accounted(client);
}

/// What is said about spans that cannot be sent.
#[track_caller]
fn refused(client: &Client) -> String {
    let error = client.export_spans(generate_test_spans(2)).unwrap_err();
    let Error::Unreachable { message, .. } = error else { panic!("{error:?}") };
    assert!(message.starts_with("TLS failed: "), "{message}");
    message
}

/// What is said about a client with this file as the certificate it trusts, or as its pair.
#[track_caller]
fn rejected(builder: ClientBuilder) -> String {
    let error = builder.build().unwrap_err();
    let Error::Config { allowed, .. } = &error else { panic!("{error:?}") };
    assert!(allowed.starts_with("must be "), "{error}");
    allowed.clone()
}

/// `openssl` at work in a directory; false where there is none.
fn openssl(directory: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            assert!(env::var("OTLP_REQUIRE_INTEROP").as_deref() != Ok("1"), "openssl is required here");
            false
        }
    }
}

fn as_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn long_expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 3, 4));
}

#[test]
fn the_servers_own_certificate_as_openssl_makes_it_is_trusted_once_it_is_named() {
    // OTLPV-13
    let place = Authority::new();
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 2 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
    if !openssl(place.as_ref(), make) {
        return;
    }
    let file = |name: &str| place.as_ref().join(name);
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let own = Identity { certificate: read("own.pem"), key: read("own.key") };
    let server = FaultServer::tls(Arc::new(own.server(None)), [accept()]);
    let message = refused(&client_of(&server).build().unwrap());
    assert!(message.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{message}");
    delivers(&client_of(&server).with_certificate(file("own.pem")).build().unwrap());
    let by_address = server.endpoint_by("https", "127.0.0.1");
    delivers(&client_of(&server).with_endpoint(by_address).with_certificate(file("own.pem")).build().unwrap());

    // Another one of the same name and the same words, with a key of its own.
    assert!(openssl(place.as_ref(), &make.replace("own.", "other.")));
    refused(&client_of(&server).with_certificate(file("other.pem")).build().unwrap());
}

#[test]
fn a_certificate_that_was_named_itself_is_trusted_whoever_signed_it_and_among_others() {
    // OTLPV-13
    let place = Authority::new();
    let other = Authority::new();
    for own in [
        Identity::self_signed(&["localhost"], as_authority),
        Identity::self_signed(&["localhost"], |params| params.is_ca = IsCa::ExplicitNoCa),
        Identity::self_signed(&["localhost"], |_| {}),
        Authority::new().issue(&["localhost"]),
    ] {
        let server = FaultServer::tls(Arc::new(own.server(None)), [accept()]);
        let trusting = |file| client_of(&server).with_certificate(file).build().unwrap();
        delivers(&trusting(place.file("own.pem", &own.certificate)));
        delivers(&trusting(place.file("bundle.pem", other.certificate() + &own.certificate + &place.certificate())));
        refused(&trusting(place.file("other.pem", other.certificate())));
    }
}

#[test]
fn a_named_certificate_must_be_for_the_host_and_hold_today() {
    // OTLPV-06, OTLPV-13
    let place = Authority::new();
    let said_of = |own: &Identity| {
        let server = FaultServer::tls(Arc::new(own.server(None)), [accept()]);
        let file = place.file("own.pem", &own.certificate);
        let message = refused(&client_of(&server).with_certificate(file).build().unwrap());
        assert_eq!(server.requests().len(), 0);
        message
    };
    for constraints in [IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let of = |names: &[&str], change: fn(&mut CertificateParams)| {
            said_of(&Identity::self_signed(names, |params| {
                params.is_ca = constraints;
                change(params);
            }))
        };
        let message = of(&["elsewhere.example"], |_| {});
        assert!(message.contains("not valid for name \"localhost\""), "{message}");
        let message = of(&["localhost"], long_expired);
        assert!(message.contains("expired at 2002-03-04T00:00:00Z") && message.contains("clock"), "{message}");
        let message = of(&["localhost"], |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2999, 1, 1), date_time_ymd(2999, 3, 4));
        });
        assert!(message.contains("not valid before 2999-01-01T00:00:00Z"), "{message}");
        // As `openssl req -x509` makes them where nobody asks for more: the host is in the subject alone.
        let message = of(&[], |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "localhost");
        });
        assert!(message.contains("-addext subjectAltName=DNS:localhost"), "{message}");
    }
}

#[test]
fn a_certificate_from_a_middle_authority_needs_the_one_between_wherever_it_comes_from() {
    // OTLPV-13
    let root = Authority::new();
    let middle = root.deputy();
    let own = middle.issue(&["localhost"]);
    let whole = Identity { certificate: own.certificate.clone() + &middle.certificate(), key: own.key.clone() };
    let roots = root.file("root.pem", root.certificate());
    let both = root.file("both.pem", root.certificate() + &middle.certificate());
    let sends_all = FaultServer::tls(Arc::new(whole.server(None)), [accept()]);
    delivers(&client_of(&sends_all).with_certificate(&roots).build().unwrap());
    let sends_one = FaultServer::tls(Arc::new(own.server(None)), [accept()]);
    let message = refused(&client_of(&sends_one).with_certificate(&roots).build().unwrap());
    assert!(message.contains("must send those between"), "{message}");
    delivers(&client_of(&sends_one).with_certificate(&both).build().unwrap());
}

#[test]
fn certificates_and_keys_are_read_as_pem_and_as_der_whatever_editors_do_to_them() {
    // OTLPV-13
    let place = Authority::new();
    let server = FaultServer::tls(place.demanding_server(), [accept()]);
    let ours = place.issue(&["client"]);
    let der = |pem: &str| rcgen_pem(pem);
    let bom = |text: &str| format!("\u{feff}{text}").into_bytes();
    let dos = |text: &str| text.replace('\n', "\r\n").into_bytes();
    let both = format!("what follows is a key\n{}{}and nothing more", ours.key, ours.certificate).into_bytes();
    for (form, authority, certificate, key) in [
        ("DER", der(&place.certificate()), der(&ours.certificate), der(&ours.key)),
        ("byte order mark", bom(&place.certificate()), bom(&ours.certificate), bom(&ours.key)),
        ("CRLF", dos(&place.certificate()), dos(&ours.certificate), dos(&ours.key)),
        ("one file", place.certificate().into_bytes(), both.clone(), both),
    ] {
        let [authority, certificate, key] =
            [("ca", authority), ("client", certificate), ("key", key)].map(|(name, bytes)| place.file(name, bytes));
        let client = client_of(&server).with_certificate(authority).with_client_certificate(certificate, key);
        let client = client.build().unwrap_or_else(|error| panic!("{form}: {error}"));
        delivers(&client);
    }
}

/// The bytes between the lines of a PEM file.
fn rcgen_pem(pem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => key.secret_der().to_vec(),
        Err(_) => CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec(),
    }
}

#[test]
fn keys_of_every_form_that_openssl_writes_are_used_or_refused_for_what_they_are() {
    // OTLPV-13
    let place = Authority::new();
    let directory: &Path = place.as_ref();
    let certified = |name: &str, newkey: &str| {
        openssl(
            directory,
            &format!("req -x509 -newkey {newkey} -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN=client"),
        )
    };
    if !certified("ec", "ec -pkeyopt ec_paramgen_curve:P-384") {
        return;
    }
    let build = |certificate: &str, key: &str| {
        Client::builder().with_client_certificate(directory.join(certificate), directory.join(key))
    };
    assert!(certified("ed", "ed25519") && certified("rsa", "rsa:3072"));
    for make in [
        "ec -in ec.key -out ec.sec1",
        "ec -in ec.key -outform DER -out ec.sec1.der",
        "pkey -in ec.key -outform DER -out ec.der",
        "rsa -in rsa.key -traditional -out rsa.pkcs1",
        "rsa -in rsa.key -traditional -outform DER -out rsa.pkcs1.der",
        "pkey -in ed.key -outform DER -out ed.der",
        "x509 -in ec.pem -outform DER -out ec.crt",
        "ecparam -name P-384 -out parameters",
    ] {
        assert!(openssl(directory, make));
    }
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    place.file("ec.whole", read("parameters") + &read("ec.sec1"));
    for (certificate, key) in [
        ("ec.pem", "ec.key"),
        ("ec.pem", "ec.sec1"),
        ("ec.pem", "ec.whole"),
        ("ec.crt", "ec.sec1.der"),
        ("ec.pem", "ec.der"),
        ("rsa.pem", "rsa.key"),
        ("rsa.pem", "rsa.pkcs1"),
        ("rsa.pem", "rsa.pkcs1.der"),
        ("ed.pem", "ed.key"),
        ("ed.pem", "ed.der"),
    ] {
        build(certificate, key).build().unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    for make in [
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k1.key",
        "genpkey -algorithm ed448 -out ed448.key",
        "genrsa -out small.key 1024",
        "pkey -in ec.key -aes256 -passout pass:secret -out locked.key",
        "pkcs8 -topk8 -in ec.key -passout pass:secret -outform DER -out locked.der",
        "ec -in ec.key -aes256 -passout pass:secret -out locked.sec1",
        "pkcs12 -export -in ec.pem -inkey ec.key -passout pass:secret -out both.p12",
    ] {
        assert!(openssl(directory, make));
    }
    place.file("empty", "");
    place.file(
        "utf16",
        read("ec.key").encode_utf16().flat_map(u16::to_le_bytes).fold(vec![0xFF, 0xFE], |mut all, byte| {
            all.push(byte);
            all
        }),
    );
    for (key, says) in [
        ("p521.key", "this one is P-521"),
        ("k1.key", "this one is secp256k1"),
        ("ed448.key", "this one is Ed448"),
        ("small.key", "this one is RSA with 1024 bits"),
        ("locked.key", "`openssl pkey -in OLD -out NEW`"),
        ("locked.der", "`openssl pkey -in OLD -out NEW`"),
        ("locked.sec1", "`openssl pkey -in OLD -out NEW`"),
        ("both.p12", "`openssl pkcs12 -in OLD -nodes -out NEW`"),
        ("ec.pem", "it holds a certificate and no key"),
        ("ec.crt", "it is a certificate"),
        ("empty", "it is empty"),
        ("utf16", "it is UTF-16"),
        ("parameters", "it holds something else"),
    ] {
        let must = rejected(build("ec.pem", key));
        assert!(must.contains(says), "{key}: {must}");
    }
    for (file, says) in [
        ("both.p12", "`openssl pkcs12 -in OLD -nodes -out NEW`"),
        ("ec.key", "it holds a key and no certificate"),
        ("ec.der", "it is DER, but no certificate"),
        ("empty", "it is empty"),
        ("nowhere", "can be read"),
        (".", "must be a regular file"),
    ] {
        let must = rejected(Client::builder().with_certificate(directory.join(file)));
        assert!(must.contains(says), "{file}: {must}");
    }
    place.file("reversed.pem", place.certificate() + &read("ec.pem"));
    let must = rejected(build("reversed.pem", "ec.key"));
    assert!(must.contains("comes first in its file"), "{must}");
}

#[test]
fn a_receiver_whose_key_is_of_an_unsupported_kind_is_told_by_that_kind() {
    let place = Authority::new();
    let directory: &Path = place.as_ref();
    let make = "req -x509 -newkey rsa:1024 -nodes -keyout own.key -out own.pem -days 2 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost";
    if !openssl(directory, make) {
        return;
    }
    let server = OpensslServer::start(directory, &["-cipher", "ALL:@SECLEVEL=0"]);
    let client = Client::builder()
        .with_endpoint(format!("https://localhost:{}", server.port))
        .with_certificate(directory.join("own.pem"))
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
        .with_log_level(LogLevel::None);
    let message = refused(&client.build().unwrap());
    assert!(message.contains("RSA with 1024 bits"), "{message}");
}

/// `openssl s_server`, which speaks what this crate's own tests cannot.
struct OpensslServer {
    process: std::process::Child,
    port: u16,
}

impl OpensslServer {
    fn start(directory: &Path, more: &[&str]) -> Self {
        use std::io::BufRead as _;
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "own.pem", "-key", "own.key"])
            .args(more)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.strip_prefix("ACCEPT ")?.to_owned();
            address.rsplit_once(':')?.1.trim().parse().ok()
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, port: port.expect("it tells where it listens") }
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the client said about its configuration.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn listening_to(&self, builder: ClientBuilder) -> ClientBuilder {
        let told = self.clone();
        builder.with_log_level(LogLevel::Warn).with_error_handler(move |said| {
            if said.subject() == "config" {
                told.0.lock().unwrap().push(said.message().to_owned());
            }
        })
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Replaces a file as those who renew certificates do: the new one is there at once, or not yet.
fn replace(path: &PathBuf, content: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn connections_made_after_an_authority_was_renewed_use_the_new_one() {
    // OTLPV-13
    let (old, new) = (Authority::new(), Authority::new());
    let server = FaultServer::tls(new.server(), [accept()]);
    let file = old.file("ca.pem", old.certificate());
    let told = Told::default();
    let client = told.listening_to(client_of(&server).with_certificate(&file)).build().unwrap();
    refused(&client);
    replace(&file, new.certificate());
    delivers(&client);
    // A connection that is open stays as it is; a new one finds nobody to trust.
    replace(&file, old.certificate());
    delivers(&client);
    server.close_idle();
    refused(&client);
    // Written over in place, by a text of the same length or nearly so.
    fs::write(&file, new.certificate()).unwrap();
    delivers(&client);
    assert_eq!(told.lines(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_broken_while_it_is_renewed_changes_nothing_and_is_told_once() {
    // OTLPV-13
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let file = authority.file("ca.pem", authority.certificate());
    let told = Told::default();
    let client = told.listening_to(client_of(&server).with_certificate(&file)).build().unwrap();
    delivers(&client);
    for broken in ["-----BEGIN CERTIFICATE-----\nMIIB", "", "nothing"] {
        fs::write(&file, broken).unwrap();
        server.close_idle();
        delivers(&client);
    }
    fs::remove_file(&file).unwrap();
    server.close_idle();
    delivers(&client);
    let lines = told.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ca.pem") && lines[0].contains("going on with what was read before"), "{lines:?}");
    // It is whole again, and then broken again.
    replace(&file, authority.certificate());
    server.close_idle();
    delivers(&client);
    replace(&file, "nothing");
    server.close_idle();
    delivers(&client);
    assert_eq!(told.lines().len(), 2, "{:?}", told.lines());
}

#[test]
fn a_client_certificate_is_renewed_once_its_key_is_there_too() {
    // OTLPV-13
    let authority = Authority::new();
    let server = FaultServer::tls(authority.demanding_server(), [accept()]);
    let stranger = Authority::new().issue(&["client"]);
    let [certificate, key] =
        [authority.file("client.pem", &stranger.certificate), authority.file("client.key", &stranger.key)];
    let told = Told::default();
    let client = client_of(&server)
        .with_certificate(authority.file("ca.pem", authority.certificate()))
        .with_client_certificate(&certificate, &key);
    let client = told.listening_to(client).build().unwrap();
    let message = refused(&client);
    assert!(message.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"), "{message}");
    let ours = authority.issue(&["client"]);
    replace(&certificate, &ours.certificate);
    refused(&client);
    refused(&client);
    assert_eq!(told.lines().len(), 1, "{:?}", told.lines());
    assert!(told.lines()[0].contains("belongs to the key"), "{:?}", told.lines());
    replace(&key, &ours.key);
    delivers(&client);
}

#[test]
fn files_that_did_not_change_cost_no_session() {
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let file = authority.file("ca.pem", authority.certificate());
    let client = client_of(&server).with_certificate(&file).build().unwrap();
    for _ in 0..3 {
        delivers(&client);
        server.close_idle();
        // Touched, not changed.
        replace(&file, authority.certificate());
    }
    assert_eq!(server.resumed(), 2);
}

#[test]
fn what_a_handshake_failed_at_is_told_with_what_helps() {
    let place = Authority::new();
    let directory: &Path = place.as_ref();
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 2 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost";
    if !openssl(directory, make) {
        return;
    }
    for (options, says) in [
        (&["-cipher", "ALL:@SECLEVEL=0", "-no_tls1_3", "-no_tls1_2"][..], "TLS 1.2 and 1.3"),
        (&["-tls1_2", "-cipher", "AES128-SHA"], "no way in common"),
        (&["-Verify", "1", "-verify_return_error", "-tls1_2"], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        (&["-Verify", "1", "-verify_return_error"], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
    ] {
        let server = OpensslServer::start(directory, options);
        let client = Client::builder()
            .with_endpoint(format!("https://localhost:{}", server.port))
            .with_certificate(directory.join("own.pem"))
            .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
            .with_log_level(LogLevel::None);
        let message = refused(&client.build().unwrap());
        assert!(message.contains(says), "{options:?}: {message}");
    }
}
