//! The resolver against a name server of the test's own: over real sockets, and by messages alone, so that nothing waits for
//! a clock but the times that answers hold, which are a second at least.
#![expect(
    clippy::unwrap_used,
    reason = "what tests share are functions, not tests themselves"
)]

#[path = "names/server.rs"]
mod server;

use hp_core::wire::dns::Name;
use hp_proxy::config::names::Dns;
use hp_proxy::resolver::{Resolver, Update, look_up};
use hp_proxy::upstream::discovery::{Answers, Host, Target};
use server::{A, AAAA, SRV, Says, Server, service};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

fn host(text: &str) -> Target {
    Target::Host(host_of(text, false))
}

fn host_of(text: &str, is_absolute: bool) -> Host {
    Host {
        name: Name::parse(text).unwrap(),
        is_absolute,
    }
}

fn dns(servers: &[SocketAddr]) -> Dns {
    Dns {
        servers: servers.to_vec(),
        timeout: Some(Duration::from_secs(20)),
        hosts_file: "no/such/file".into(),
        ..Dns::default()
    }
}

fn known(answers: &Answers, name: &str) -> String {
    let addrs = answers.host(&host_of(name, false)).iter();
    addrs.map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Looks one name up; gives its addresses, and what operators are told.
fn check(dns: &Dns, name: &str) -> (String, Vec<String>) {
    let update = look_up(dns, BTreeSet::from([host(name)])).unwrap().unwrap();
    let told = update.notices.iter().map(ToString::to_string).collect();
    (known(&update.answers, name), told)
}

fn v4(addrs: &[[u8; 4]]) -> Vec<(u16, Vec<u8>)> {
    addrs.iter().map(|addr| (A, addr.to_vec())).collect()
}

#[test]
fn both_families_are_found() {
    let server = Server::start();
    server.say("web.test", A, Says::Records(60, v4(&[[127, 0, 0, 1]])));
    let v6 = Ipv6Addr::LOCALHOST.octets().to_vec();
    server.say("web.test", AAAA, Says::Records(60, vec![(AAAA, v6)]));
    let (found, told) = check(&dns(&[server.addr]), "web.test");
    assert_eq!((found.as_str(), told), ("127.0.0.1 ::1", Vec::new()));
}

#[test]
fn forged_answers_are_passed_over() {
    let server = Server::start();
    server.say(
        "web.test",
        A,
        Says::AfterForgeries(60, v4(&[[127, 0, 0, 1]])),
    );
    server.say("web.test", AAAA, Says::Records(60, Vec::new()));
    let (found, told) = check(&dns(&[server.addr]), "web.test");
    assert_eq!((found.as_str(), told), ("127.0.0.1", Vec::new()));
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "each family was asked for once: {asked:?}");
    assert_ne!(
        asked[0].from.port(),
        asked[1].from.port(),
        "each question has a port of its own"
    );
}

#[test]
fn what_does_not_fit_a_datagram_comes_over_a_stream() {
    let server = Server::start();
    let many: Vec<[u8; 4]> = (0..1000u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            [10, 0, high, low]
        })
        .collect();
    server.say("web.test", A, Says::MoreThanFits(60, v4(&many)));
    server.say("web.test", AAAA, Says::Records(60, Vec::new()));
    let (found, _) = check(&dns(&[server.addr]), "web.test");
    assert_eq!(found.split(' ').count(), 256, "as many as are used");
    assert!(found.starts_with("10.0.0.0 10.0.0.1 "));
    let asked = server.asked();
    let streams = asked.iter().filter(|asked| asked.is_stream).count();
    assert_eq!(streams, 1, "{asked:?}");
}

#[test]
fn a_loop_of_compressed_names_hangs_nobody() {
    let (server, other) = (Server::start(), Server::start());
    server.say("web.test", A, Says::Loop);
    server.say("web.test", AAAA, Says::Loop);
    other.say_v4("web.test", 60, &[[127, 0, 0, 2]]);
    let (found, _) = check(&dns(&[server.addr, other.addr]), "web.test");
    assert_eq!(found, "127.0.0.2");
}

#[test]
fn the_next_server_is_asked_when_one_fails() {
    let (failing, other) = (Server::start(), Server::start());
    // Nobody listens there: the kernel says so at once.
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    failing.say("web.test", A, Says::Code(2));
    failing.say("web.test", AAAA, Says::Code(5));
    other.say_v4("web.test", 60, &[[127, 0, 0, 3]]);
    let (found, told) = check(&dns(&[gone, failing.addr, other.addr]), "web.test");
    assert_eq!((found.as_str(), told), ("127.0.0.3", Vec::new()));
}

