//! The same exchanges on every engine: what the proxy says on each connection, and how it ends it, is equal byte for byte.
//!
//! The reference is epoll on the real kernel. A scene runs in sequence, so only what the proxy decides can differ; where one
//! read ends and the next begins is not compared. `HP_WITHOUT_URING=1` lets a machine without io_uring pass.
#![expect(
    clippy::expect_used,
    reason = "the runners are functions of a test, not tests themselves"
)]

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

use hp_core::rt::sim::Face;
use record::{End, Record, Said};
use scene::Scene;
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
    check("simulated readiness", |scene| {
        simulated::play(Face::Readiness, scene)
    });
}

#[test]
fn simulated_completions_say_the_same() {
    check("simulated completions", |scene| {
        simulated::play(Face::Completion, scene)
    });
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

/// Plays every scene and compares it with what epoll said.
fn check(engine: &str, play: impl Fn(&Scene) -> Result<Record, String>) {
    let scenes = scenes::all();
    assert_eq!(scenes.len(), REFERENCE.len());
    let mut found = Vec::new();
    for (scene, expected) in scenes.iter().zip(&*REFERENCE) {
        match (expected, play(scene)) {
            (Ok(expected), Ok(record)) => {
                let differences = expected.differences(&record);
                found.extend(
                    differences
                        .iter()
                        .map(|told| format!("{}: {told}", scene.name)),
                );
            }
            (Err(why), _) => found.push(format!("{}: on epoll: {why}", scene.name)),
            (Ok(_), Err(why)) => found.push(format!("{}: {why}", scene.name)),
        }
    }
    assert!(found.is_empty(), "{engine}:\n{}", found.join("\n"));
}

/// What epoll says, played once for all tests of this process.
static REFERENCE: LazyLock<Vec<Result<Record, String>>> = LazyLock::new(|| {
    let scenes = scenes::all();
    scenes
        .iter()
        .map(|scene| real::play("epoll", scene))
        .collect()
});
