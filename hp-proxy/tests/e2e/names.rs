//! Servers that are found by name, in a program that asks a name server of the test's own.

use crate::Engine;
use crate::name_server::{A, AAAA, SRV, Says, Server, service};
use crate::support::{Backend, OK, Peer, Proxy};
use crate::upgrade::Successor;
use std::net::Ipv6Addr;

/// A proxy that asks a server, with these lines for its one upstream.
fn with_names(engine: Engine, server: &Server, lines: &str) -> Proxy {
    let dns = format!("[dns]\nservers = [\"{}\"]", server.addr);
    let text = format!("{dns}\n[[route]]\nupstream = \"web\"\n[upstream.web]\n{lines}\n");
    Proxy::start_from_file(engine, &text)
}

fn ask(client: &mut Peer) {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

/// A request of a kept connection comes to this backend, over a connection of its own that ends with it.
fn check_asked(client: &mut Peer, backend: &Backend) {
    ask(client);
    backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(client.response().status(), 200);
}

fn say_service(server: &Server, ports: &[u16]) {
    let places = ports.iter().map(|port| service(1, 1, *port, "host.test"));
    server.say(SERVICE, SRV, Says::Records(1, places.collect()));
}

const SERVICE: &str = "_http._tcp.web.test";

pub(crate) fn the_servers_of_a_service_come_and_go_with_its_records(engine: Engine) {
    let (server, one, other) = (Server::start(), Backend::new(), Backend::new());
    server.say_v4("host.test", 60, &[[127, 0, 0, 1]]);
    say_service(&server, &[one.addr.port()]);
    let proxy = with_names(engine, &server, "endpoints = [\"srv:_http._tcp.web.test\"]");
    let mut client = proxy.client();
    check_asked(&mut client, &one);
    say_service(&server, &[other.addr.port()]);
    proxy.says("names lead elsewhere");
    check_asked(&mut client, &other);
    one.has_nobody();
    // What the record of a service takes away is not asked any more; what is in flight there ends in peace.
    ask(&mut client);
    let (mut in_flight, _request) = other.request();
    say_service(&server, &[one.addr.port()]);
    proxy.says("names lead elsewhere");
    in_flight.send(OK);
    assert_eq!(client.response().status(), 200);
    check_asked(&mut client, &one);
}

pub(crate) fn a_name_that_does_not_resolve_stops_nothing(engine: Engine) {
    let (server, backend) = (Server::start(), Backend::new());
    let lines = format!("endpoints = [\"gone.test:80\", \"{}\"]", backend.addr);
    let proxy = with_names(engine, &server, &lines);
    let mut client = proxy.client();
    for _ in 0..4 {
        check_asked(&mut client, &backend);
    }
}

pub(crate) fn without_any_server_a_request_is_503_until_its_name_resolves(engine: Engine) {
    let (server, backend) = (Server::start(), Backend::new());
    let port = backend.addr.port();
    let proxy = with_names(
        engine,
        &server,
        &format!("endpoints = [\"late.test:{port}\"]"),
    );
    let mut client = proxy.client();
    ask(&mut client);
    let answer = client.response();
    let why = answer.field("Proxy-Status").unwrap();
    assert_eq!(answer.status(), 503);
    assert!(why.contains("destination_unavailable"), "{why}");
    server.say_v4("late.test", 60, &[[127, 0, 0, 1]]);
    proxy.says("names lead elsewhere");
    check_asked(&mut client, &backend);
}

pub(crate) fn of_two_families_the_one_that_answers_is_used(engine: Engine) {
    let (server, backend) = (Server::start(), Backend::new());
    let v6 = Ipv6Addr::LOCALHOST.octets().to_vec();
    server.say(
        "web.test",
        A,
        Says::Records(60, vec![(A, vec![127, 0, 0, 1])]),
    );
    server.say("web.test", AAAA, Says::Records(60, vec![(AAAA, v6)]));
    let port = backend.addr.port();
    let proxy = with_names(
        engine,
        &server,
        &format!("endpoints = [\"web.test:{port}\"]"),
    );
    let mut client = proxy.client();
    for _ in 0..3 {
        check_asked(&mut client, &backend);
    }
}

pub(crate) fn a_name_in_a_new_file_is_looked_up_before_the_file_is_followed(engine: Engine) {
    let (server, one, other) = (Server::start(), Backend::new(), Backend::new());
    server.say_v4("web.test", 60, &[[127, 0, 0, 1]]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hp.toml");
    let name = engine.flag().trim_start_matches("--engine ");
    let write = |endpoint: &str| {
        let text = format!(
            "workers = 1\nengine = \"{name}\"\n[dns]\nservers = [\"{}\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nupstream = \"web\"\n[upstream.web]\nendpoints = [\"{endpoint}\"]\n",
            server.addr
        );
        std::fs::write(&file, text).unwrap();
    };
    write(&one.addr.to_string());
    let proxy = Proxy::follow(engine, &format!("--config {}", file.display()));
    let mut client = proxy.client();
    check_asked(&mut client, &one);
    write(&format!("web.test:{}", other.addr.port()));
    proxy.signal("HUP");
    proxy.says("hp-proxy: reloaded");
    check_asked(&mut client, &other);
    // And one that nobody knows changes nothing but what it must.
    write("gone.test:80");
    proxy.signal("HUP");
    proxy.says("gone.test: the name does not exist");
    proxy.says("hp-proxy: reloaded");
    ask(&mut client);
    assert_eq!(client.response().status(), 503);
}

/// Its clients are told to go over a while that may be long; until then their requests go where the names lead.
pub(crate) fn names_are_followed_by_a_process_that_was_replaced(engine: Engine) {
    let (server, one, other) = (Server::start(), Backend::new(), Backend::new());
    server.say_v4("host.test", 60, &[[127, 0, 0, 1]]);
    say_service(&server, &[one.addr.port()]);
    let proxy = with_service(engine, &server, "close_spread = \"10m\"");
    let mut client = proxy.client();
    check_asked(&mut client, &one);
    proxy.signal("USR2");
    let _successor = Successor::told_by(&proxy.says("upgrading to process "));
    proxy.says("has taken over");
    say_service(&server, &[other.addr.port()]);
    // Each of the two says so.
    proxy.says("names lead elsewhere");
    proxy.says("names lead elsewhere");
    check_asked(&mut client, &other);
    // The listeners are the other process's alone.
    check_asked(&mut proxy.client(), &other);
}

pub(crate) fn names_are_followed_while_a_balancer_is_told_of_the_end(engine: Engine) {
    let (server, one, other) = (Server::start(), Backend::new(), Backend::new());
    server.say_v4("host.test", 60, &[[127, 0, 0, 1]]);
    say_service(&server, &[one.addr.port()]);
    let proxy = with_service(engine, &server, "ready_lead = \"1h\"");
    let mut client = proxy.client();
    check_asked(&mut client, &one);
    proxy.signal("TERM");
    proxy.says("no longer ready");
    say_service(&server, &[other.addr.port()]);
    proxy.says("names lead elsewhere");
    check_asked(&mut client, &other);
}

/// A proxy whose drain may take long, with a line for it.
fn with_service(engine: Engine, server: &Server, line: &str) -> Proxy {
    let name = engine.flag().trim_start_matches("--engine ");
    let text = format!(
        "workers = 1\nengine = \"{name}\"\ndrain_timeout = \"20m\"\n{line}\n[dns]\nservers = [\"{}\"]\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"web\"\n\
         [upstream.web]\nendpoints = [\"srv:{SERVICE}\"]\n",
        server.addr
    );
    Proxy::start_from_file_as_it_is(engine, &text)
}
