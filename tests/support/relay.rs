//! A proxy that makes connections, by script: in HTTP to who says CONNECT, and in SOCKS 5. Wherever it is asked to, it
//! connects to one place.
#![allow(dead_code)]

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What it speaks, and how it answers.
#[derive(Clone)]
pub(crate) enum Speaks {
    /// These bytes are its answer. Behind a 2xx the connection is made.
    Http(&'static str),
    /// The method it chooses, what it thinks of a password, and its reply. Behind a 0 the connection is made.
    Socks { method: u8, password: u8, reply: u8 },
}

pub(crate) struct Relay {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    /// Connects to the port of `endpoint` on this machine. It serves until the process ends.
    pub(crate) fn to(endpoint: &str, speaks: Speaks) -> Self {
        let port: u16 = endpoint.rsplit_once(':').unwrap().1.parse().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&relay.asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, speaks) = (Arc::clone(&asked), speaks.clone());
                thread::spawn(move || {
                    let at = {
                        let mut asked = asked.lock().unwrap();
                        asked.push(Vec::new());
                        asked.len() - 1
                    };
                    let note = |bytes: &[u8]| asked.lock().unwrap()[at].extend_from_slice(bytes);
                    let _ = serve(stream, port, &speaks, note);
                });
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was told on each connection before it made one itself.
    pub(crate) fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().clone()
    }

    /// As text, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.asked().iter().map(|asked| String::from_utf8_lossy(asked).to_lowercase()).collect()
    }
}

fn serve(mut stream: TcpStream, port: u16, speaks: &Speaks, note: impl Fn(&[u8])) -> io::Result<()> {
    let is_made = match speaks {
        Speaks::Http(answer) => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(take(&mut stream, 1)?[0]);
            }
            note(&head);
            stream.write_all(answer.as_bytes())?;
            answer.contains(" 2")
        }
        Speaks::Socks { method, password, reply } => socks(&mut stream, [*method, *password, *reply], note)?,
    };
    if !is_made {
        // What still comes is read, so that nothing is reset.
        stream.shutdown(Shutdown::Write)?;
        io::copy(&mut stream, &mut io::sink())?;
        return Ok(());
    }
    let receiver = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut there, mut back) = (stream.try_clone()?, receiver.try_clone()?);
    let answers = thread::spawn(move || {
        let _ = io::copy(&mut back, &mut there);
        let _ = there.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut stream, &mut &receiver);
    let _ = receiver.shutdown(Shutdown::Both);
    let _ = answers.join();
    Ok(())
}

fn socks(stream: &mut TcpStream, [method, password, reply]: [u8; 3], note: impl Fn(&[u8])) -> io::Result<bool> {
    let begun = take(stream, 2)?;
    let methods = take(stream, begun[1].into())?;
    note(&[begun, methods].concat());
    stream.write_all(&[5, method])?;
    if method == 255 {
        return Ok(false);
    }
    if method == 2 {
        let begun = take(stream, 2)?;
        let user = take(stream, begun[1].into())?;
        let length = take(stream, 1)?;
        let word = take(stream, length[0].into())?;
        note(&[begun, user, length, word].concat());
        stream.write_all(&[1, password])?;
        if password != 0 {
            return Ok(false);
        }
    }
    let begun = take(stream, 5)?;
    let rest = match begun[3] {
        1 => 4 + 2 - 1,
        4 => 16 + 2 - 1,
        _ => usize::from(begun[4]) + 2,
    };
    let rest = take(stream, rest)?;
    note(&[begun, rest].concat());
    // With a name where most have an address.
    stream.write_all(&[&[5, reply, 0, 3, 4][..], b"here", &[0, 80]].concat())?;
    Ok(reply == 0)
}

fn take(stream: &mut TcpStream, bytes: usize) -> io::Result<Vec<u8>> {
    let mut taken = vec![0; bytes];
    stream.read_exact(&mut taken)?;
    Ok(taken)
}
