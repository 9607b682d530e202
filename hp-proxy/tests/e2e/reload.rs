//! A file that changes while the program runs: what it changes is followed, what it leaves alone goes on.

use crate::Engine;
use crate::support::{Backend, GET, OK, Peer, Proxy, refusing};
use std::net::TcpStream;
use std::path::PathBuf;
use tempfile::TempDir;

/// A program that is run from a file, and the file.
struct Site {
    proxy: Proxy,
    file: PathBuf,
    engine: Engine,
    /// Of the backends, for `@0`, `@1` and so on.
    addrs: Vec<String>,
    _folder: TempDir,
}

impl Site {
    fn start(engine: Engine, backends: &[&Backend], flags: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hp.toml");
        let addrs: Vec<String> = backends.iter().map(|one| one.addr.to_string()).collect();
        std::fs::write(&file, whole(engine, &addrs, text)).unwrap();
        let proxy = Proxy::follow(engine, &format!("--config {} {flags}", file.display()));
        Self {
            proxy,
            file,
            engine,
            addrs,
            _folder: folder,
        }
    }

    /// One route for everything, which leads to all the backends.
    fn of_one_route(engine: Engine, backends: &[&Backend]) -> Self {
        let all: Vec<String> = (0..backends.len())
            .map(|index| format!("@{index}"))
            .collect();
        Self::start(engine, backends, "", &to(&all, ""))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, whole(self.engine, &self.addrs, text)).unwrap();
    }

    /// Writes the file, and waits until it is followed.
    fn reload(&self, text: &str) {
        self.write(text);
        self.proxy.signal("HUP");
        self.proxy.says("hp-proxy: reloaded");
    }

    fn admin(&self, request: &str) -> (u16, String) {
        let mut client = self.proxy.client_of_admin();
        client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.response();
        (answer.status(), String::from_utf8(answer.body).unwrap())
    }
}

fn whole(engine: Engine, addrs: &[String], text: &str) -> String {
    let mut text = text.to_owned();
    for (index, addr) in addrs.iter().enumerate() {
        text = text.replace(&format!("@{index}"), addr);
    }
    let name = engine.flag().trim_start_matches("--engine ");
    format!("workers = 1\nengine = \"{name}\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n{text}")
}

/// A route for everything, which leads to these endpoints.
fn to(endpoints: &[impl AsRef<str>], keys: &str) -> String {
    let quoted: Vec<String> = endpoints
        .iter()
        .map(|endpoint| format!("\"{}\"", endpoint.as_ref()))
        .collect();
    format!(
        "[[route]]\nname = \"all\"\nupstream = \"web\"\n{keys}\n[upstream.web]\nendpoints = [{}]\n",
        quoted.join(", ")
    )
}

/// A request over an open connection is answered by a new connection to this backend.
fn is_served(client: &mut Peer, backend: &Backend) -> Peer {
    client.send(GET);
    let peer = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    peer
}

/// The same by a connection that is there.
fn is_served_by(client: &mut Peer, peer: &mut Peer) {
    client.send(GET);
    peer.request();
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
}

const ANSWER: &str = "[[route]]\nname = \"all\"\nanswer = { status = 200, body = \"here\" }\n";
const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";

pub(crate) fn a_route_that_changes_leads_the_next_request_of_an_open_connection(engine: Engine) {
    let (old, new) = (Backend::new(), Backend::new());
    let site = Site::start(engine, &[&old, &new], "", &to(&["@0"], ""));
    let mut client = site.proxy.client();
    let mut to_old = is_served(&mut client, &old);
    site.reload(
        "[[route]]\nname = \"all\"\nupstream = \"api\"\n[upstream.api]\nendpoints = [\"@1\"]",
    );
    to_old.sees_end();
    let _to_new = is_served(&mut client, &new);
    site.reload(ANSWER);
    client.send(GET);
    assert_eq!(client.response().body, b"here");
}

pub(crate) fn an_upstream_that_goes_finishes_what_is_in_flight(engine: Engine) {
    let backend = Backend::new();
    let site = Site::of_one_route(engine, &[&backend]);
    let mut client = site.proxy.asked(GET);
    let (mut upstream, _request) = backend.request();
    site.reload(ANSWER);
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
    upstream.sees_end();
    client.send(GET);
    assert_eq!(client.response().body, b"here");
    // It comes back, and is another one.
    site.reload(&to(&["@0"], ""));
    let _upstream = is_served(&mut client, &backend);
}

