//! The same exchanges on every engine: what the proxy says on each connection, and how it ends it, is equal byte for byte.
//!
//! The reference is epoll on the real kernel. A scene runs in sequence, so only what the proxy decides can differ; where one
//! read ends and the next begins is not compared. `HP_WITHOUT_URING=1` lets a machine without io_uring pass.
#![expect(
    clippy::expect_used,
    reason = "the runners are functions of a test, not tests themselves"
)]

#[path = "equality/failures.rs"]
mod failures;
#[path = "../../hp-core/tests/vectors/format.rs"]
mod format;
#[path = "one_worker/mod.rs"]
mod one_worker;
#[path = "equality/play.rs"]
mod play;
#[path = "equality/real.rs"]
mod real;
#[path = "equality/record.rs"]
mod record;
#[path = "equality/scene.rs"]
mod scene;
#[path = "equality/scenes.rs"]
mod scenes;
#[path = "equality/simulated.rs"]
mod simulated;
#[path = "equality/vectors.rs"]
mod vectors;

use hp_core::rt::plant::{Plant, plant};
use hp_core::rt::sim::{Face, Fault, Frequency, Profile};
use record::{End, Record, Said};
use scene::{Cuts, Scene};
use simulated::Conditions;
use std::sync::LazyLock;

#[test]
fn epoll_says_the_same_again() {
    check("epoll", |scene| real::play("epoll", scene));
}

#[test]
fn threads_say_the_same() {
    check("threads", |scene| real::play("threads", scene));
}

#[test]
fn uring_says_the_same() {
    if std::env::var("HP_WITHOUT_URING").is_ok() {
        eprintln!("HP_WITHOUT_URING is set: io_uring was not compared");
        return;
    }
    check("uring", |scene| real::play("uring", scene));
}

#[test]
fn simulated_readiness_says_the_same() {
    check_simulated(Face::Readiness, &Profile::calm());
}

#[test]
fn simulated_completions_say_the_same() {
    check_simulated(Face::Completion, &Profile::calm());
}

#[test]
fn what_a_kernel_may_do_to_readiness_changes_nothing() {
    check_simulated(Face::Readiness, &capricious());
}

#[test]
fn what_a_kernel_may_do_to_completions_changes_nothing() {
    check_simulated(Face::Completion, &capricious());
}

/// What clients and backends see does not tell that requests share connections, as long as nothing fails between two of them.
#[test]
fn sharing_connections_changes_nothing_that_is_said() {
    for face in [Face::Readiness, Face::Completion] {
        for profile in [Profile::calm(), capricious()] {
            check_under(&Conditions {
                face,
                profile,
                seed: 0,
                buffer_bytes: None,
                multiplexes: true,
            });
        }
    }
}

/// Else all of the above could never fail.
#[test]
fn any_difference_is_told() {
    let said = |bytes: &[u8], end| Said {
        bytes: bytes.to_vec(),
        end,
    };
    let record = |to_client, to_backend| Record {
        to_clients: vec![to_client],
        to_backends: vec![to_backend],
    };
    let reference = record(said(b"abc", End::Finished), said(b"d", End::Finished));
    let others = [
        record(said(b"abd", End::Finished), said(b"d", End::Finished)),
        record(said(b"ab", End::Finished), said(b"d", End::Finished)),
        record(said(b"abc", End::Reset), said(b"d", End::Finished)),
        record(said(b"abc", End::Finished), said(b"dd", End::Finished)),
        Record {
            to_backends: Vec::new(),
            ..reference.clone()
        },
    ];
    for other in others {
        assert!(!reference.differences(&other).is_empty(), "{other:?}");
    }
    assert!(reference.differences(&reference).is_empty());
}

/// The proxy itself must be wrong for this, not a list of bytes.
#[test]
fn a_planted_bug_is_told() {
    let bugs = [
        (
            Plant::PostRetried,
            "a POST without content whose kept connection dies is not sent again",
        ),
        (
            Plant::TruncatedAsWhole,
            "an answer that breaks off within its length is torn",
        ),
    ];
    for (bug, scene) in bugs {
        let _planted = plant(Some(bug));
        for face in [Face::Readiness, Face::Completion] {
            let conditions = Conditions {
                face,
                profile: Profile::calm(),
                seed: 0,
                buffer_bytes: None,
                multiplexes: false,
            };
            let found = compare(|_, _| true, |scene| simulated::play(&conditions, scene));
            let is_told = found.iter().any(|told| told.starts_with(scene));
            assert!(is_told, "{} on {face:?}: {found:?}", bug.name());
        }
    }
}