#[test]
fn names_that_nobody_has_are_told_with_the_reason() {
    let server = Server::start();
    server.say("empty.test", A, Says::Records(60, Vec::new()));
    server.say("empty.test", AAAA, Says::Records(60, Vec::new()));
    server.say("broken.test", A, Says::Code(2));
    server.say("broken.test", AAAA, Says::Code(2));
    for (name, why) in [
        ("gone.test", "the name does not exist"),
        ("empty.test", "the name has no such records"),
        ("broken.test", "a name server failed (SERVFAIL)"),
        ("web.invalid", "the name does not exist"),
    ] {
        let (found, told) = check(&dns(&[server.addr]), name);
        let line = format!("{name}: {why}; nothing goes there until it resolves");
        assert_eq!((found.as_str(), told), ("", vec![line]));
    }
}

#[test]
fn the_hosts_file_comes_before_any_server() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hosts");
    std::fs::write(&file, "192.0.2.7 web.test\n2001:db8::7 web.test\n").unwrap();
    let dns = Dns {
        hosts_file: file,
        ..dns(&[server.addr])
    };
    assert_eq!(check(&dns, "web.test").0, "192.0.2.7 2001:db8::7");
    assert_eq!(check(&dns, "localhost").0, "127.0.0.1 ::1");
    assert_eq!(server.asked(), Vec::new());
}

/// A resolver, and what it tells.
struct Told(Resolver, Receiver<Update>);

impl Told {
    fn start(dns: &Dns, targets: &[Target]) -> Self {
        let (sender, receiver) = mpsc::channel();
        let tell = move |update| sender.send(update).unwrap_or(());
        let mut resolver = Resolver::start(tell).unwrap();
        resolver.want(dns, targets.iter().cloned().collect());
        Self(resolver, receiver)
    }

    fn next(&self) -> Update {
        self.1
            .recv_timeout(Duration::from_secs(60))
            .expect("it tells nothing")
    }
}

#[test]
fn an_answer_that_ends_is_followed_by_the_next_one() {
    let server = Server::start();
    server.say_v4("web.test", 1, &[[127, 0, 0, 1]]);
    let told = Told::start(&dns(&[server.addr]), &[host("web.test")]);
    assert_eq!(known(&told.next().answers, "web.test"), "127.0.0.1");
    server.say_v4("web.test", 1, &[[127, 0, 0, 1], [127, 0, 0, 2]]);
    assert_eq!(
        known(&told.next().answers, "web.test"),
        "127.0.0.1 127.0.0.2"
    );
    server.say_v4("web.test", 1, &[[127, 0, 0, 2]]);
    assert_eq!(known(&told.next().answers, "web.test"), "127.0.0.2");
}

#[test]
fn what_was_known_is_kept_when_servers_fail_and_names_vanish() {
    let server = Server::start();
    server.say_v4("web.test", 1, &[[127, 0, 0, 1]]);
    let told = Told::start(&dns(&[server.addr]), &[host("web.test")]);
    told.next();
    for (code, why) in [
        (3, "the name does not exist"),
        (2, "a name server failed (SERVFAIL)"),
    ] {
        for kind in [A, AAAA] {
            server.say("web.test", kind, Says::Code(code));
        }
        let update = told.next();
        assert_eq!(known(&update.answers, "web.test"), "127.0.0.1");
        let line = update.notices[0].to_string();
        assert_eq!(line, format!("web.test: {why}; its last 1 record kept"));
        server.say_v4("web.test", 1, &[[127, 0, 0, 1]]);
        assert_eq!(
            told.next().notices[0].to_string(),
            "web.test: the name resolves again"
        );
    }
}