pub(crate) fn an_endpoint_that_goes_is_asked_nothing_and_the_others_keep_their_connections(
    engine: Engine,
) {
    let (going, staying, coming) = (Backend::new(), Backend::new(), Backend::new());
    let site = Site::start(
        engine,
        &[&going, &staying, &coming],
        "",
        &to(&["@0", "@1"], ""),
    );
    let mut client = site.proxy.client();
    let mut to_going = is_served(&mut client, &going);
    let mut to_staying = is_served(&mut client, &staying);
    // One more is in use while its endpoint goes.
    let mut other = site.proxy.asked(GET);
    to_going.request();
    let mut third = site.proxy.asked(GET);
    to_staying.request();
    to_staying.send(OK);
    assert_eq!(third.response().body, b"hi");

    site.reload(&to(&["@1", "@2"], ""));
    to_going.send(OK);
    assert_eq!(other.response().body, b"hi");
    to_going.sees_end();
    // The two that are left take turns, and the one that stayed does so by the connection that it has.
    let mut seen = [0, 0];
    let mut to_coming = None;
    for _ in 0..4 {
        client.send(GET);
        let mut tries = 0;
        let peer = loop {
            tries += 1;
            assert!(tries < 10_000_000, "nobody is asked");
            if let Some(peer) = to_staying.asks() {
                seen[0] += 1;
                break peer;
            }
            if to_coming.is_none() {
                to_coming = coming.try_accept();
            }
            if let Some(peer) = to_coming.as_mut().and_then(Peer::asks) {
                seen[1] += 1;
                break peer;
            }
        };
        peer.send(OK);
        assert_eq!(client.response().body, b"hi");
    }
    assert_eq!(seen, [2, 2]);
    staying.has_nobody();
    going.has_nobody();
}

pub(crate) fn a_setting_that_changes_keeps_idle_connections(engine: Engine) {
    let backend = Backend::new();
    let site = Site::of_one_route(engine, &[&backend]);
    let mut client = site.proxy.client();
    let mut upstream = is_served(&mut client, &backend);
    let other = to(&["@0"], "timeout = \"7s\"") + "connect_timeout = \"1s\"\nmax_conns = 5\n";
    site.reload(&other);
    is_served_by(&mut client, &mut upstream);
    site.reload(&other.replace("all", "other"));
    is_served_by(&mut client, &mut upstream);
    backend.has_nobody();
}

/// Who has asked nothing since the last reload leaves by the times of the newest plan, too: by those of its own it would have hours, and be cut.
pub(crate) fn a_client_that_idles_leaves_by_the_newest_times(engine: Engine) {
    let backend = Backend::new();
    let mut site = Site::of_one_route(engine, &[&backend]);
    let text = std::fs::read_to_string(&site.file).unwrap();
    let reload = |times: &str| {
        let text = format!("ready_lead = \"1ms\"\n{times}\n{text}");
        std::fs::write(&site.file, text).unwrap();
        site.proxy.signal("HUP");
        site.proxy.says("hp-proxy: reloaded");
    };
    reload("drain_timeout = \"24h\"\nclose_spread = \"12h\"");
    let mut client = site.proxy.client();
    let _upstream = is_served(&mut client, &backend);
    reload("drain_timeout = \"10s\"\nclose_spread = 0");
    site.proxy.signal("TERM");
    assert_eq!(client.rest(), (Vec::new(), false), "closed in order");
    let (status, lines) = site.proxy.ends();
    assert_eq!(status.code(), Some(0));
    let is_cut = |line: &String| line.contains("did not finish");
    assert!(!lines.iter().any(is_cut), "{lines:?}");
}

pub(crate) fn listeners_come_and_go(engine: Engine) {
    let backend = Backend::new();
    let site = Site::of_one_route(engine, &[&backend]);
    let mut first = site.proxy.client();
    let mut upstream = is_served(&mut first, &backend);
    let two = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{}",
        to(&["@0"], "")
    );
    site.reload(&two);
    let line = site.proxy.says("listening on ");
    let addr = line.trim_start()["listening on ".len()..].parse().unwrap();
    let mut second = Peer::connect(addr);
    is_served_by(&mut second, &mut upstream);
    let mut idle = Peer::connect(addr);
    is_served_by(&mut idle, &mut upstream);

    second.send(GET);
    upstream.request();
    site.reload(&to(&["@0"], ""));
    assert!(TcpStream::connect(addr).is_err(), "it still listens");
    // What is in flight ends as it began; the next answer is the last.
    upstream.send(OK);
    assert_eq!(second.response().body, b"hi");
    for mut client in [second, idle] {
        client.send(GET);
        upstream.request();
        upstream.send(OK);
        let answer = client.response();
        assert_eq!(answer.body, b"hi");
        assert_eq!(answer.field("Connection"), Some("close"));
        client.sees_end();
    }
    is_served_by(&mut first, &mut upstream);
}

