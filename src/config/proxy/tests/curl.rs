//! What curl does, if it is installed.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Three proxies that refuse every request, and a receiver; each counts its connections.
pub(super) struct Curl([Place; 4]);

struct Place {
    port: u16,
    connections: Arc<AtomicU64>,
}

/// Addresses in the place of `{a}`, `{b}` and `{c}`.
pub(super) fn filled(value: &str, ports: [u16; 3]) -> String {
    let filled = |text: String, (name, port): (&str, u16)| text.replace(name, &format!("127.0.0.1:{port}"));
    ["{a}", "{b}", "{c}"].into_iter().zip(ports).fold(value.to_owned(), filled)
}

impl Curl {
    /// Finds curl; prints a line and returns `None` if it is not installed.
    pub(super) fn find() -> Option<Self> {
        let version = Command::new("curl").arg("--version").output().ok().filter(|output| output.status.success());
        let Some(version) = version else {
            eprintln!("skipped: there is no curl to compare with");
            return None;
        };
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        // Networks are known since 7.86, the oldest release compared.
        let number = version.split([' ', '.']).skip(1).map_while(|part| part.parse::<u32>().ok());
        if number.take(2).collect::<Vec<_>>() < vec![7, 88] {
            eprintln!("skipped: this curl is too old to compare with: {version}");
            return None;
        }
        Some(Self(std::array::from_fn(|_| Place::open())))
    }

    pub(super) fn ports(&self) -> [u16; 3] {
        [0, 1, 2].map(|at: usize| self.0[at].port)
    }

    /// Where a request went with these variables alone: to a proxy, `direct`, or nowhere with an `error`.
    pub(super) fn went(&self, url: &str, variables: &[(&str, &str)]) -> &'static str {
        let before = self.0.each_ref().map(Place::connections);
        let receiver = format!("::127.0.0.1:{}", self.0[3].port);
        let path = crate::env::variable("PATH").unwrap_or_default();
        let mut command = Command::new("curl");
        command.args(["-q", "-s", "-o", "-", "-m", "20", "-g", "--connect-to", &receiver, url]);
        command.env_clear().env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        command.envs(variables.iter().map(|(name, value)| (name, filled(value, self.ports()))));
        let _ = command.status();
        let went = (0..4).find(|at| self.0[*at].connections() > before[*at]);
        went.map_or("error", |at| ["a", "b", "c", "direct"][at])
    }
}

impl Place {
    /// Serves until the process ends.
    fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, connections) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { port, connections }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}