/// Found by the simulation: the connection was kept with half of the request still to be sent. A real socket takes so much that
/// only a simulated one shows it. Nor is that an answer: nobody knows to what.
#[test]
fn a_backend_that_answers_what_it_has_not_read_is_not_used_again() {
    let fields = format!("X: {}\r\n", "y".repeat(5_000)).repeat(5);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let scene = Scene::new("a backend answers what it has not read")
        .asks(head)
        .takes()
        .answers(answer, "HTTP/1.1 502 ")
        .asks("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .takes_request("\r\n\r\n")
        .answers(answer, "HTTP/1.1 200 ")
        .gets("hi");
    for face in [Face::Readiness, Face::Completion] {
        let conditions = Conditions {
            face,
            profile: Profile::calm(),
            seed: 0,
            buffer_bytes: Some(4096),
            multiplexes: false,
        };
        if let Err(what) = simulated::play(&conditions, &scene) {
            panic!("{face:?}: {what}");
        }
    }
}

#[test]
fn exchange_files_are_as_they_say() {
    let mut found = Vec::new();
    for face in [Face::Readiness, Face::Completion] {
        for multiplexes in [false, true] {
            let conditions = Conditions {
                face,
                profile: Profile::calm(),
                seed: 0,
                buffer_bytes: None,
                multiplexes,
            };
            for case in vectors::all() {
                let played = simulated::play(&conditions, &case.scene);
                if let Err(why) = played.and_then(|record| case.check(&record)) {
                    let name = &case.name;
                    found.push(format!("{name}.http on {face:?}, {multiplexes}: {why}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Every scene is as on epoll.
fn check(engine: &str, play: impl Fn(&Scene) -> Result<Record, String>) {
    let found = compare(|_, _| true, play);
    assert!(found.is_empty(), "{engine}:\n{}", found.join("\n"));
}

fn check_simulated(face: Face, profile: &Profile) {
    check_under(&Conditions {
        face,
        profile: profile.clone(),
        seed: 0,
        buffer_bytes: None,
        multiplexes: false,
    });
}

/// In several orders of turns. Where reads are cut, chunks are cut with them: scenes in which cuts show are for calm worlds.
fn check_under(conditions: &Conditions) {
    let is_calm = conditions.profile == Profile::calm();
    for seed in 0..SEEDS {
        let conditions = Conditions {
            seed,
            profile: conditions.profile.clone(),
            ..*conditions
        };
        let found = compare(
            |scene, expected| is_calm || !shows_cuts(scene, expected),
            |scene| simulated::play(&conditions, scene),
        );
        assert!(found.is_empty(), "{conditions:?}:\n{}", found.join("\n"));
    }
}

fn shows_cuts(scene: &Scene, expected: &Record) -> bool {
    scene.cuts == Cuts::Shown || expected.has_chunks()
}

/// All that a kernel may do without telling a program anything but the truth: cuts, detours, and news in another order.
fn capricious() -> Profile {
    let faults = [
        Fault::ShortSegment,
        Fault::ShortSend,
        Fault::NoBuffer,
        Fault::EndedMultishot,
        Fault::FullCompletions,
        Fault::ReorderedCompletions,
        Fault::LateCancel,
        Fault::SpuriousReadiness,
    ];
    faults.into_iter().fold(Profile::calm(), |profile, fault| {
        profile.with(fault, Frequency::Storm)
    })
}

/// Plays the scenes that are suitable; gives where it is not what epoll said.
fn compare(
    is_suitable: impl Fn(&Scene, &Record) -> bool,
    play: impl Fn(&Scene) -> Result<Record, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (scene, expected) in &*REFERENCE {
        let told = match expected {
            Err(why) => vec![format!("on epoll: {why}")],
            Ok(expected) if !is_suitable(scene, expected) => continue,
            Ok(expected) => match play(scene) {
                Ok(record) => expected.differences(&record),
                Err(why) => vec![why],
            },
        };
        found.extend(told.iter().map(|told| format!("{}: {told}", scene.name)));
    }
    found
}

/// Every scene, and what epoll says in it; played once for all tests.
static REFERENCE: LazyLock<Vec<(Scene, Result<Record, String>)>> = LazyLock::new(|| {
    let play = |scene: Scene| {
        let record = real::play("epoll", &scene);
        (scene, record)
    };
    scenes::all().into_iter().map(play).collect()
});

/// As many orders of turns as an unoptimised build plays in seconds.
const SEEDS: u64 = 4;