pub(crate) fn a_listener_that_cannot_be_bound_changes_nothing(engine: Engine) {
    let backend = Backend::new();
    let site = Site::of_one_route(engine, &[&backend]);
    let taken = &site.addrs[0];
    site.write(&format!("[[listener]]\naddress = \"{taken}\"\n{ANSWER}"));
    site.proxy.signal("HUP");
    site.proxy.says("not reloaded");
    site.proxy.says("in use");
    let mut client = site.proxy.client();
    let _upstream = is_served(&mut client, &backend);
}

pub(crate) fn a_tunnel_of_a_route_that_stays_lives_through_twenty_reloads(engine: Engine) {
    let backend = Backend::new();
    let site = Site::of_one_route(engine, &[&backend]);
    let mut client = site.proxy.asked(UPGRADE);
    let mut upstream = backend.answers(SWITCH);
    assert_eq!(client.response().status(), 101);
    for seconds in 1..=20 {
        let more = format!(
            "connect_timeout = \"{seconds}s\"\n[[route]]\npath = \"/{seconds}\"\nmaintenance = true\n"
        );
        site.reload(&(to(&["@0"], "") + &more));
        client.send("ping");
        assert_eq!(upstream.exactly(4), b"ping");
        upstream.send("pong");
        assert_eq!(client.exactly(4), b"pong");
    }
    // Not even that its upstream goes ends it.
    site.reload(ANSWER);
    client.send("ping");
    assert_eq!(upstream.exactly(4), b"ping");
    client.finish();
    assert_eq!(upstream.rest(), (Vec::new(), false));
    drop(upstream);
    assert_eq!(client.rest(), (Vec::new(), false));
}

pub(crate) fn a_bad_file_changes_nothing_and_says_why(engine: Engine) {
    let backend = Backend::new();
    let site = Site::of_one_route(engine, &[&backend]);
    let mut client = site.proxy.client();
    let mut upstream = is_served(&mut client, &backend);
    site.write(&to(&["@0"], "timout = \"1s\""));
    site.proxy.signal("HUP");
    site.proxy.says("not reloaded; going on as before");
    let why = site.proxy.says("hp.toml:");
    assert!(
        why.contains("did you mean timeout?") && why.contains(":8:"),
        "{why}"
    );
    is_served_by(&mut client, &mut upstream);
    let text = std::fs::read_to_string(&site.file).unwrap();
    let text = text
        .replace("workers = 1", "workers = 2")
        .replace("timout", "timeout");
    std::fs::write(&site.file, text).unwrap();
    site.proxy.signal("HUP");
    site.proxy.says("not reloaded");
    assert!(site.proxy.says("workers").contains("SIGUSR2"));
    is_served_by(&mut client, &mut upstream);
    let counts = site.proxy.counts();
    assert_eq!(
        (
            counts["reloads"].as_str(),
            counts["reloads failed"].as_str()
        ),
        ("0", "2")
    );
}

pub(crate) fn a_storm_of_reloads_fails_no_request(engine: Engine) {
    let backends = [Backend::new(), Backend::new()];
    let site = Site::start(engine, &[&backends[0], &backends[1]], "", &to(&["@0"], ""));
    let mut client = site.proxy.client();
    for round in 1..=40 {
        let index = round % 2;
        let endpoint = format!("@{index}");
        site.write(&to(&[endpoint], &format!("timeout = \"{round}s\"")));
        site.proxy.signal("HUP");
        client.send(GET);
        // Whichever plan it began with, one of the two is asked.
        let tries = (0..10_000_000).find_map(|_| backends.iter().find_map(Backend::try_accept));
        let mut peer = tries.expect("somebody is asked");
        peer.request();
        peer.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(client.response().body, b"hi");
    }
}

pub(crate) fn a_file_that_is_watched_is_followed_when_it_is_renamed_over(engine: Engine) {
    let backend = Backend::new();
    let site = Site::start(engine, &[&backend], "--watch", &to(&["@0"], ""));
    let mut client = site.proxy.client();
    let _upstream = is_served(&mut client, &backend);
    let new = site.file.with_extension("new");
    std::fs::write(&new, whole(engine, &site.addrs, ANSWER)).unwrap();
    std::fs::rename(new, &site.file).unwrap();
    site.proxy.says("hp-proxy: reloaded");
    client.send(GET);
    assert_eq!(client.response().body, b"here");
}

