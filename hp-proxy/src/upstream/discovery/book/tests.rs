//! Names over time, with a clock that stands still between the lines.

use super::*;
use hp_core::wire::dns::Found;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

fn at(seconds: u64) -> Instant {
    Instant::START + Duration::from_secs(seconds)
}

fn host(text: &str) -> Target {
    Target::Host(Host {
        name: Name::parse(text).unwrap(),
        is_absolute: false,
    })
}

fn service(text: &str) -> Target {
    Target::Service(Name::parse(text).unwrap())
}

fn found(ttl: u64, addrs: &[&str]) -> Outcome {
    let addrs: Vec<IpAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
    let v4 = |addr: &IpAddr| match addr {
        IpAddr::V4(addr) => *addr,
        IpAddr::V6(addr) => panic!("{addr}"),
    };
    let v6 = |addr: &IpAddr| match addr {
        IpAddr::V4(addr) => panic!("{addr}"),
        IpAddr::V6(addr) => *addr,
    };
    let records = if addrs[0].is_ipv4() {
        Records::V4(addrs.iter().map(v4).collect())
    } else {
        Records::V6(addrs.iter().map(v6).collect())
    };
    Outcome::Found(Found {
        records,
        ttl: Duration::from_secs(ttl),
    })
}

fn services(ttl: u64, targets: &[&str]) -> Outcome {
    let service = |target: &&str| Service {
        priority: 0,
        weight: 1,
        port: 80,
        target: Name::parse(target).unwrap(),
    };
    Outcome::Found(Found {
        records: Records::Services(targets.iter().map(service).collect()),
        ttl: Duration::from_secs(ttl),
    })
}

/// A book, its names, and a generator.
struct Play(Book, StdRng);

impl Play {
    fn of(targets: &[Target]) -> Self {
        let mut book = Book::new(Bounds {
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(3600),
        });
        book.want(at(0), targets.iter().cloned());
        Self(book, StdRng::seed_from_u64(1))
    }

    fn hear(&mut self, now: u64, target: &Target, news: News) -> Option<String> {
        let notice = self.0.hear(at(now), target, news, &mut self.1);
        notice.map(|notice| notice.to_string())
    }

    fn known(&self, target: &Target) -> String {
        let answers = self.0.answers();
        let Target::Host(host) = target else {
            panic!("{target}")
        };
        let addrs = answers.host(host).iter().map(ToString::to_string);
        addrs.collect::<Vec<_>>().join(" ")
    }

    /// Seconds until the next name is due, rounded up.
    fn wait(&self, now: u64) -> u64 {
        let wait = self.0.next_due().unwrap() - at(now);
        wait.as_millis().div_ceil(1000).try_into().unwrap()
    }
}

#[test]
fn a_name_is_asked_about_again_when_its_answer_ends() {
    let api = host("api.test");
    let mut play = Play::of(std::slice::from_ref(&api));
    assert_eq!(play.0.due(at(0), 64), std::slice::from_ref(&api));
    assert_eq!((play.0.due(at(0), 64), play.0.next_due()), (vec![], None));
    let news = News::Host(found(30, &["192.0.2.1"]), found(20, &["2001:db8::1"]));
    assert_eq!(play.hear(0, &api, news), None);
    assert_eq!(play.known(&api), "192.0.2.1 2001:db8::1");
    assert_eq!(play.wait(0), 20);
    assert_eq!(play.0.due(at(19), 64), []);
    assert_eq!(play.0.due(at(20), 64), std::slice::from_ref(&api));
    let news = News::Host(found(30, &["192.0.2.2"]), Outcome::Nothing);
    assert_eq!(play.hear(20, &api, news), None);
    assert_eq!(play.known(&api), "192.0.2.2");
}

#[test]
fn times_are_held_within_their_bounds() {
    let api = host("api.test");
    for (says, holds) in [(0, 1), (1, 1), (59, 59), (100_000, 3600)] {
        let mut play = Play::of(std::slice::from_ref(&api));
        let news = News::Host(found(says, &["192.0.2.1"]), Outcome::Nothing);
        play.hear(0, &api, news);
        assert_eq!(play.wait(0), holds, "{says}");
    }
}

#[test]
fn what_was_known_is_kept_whatever_servers_say_later() {
    let api = host("api.test");
    let mut play = Play::of(std::slice::from_ref(&api));
    let both = || News::Host(found(5, &["192.0.2.1"]), found(5, &["2001:db8::1"]));
    play.hear(0, &api, both());
    let silence = || Outcome::Failed(Failure::Silent);
    for (outcome, told) in [
        (silence(), "no name server answered in time"),
        (Outcome::NoName, "the name does not exist"),
        (Outcome::Nothing, "the name has no such records"),
        (
            Outcome::Failed(Failure::Code(2)),
            "a name server failed (SERVFAIL)",
        ),
    ] {
        let news = News::Host(outcome.clone(), outcome.clone());
        let line = format!("api.test: {told}; its last 2 records kept");
        assert_eq!(play.hear(5, &api, news), Some(line));
        let again = News::Host(outcome.clone(), outcome);
        assert_eq!(play.hear(6, &api, again), None, "it is told once");
        assert_eq!(play.known(&api), "192.0.2.1 2001:db8::1");
        let back = play.hear(7, &api, both());
        assert_eq!(
            back,
            Some(String::from("api.test: the name resolves again"))
        );
    }
}