#[test]
fn a_service_comes_with_the_addresses_of_its_hosts() {
    let server = Server::start();
    let name = "_http._tcp.web.test";
    let places = vec![
        service(1, 3, 8001, "a.web.test"),
        service(2, 1, 8002, "b.web.test"),
    ];
    server.say(name, SRV, Says::Records(1, places));
    server.say_v4("a.web.test", 60, &[[127, 0, 0, 1]]);
    server.say_v4("b.web.test", 60, &[[127, 0, 0, 2]]);
    let target = Name::parse(name).unwrap();
    let told = Told::start(&dns(&[server.addr]), &[Target::Service(target.clone())]);
    let first = told.next().answers;
    let ports: Vec<u16> = first
        .service(&target)
        .iter()
        .map(|service| service.port)
        .collect();
    assert_eq!(ports, [8001, 8002]);
    assert_eq!(first.hosts.len(), 2);
    assert!(first.hosts.values().all(|addrs| addrs.len() == 1));
    // Another host takes over: told when its address is known, not before.
    server.say_v4("c.web.test", 60, &[[127, 0, 0, 3]]);
    server.say(
        name,
        SRV,
        Says::Records(1, vec![service(1, 1, 8003, "c.web.test")]),
    );
    let second = told.next().answers;
    let addrs = second.host(&host_of("c.web.test", true));
    assert_eq!((second.hosts.len(), addrs.len()), (1, 1));
}

#[test]
fn other_names_are_asked_for_when_others_are_wanted() {
    let server = Server::start();
    server.say_v4("one.test", 3600, &[[127, 0, 0, 1]]);
    server.say_v4("two.test", 3600, &[[127, 0, 0, 2]]);
    let settings = dns(&[server.addr]);
    let mut told = Told::start(&settings, &[host("one.test")]);
    assert_eq!(told.next().want, 1);
    let both = BTreeSet::from([host("one.test"), host("two.test")]);
    assert_eq!(told.0.want(&settings, both), 2);
    let update = told.next();
    assert_eq!(update.want, 2);
    assert_eq!(known(&update.answers, "one.test"), "127.0.0.1");
    assert_eq!(known(&update.answers, "two.test"), "127.0.0.2");
    // Nothing new: it is answered all the same, for somebody waits.
    assert_eq!(
        told.0.want(&settings, BTreeSet::from([host("two.test")])),
        3
    );
    let update = told.next();
    assert_eq!(
        (update.want, known(&update.answers, "one.test").as_str()),
        (3, "")
    );
    let asked = server.asked();
    assert_eq!(
        asked.len(),
        4,
        "each name for both families, once: {asked:?}"
    );
}

#[test]
fn questions_that_nobody_answers_end() {
    let server = Server::start();
    for kind in [A, AAAA] {
        server.say("web.test", kind, Says::Silence);
    }
    let settings = Dns {
        timeout: Some(Duration::from_millis(20)),
        attempts: Some(3),
        ..dns(&[server.addr])
    };
    let (found, told) = check(&settings, "web.test");
    assert_eq!(found, "");
    assert_eq!(
        told,
        ["web.test: no name server answered in time; nothing goes there until it resolves"]
    );
    let asked = server.asked();
    assert_eq!(asked.len(), 6, "three times for each family: {asked:?}");
}

#[test]
fn a_file_is_checked_with_its_names() {
    let server = Server::start();
    server.say_v4("many.test", 60, &[[127, 0, 0, 1], [127, 0, 0, 2]]);
    server.say_v4("one.test", 60, &[[127, 0, 0, 1]]);
    let nobody = vec![service(0, 0, 80, "nobody.test")];
    server.say("_http._tcp.test", SRV, Says::Records(60, nobody));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hp.toml");
    let text = format!(
        "[dns]\nservers = [\"{}\"]\nhosts_file = \"none\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"web\"\n\
         [upstream.web]\nendpoints = [\"many.test:80\", \"gone.test:80\", \"one.test:80\", \"srv:_http._tcp.test\"]\n",
        server.addr
    );
    std::fs::write(&file, text).unwrap();
    let run = |words: &[&str]| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
            .args(words)
            .arg("hp.toml")
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(program.stderr).unwrap();
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        (program.status.code(), lines)
    };
    let several = "hp.toml:9:14: upstream.web.endpoints[0]: many.test: it has 2 addresses of one family, of which one is used \
                   at a time; write resolve = \"each\" where each is a server";
    let gone = "hp.toml:9:30: upstream.web.endpoints[1]: gone.test: the name does not exist";
    let service = "hp.toml:9:61: upstream.web.endpoints[3]: _http._tcp.test: nobody.test: the name does not exist";
    let file = "hp.toml:3:14: dns.hosts_file: \"none\" is no file that can be read; leave hosts_file out for /etc/hosts";
    let warning = |line: &str| format!("warning: {line}");
    assert_eq!(
        run(&["check"]),
        (
            Some(0),
            [file, several, gone, service].map(warning).to_vec()
        )
    );
    let (code, lines) = run(&["check", "--strict-names"]);
    assert_eq!(code, Some(1));
    assert_eq!(lines, [&warning(file), &warning(several), gone, service]);
}
