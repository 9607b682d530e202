//! Every peer that is installed, started from the files of this tree: it forwards a request, and what it adds to one is known. A peer that
//! is not installed is named and passed over, as in a session.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own files and processes; any failure is a failed test"
)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::clock;
use harness::peers;
use harness::subject::{Catalogue, Name, Role, Subject, Values};
use harness::wire::{ANSWER, Recorder, Wire};

/// A peer at work; it is ended with all that it started.
struct Running {
    child: Child,
    addr: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let kill = |signal: &str| Command::new("kill").args([signal, "--", &group]).status();
        match kill("-KILL") {
            Ok(_) | Err(_) => (), // It may have ended by itself.
        }
        match self.child.wait() {
            Ok(_) | Err(_) => (), // Nothing more can be done for it.
        }
    }
}

fn catalogue() -> Catalogue {
    Catalogue::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The peers' subjects, by name.
fn subjects(catalogue: &Catalogue) -> Vec<(String, Subject)> {
    let names = catalogue.names();
    let found = names.split(", ").map(|name| {
        let subject = catalogue.find(&name.parse::<Name>().unwrap()).unwrap();
        (name.to_owned(), subject.clone())
    });
    found
        .filter(|(_name, subject)| subject.templates.ends_with("peers"))
        .collect()
}

/// Where nothing else listens: an address of this process's own, below the ports that are handed out.
fn address(number: usize) -> SocketAddr {
    let pid = std::process::id();
    let byte = |value: u32| u8::try_from(value % 250 + 2).unwrap();
    SocketAddr::from((
        [
            127,
            byte(pid / 250),
            byte(pid),
            u8::try_from(number).unwrap(),
        ],
        18_080,
    ))
}

fn program(subject: &Subject) -> Option<PathBuf> {
    let path = std::env::var_os("PATH");
    // Beside the folder of the harness, as for a session.
    let bin_dir = Path::new(env!("CARGO_BIN_EXE_harness")).parent().unwrap();
    peers::find(&subject.program, &peers::folders(path.as_deref(), bin_dir))
}

fn start(subject: &Subject, program: &Path, addr: SocketAddr, backends: &[SocketAddr]) -> Running {
    let folder = tempfile::tempdir().unwrap();
    // Some become another user, who must get there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let listed: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let values = Values::from([
        ("listen", addr.to_string()),
        ("host", addr.ip().to_string()),
        ("port", addr.port().to_string()),
        ("backends", listed.join(",")),
        ("workers", "1".to_owned()),
        ("dir", folder.path().display().to_string()),
    ]);
    for (file, template) in &subject.files {
        let template = fs::read_to_string(subject.templates.join(template)).unwrap();
        let text = peers::render(&template, &values, backends).unwrap();
        fs::write(folder.path().join(file), text).unwrap();
    }
    let fill = |word: &String| peers::words(word, &values, backends).unwrap();
    let out = fs::File::create(folder.path().join("said")).unwrap();
    let child = Command::new(program)
        .args(subject.args.iter().flat_map(fill))
        .envs(
            subject
                .env
                .iter()
                .map(|(key, value)| (key, fill(value).concat())),
        )
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .process_group(0)
        .spawn()
        .unwrap();
    Running {
        child,
        addr,
        folder,
    }
}

/// The first exchange that works; a peer may need a while to start.
fn first_exchange(name: &str, peer: &mut Running, recorder: &Recorder) -> Wire {
    let deadline = clock::now() + PATIENCE;
    loop {
        match recorder.exchange(peer.addr, PATIENCE) {
            Ok(wire) => return wire,
            Err(error) => {
                let ended = peer.child.try_wait().unwrap();
                let said = fs::read_to_string(peer.folder.path().join("said")).unwrap_or_default();
                assert!(
                    ended.is_none(),
                    "{name}: {error}; ended ({ended:?}): {said}"
                );
                assert!(clock::now() < deadline, "{name}: {error}: {said}");
            }
        }
        clock::pause(Duration::from_millis(10));
    }
}

#[test]
fn every_installed_peer_forwards_a_request() {
    let catalogue = catalogue();
    let mut tried = 0;
    for (number, (name, subject)) in (1..).zip(subjects(&catalogue)) {
        if subject.role == Role::Backend {
            continue;
        }
        let Some(program) = program(&subject) else {
            eprintln!("{name}: not installed ({})", subject.install);
            continue;
        };
        assert!(
            peers::version(&program, &subject.version).is_some(),
            "{name} tells no version"
        );
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::bind(&folder.path().join("socket")).unwrap();
        let mut peer = start(&subject, &program, address(number), &[recorder.addr()]);
        let wire = first_exchange(&name, &mut peer, &recorder);
        let text = String::from_utf8(wire.to_backend).unwrap();
        assert!(text.starts_with("GET / HTTP/1."), "{name}: {text}");
        let answer = String::from_utf8(wire.to_client).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        if subject.role == Role::Relay {
            assert_eq!(answer.as_bytes(), ANSWER, "{name} is no relay");
        }
        if !name.contains('@') {
            // The minimal profile keeps the connections on both sides and passes Host.
            assert!(text.starts_with("GET / HTTP/1.1\r\n"), "{name}: {text}");
            let small = text.to_ascii_lowercase();
            assert!(!small.contains("connection: close"), "{name}: {text}");
            assert!(
                small.contains(&format!("host: {}", peer.addr)),
                "{name}: {text}"
            );
            assert!(
                !small.contains("forwarded-for") && !small.contains("\r\nvia:"),
                "{name}: {text}"
            );
        }
        tried += 1;
    }
    eprintln!("{tried} peers forwarded a request");
}

#[test]
fn a_configuration_for_many_backends_is_accepted() {
    let catalogue = catalogue();
    for (number, (name, subject)) in (101..).zip(subjects(&catalogue)) {
        let is_one =
            subject.role != Role::Proxy || name.contains('@') || subject.backends_max.is_some();
        let Some(program) = program(&subject).filter(|_program| !is_one) else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::bind(&folder.path().join("socket")).unwrap();
        // All of them are one listener, so that the first request is answered wherever it goes.
        let backends = [recorder.addr(); 3];
        let mut peer = start(&subject, &program, address(number), &backends);
        first_exchange(&name, &mut peer, &recorder);
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