#[test]
fn a_family_that_could_not_be_asked_for_keeps_its_addresses() {
    let api = host("api.test");
    let mut play = Play::of(std::slice::from_ref(&api));
    play.hear(
        0,
        &api,
        News::Host(found(50, &["192.0.2.1"]), found(50, &["2001:db8::1"])),
    );
    let half = News::Host(found(50, &["192.0.2.9"]), Outcome::Failed(Failure::Silent));
    assert_eq!(play.hear(50, &api, half), None);
    assert_eq!(play.known(&api), "192.0.2.9 2001:db8::1");
    assert!(play.wait(50) <= 2, "the other half is asked for soon");
    let whole = News::Host(found(50, &["192.0.2.9"]), Outcome::Nothing);
    assert_eq!(play.hear(52, &api, whole), None);
    assert_eq!(play.known(&api), "192.0.2.9");
}

#[test]
fn pauses_after_failures_grow_and_end() {
    let api = host("api.test");
    let mut play = Play::of(std::slice::from_ref(&api));
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let news = News::Host(
            Outcome::Failed(Failure::Silent),
            Outcome::Failed(Failure::Silent),
        );
        play.hear(0, &api, news);
        pauses.push(play.0.next_due().unwrap() - at(0));
    }
    let seconds = |seconds: u64| Duration::from_secs(seconds);
    assert!(pauses[0] >= seconds(1) && pauses[0] <= seconds(2));
    assert!(pauses[3] >= seconds(8) && pauses[3] <= seconds(10));
    assert!(
        pauses[10..]
            .iter()
            .all(|pause| (seconds(60)..=seconds(75)).contains(pause))
    );
}

#[test]
fn a_name_that_was_never_found_is_told_as_such() {
    let api = host("api.test");
    let mut play = Play::of(std::slice::from_ref(&api));
    let told = play.hear(0, &api, News::Host(Outcome::NoName, Outcome::NoName));
    assert_eq!(
        told.unwrap(),
        "api.test: the name does not exist; nothing goes there until it resolves"
    );
    assert_eq!(play.known(&api), "");
    assert!(play.0.is_settled());
}

#[test]
fn services_lead_to_the_hosts_that_they_name() {
    let web = service("_http._tcp.web.test");
    let mut play = Play::of(std::slice::from_ref(&web));
    assert_eq!(play.0.due(at(0), 64), std::slice::from_ref(&web));
    play.hear(0, &web, News::Service(services(60, &["a.test", "b.test"])));
    assert!(!play.0.is_settled());
    let hosts = play.0.due(at(0), 64);
    assert_eq!(
        hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["a.test", "b.test"]
    );
    for host in &hosts {
        play.hear(
            0,
            host,
            News::Host(found(60, &["192.0.2.1"]), Outcome::Nothing),
        );
    }
    assert!(play.0.is_settled());
    // The next answer names another host: one is forgotten, one is new.
    play.hear(60, &web, News::Service(services(60, &["b.test", "c.test"])));
    let answers = play.0.answers();
    let names: Vec<String> = answers.hosts.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["b.test", "c.test"]);
    // And one that nobody answers leaves everything as it is.
    let told = play.hear(120, &web, News::Service(Outcome::Failed(Failure::Silent)));
    assert!(told.unwrap().contains("its last 2 records kept"));
    assert_eq!(play.0.answers().hosts.len(), 2);
}

#[test]
fn what_nobody_wants_any_more_is_forgotten() {
    let (one, other) = (host("one.test"), host("other.test"));
    let mut play = Play::of(&[one.clone(), other.clone()]);
    let news = || News::Host(found(60, &["192.0.2.1"]), Outcome::Nothing);
    play.hear(0, &one, news());
    play.hear(0, &other, news());
    play.0.want(at(1), [one.clone()]);
    assert_eq!(play.known(&other), "");
    assert_eq!(play.known(&one), "192.0.2.1");
    // What was under way for it comes too late.
    assert_eq!(play.hear(2, &other, news()), None);
    assert_eq!(play.known(&other), "");
}

#[test]
fn this_machines_own_files_are_read_again_soon() {
    let api = host("localhost");
    let mut play = Play::of(std::slice::from_ref(&api));
    let addrs = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    assert_eq!(play.hear(0, &api, News::Local(addrs)), None);
    assert_eq!(
        (play.known(&api).as_str(), play.wait(0)),
        ("127.0.0.1 ::1", 10)
    );
    let told = play.hear(10, &api, News::Local(Vec::new()));
    assert!(told.unwrap().contains("its last 2 records kept"));
}
