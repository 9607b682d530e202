//! Cookies that keep a client with its endpoint, in a program that is run from a file.

use crate::Engine;
use crate::balance::{answered, backends, with_upstream};
use crate::support::{Backend, Message, Proxy};

/// The Cookie field of a client that was given a cookie.
fn kept(answer: &Message) -> String {
    let given = answer.field("Set-Cookie").unwrap();
    format!("Cookie: {}\r\n", given.split_once(';').unwrap().0)
}

fn three(engine: Engine, backends: &[Backend], sticky: &str) -> Proxy {
    let lines = format!("endpoints = [\"@0\", \"@1\", \"@2\"]\nsticky = {sticky}");
    with_upstream(engine, backends, &lines)
}

pub(crate) fn a_client_stays_with_the_endpoint_that_answered_it_first(engine: Engine) {
    let backends = backends(3);
    let proxy = three(
        engine,
        &backends,
        "{ cookie = \"hp_route\", max_age = \"1h\" }",
    );
    let mut seen = [false; 3];
    for _ in 0..6 {
        let mut client = proxy.client();
        let (first, answer) = answered(&mut client, &backends, "");
        let given = answer.field("Set-Cookie").unwrap();
        assert!(given.starts_with("hp_route="), "{given}");
        assert!(
            given.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
            "{given}"
        );
        let addr = backends[first].addr.to_string();
        assert!(!given.contains(&addr), "{given}");
        let cookie = kept(&answer);
        for _ in 0..3 {
            let (again, answer) = answered(&mut client, &backends, &cookie);
            assert_eq!((again, answer.field("Set-Cookie")), (first, None));
        }
        seen[first] = true;
    }
    assert_eq!(seen, [true; 3], "clients without a cookie are spread");
}

pub(crate) fn cookies_that_are_not_ours_bind_nobody(engine: Engine) {
    let backends = backends(3);
    let key = "{ key = \"0123456789abcdef0123456789abcdef\" }";
    let proxy = three(engine, &backends, key);
    let other = three(engine, &backends, "{ }");
    let same = three(engine, &backends, key);
    let (first, answer) = answered(&mut proxy.client(), &backends, "");
    let cookie = kept(&answer);
    let (again, answer) = answered(&mut same.client(), &backends, &cookie);
    assert_eq!((again, answer.field("Set-Cookie")), (first, None));
    let foreign = kept(&answered(&mut other.client(), &backends, "").1);
    let (_, value) = cookie.trim_end().split_once('=').unwrap();
    for fields in [
        foreign.as_str(),
        "Cookie: hp_route=\r\n",
        "Cookie: hp_route=127.0.0.1:1; hp_route; =\r\n",
        "Cookie: \u{1f36a}=1\r\n",
        &format!("Cookie: HP_ROUTE={value}\r\n"),
        &format!("Cookie: hp_route=x{value}\r\n"),
    ] {
        let (_, answer) = answered(&mut proxy.client(), &backends, fields);
        assert!(answer.field("Set-Cookie").is_some(), "{fields}");
    }
    // The good one is found among many.
    let junk = "hp_route=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; ".repeat(650);
    let fields = format!("Cookie: a=b\r\nCookie: {junk}hp_route={value}\r\n");
    let (again, answer) = answered(&mut proxy.client(), &backends, &fields);
    assert_eq!((again, answer.field("Set-Cookie")), (first, None));
}

pub(crate) fn a_client_whose_endpoint_is_gone_is_bound_anew(engine: Engine) {
    let mut backends = backends(3);
    let proxy = three(engine, &backends, "{ }");
    let mut client = proxy.client();
    let (first, answer) = answered(&mut client, &backends, "");
    let cookie = kept(&answer);
    let _refusing = backends.remove(first).refuse();
    let (second, answer) = answered(&mut client, &backends, &cookie);
    let cookie = kept(&answer);
    for _ in 0..3 {
        let (again, answer) = answered(&mut client, &backends, &cookie);
        assert_eq!((again, answer.field("Set-Cookie")), (second, None));
    }
}

pub(crate) fn a_client_stays_on_its_side_of_a_split(engine: Engine) {
    let backends = backends(2);
    let text = format!(
        r#"
        [[route]]
        split = [{{ upstream = "one" }}, {{ upstream = "other" }}]
        [upstream.one]
        endpoints = ["{}"]
        sticky = {{ }}
        [upstream.other]
        endpoints = ["{}"]
        sticky = {{ }}
        "#,
        backends[0].addr, backends[1].addr
    );
    let proxy = Proxy::start_from_file(engine, &text);
    let mut client = proxy.client();
    let (first, answer) = answered(&mut client, &backends, "");
    let cookie = kept(&answer);
    for _ in 0..6 {
        let (again, answer) = answered(&mut client, &backends, &cookie);
        assert_eq!((again, answer.field("Set-Cookie")), (first, None));
    }
}

pub(crate) fn groups_are_asked_in_the_order_of_their_priority(engine: Engine) {
    let mut backends = backends(4);
    let proxy = with_upstream(
        engine,
        &backends,
        "endpoints = [{ address = \"@3\", backup = true }, { address = \"@2\", priority = 9 },\n\
         { address = \"@1\", priority = 2 }, { address = \"@0\" }]",
    );
    let mut client = proxy.client();
    let mut refusing = Vec::new();
    while !backends.is_empty() {
        for _ in 0..2 {
            assert_eq!(answered(&mut client, &backends, "").0, 0);
        }
        refusing.push(backends.remove(0).refuse());
    }
}