pub(crate) fn operators_reload_by_a_request(engine: Engine) {
    let backend = Backend::new();
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    let site = Site::start(
        engine,
        &[&backend],
        "",
        &format!("{admin}{}", to(&["@0"], "")),
    );
    assert_eq!(site.admin("GET /reload").0, 405);
    assert_eq!(
        site.admin("POST /reload"),
        (200, String::from("nothing changes\n"))
    );
    site.write(&format!("{admin}{}", to(&["@0"], "timeout = \"5s\"")));
    let told = String::from("~ route all: timeout: \"30s\" -> \"5s\"\n");
    assert_eq!(site.admin("POST /reload"), (200, told));
    let (status, plan) = site.admin("GET /plan");
    assert!(status == 200 && plan.contains("timeout = \"5s\""), "{plan}");
    site.write(&format!(
        "{admin}{}",
        to(&["@0"], "timeout = 5\nretires = 1")
    ));
    let (status, why) = site.admin("POST /reload");
    assert_eq!(status, 422);
    assert!(
        why.contains("hp.toml:10:") && why.contains("hp.toml:11:"),
        "{why}"
    );
    // Its answer comes when the workers have the plan.
    site.write(&format!("{admin}{ANSWER}"));
    assert_eq!(site.admin("POST /reload").0, 200);
    assert_eq!(site.proxy.asked(GET).response().body, b"here");
}

/// What `hp-proxy plan` prints for a file, and its exit code.
fn ahead(site: &Site, text: &str, flags: &str) -> (String, Option<i32>) {
    let new = site.file.with_file_name("new.toml");
    std::fs::write(&new, whole(site.engine, &site.addrs, text)).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
        .args(["plan", new.to_str().unwrap()])
        .args(flags.split_whitespace())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code())
}

pub(crate) fn a_plan_is_told_before_it_is_followed(engine: Engine) {
    let backends = [Backend::new(), Backend::new()];
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    let both = format!("{admin}{}", to(&["@0", "@1"], ""));
    let site = Site::start(engine, &[&backends[0], &backends[1]], "", &both);
    let mut client = site.proxy.client();
    let _idle = is_served(&mut client, &backends[0]);
    let mut tunnelled = site.proxy.asked(UPGRADE);
    let _tunnel = backends[1].answers(SWITCH);
    assert_eq!(tunnelled.response().status(), 101);

    let flags = format!("--admin {}", site.proxy.admin_addr());
    assert_eq!(
        ahead(&site, &both, &flags),
        (String::from("nothing changes\n"), Some(0))
    );
    let fewer = format!("{admin}{}", to(&["@0"], "timeout = \"5s\""));
    let (text, code) = ahead(&site, &fewer, &flags);
    let of = |index: usize| &site.addrs[index];
    let gone = format!(
        "- endpoint web {} (1 connections in use, 1 of them tunnels, 0 idle: idle ones close at once, \
         the others after what they carry)\n~ route all: timeout: \"30s\" -> \"5s\"\n",
        of(1)
    );
    assert_eq!((text, code), (gone, Some(0)));
    let (text, code) = ahead(
        &site,
        &format!("{admin}{ANSWER}"),
        &format!("{flags} --json"),
    );
    assert!(
        code == Some(0) && text.contains("\"1 connections in use, 1 of them tunnels, 1 idle\""),
        "{text}"
    );
    let (text, code) = ahead(
        &site,
        &both.replace(
            admin,
            &format!("{admin}\n[[listener]]\naddress = \"{}\"\n", of(0)),
        ),
        &flags,
    );
    assert!(code == Some(0) && text.starts_with("+ listener"), "{text}");
    let (text, code) = ahead(&site, &both.replace("route", "rute"), &flags);
    assert!(code == Some(1) && text.contains("did you mean"), "{text}");
    let (text, code) = ahead(&site, &to(&["@0"], ""), "");
    assert!(code == Some(2) && text.contains("--admin"), "{text}");
    let (_socket, nobody) = refusing();
    let (text, code) = ahead(&site, &both, &format!("--admin {nobody}"));
    assert!(
        code == Some(1) && text.contains("is hp-proxy running with this admin address?"),
        "{text}"
    );
    // Nothing was followed.
    assert_eq!(site.proxy.counts()["reloads"], "0");
}
