//! What facts are proven with: a runtime under two watchdogs, connected pairs, and chance.

use hp_core::rt::net::{Conn, Lent, Listener, Rx, listen};
use hp_core::rt::{Engine, Holdings, Instant, Rt, RtOptions};
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

pub(crate) const NOTHING: Holdings = Holdings {
    conns: 0,
    listeners: 0,
    lent_buffers: 0,
    lent_bytes: 0,
};
/// How long one proof may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(engine: Engine) -> RtOptions {
    RtOptions {
        engine,
        ..RtOptions::default()
    }
}

/// As little of everything as an engine can be given.
pub(crate) fn tiny(engine: Engine) -> RtOptions {
    RtOptions {
        engine,
        head_buffers: 8,
        bulk_buffers: 1,
        aside_buffers: 0,
        ring_entries: 8,
        ring_completions: 16,
    }
}

/// One buffer of each size, which may grow to 32.
pub(crate) fn scarce(engine: Engine) -> RtOptions {
    RtOptions {
        head_buffers: 1,
        ..tiny(engine)
    }
}

/// A runtime; `None` where io_uring is allowed to be missing and is.
pub(crate) fn start(options: &RtOptions) -> Option<Rt> {
    match Rt::new(options) {
        Ok(rt) => {
            assert_eq!(rt.engine(), options.engine);
            Some(rt)
        }
        Err(error)
            if options.engine == Engine::Uring
                && std::env::var("HP_WITHOUT_URING").as_deref() == Ok("1") =>
        {
            // Past the capture of the test's output: nobody shall believe that this was proven.
            let warning = format!("NOT PROVEN on io_uring (HP_WITHOUT_URING=1): {error}\n");
            io::stderr().write_all(warning.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("{error}\n(HP_WITHOUT_URING=1 proves the other engines only)"),
    }
}

/// Proves a fact on a fresh runtime, which must hold nothing afterwards and must have lost no task.
pub(crate) fn check(options: &RtOptions, fact: impl AsyncFnOnce(Rt)) {
    check_with_panics(options, 0, fact);
}

/// The same, for a fact that plants panics in tasks.
pub(crate) fn check_with_panics(options: &RtOptions, panics: u64, fact: impl AsyncFnOnce(Rt)) {
    let Some(rt) = start(options) else { return };
    let _watchdog = Watchdog::start();
    run(&rt, async {
        fact(rt.clone()).await;
        while rt.tasks() > 0 {
            rt.sleep(Duration::from_millis(1)).await;
        }
        goes_quiet(&rt).await;
    });
    assert_eq!(
        rt.panics(),
        panics,
        "tasks panicked; their messages are above"
    );
    rt.shut_down();
    assert_eq!(rt.holdings(), NOTHING);
}

/// Runs the loop until `root` ends, within bounds.
pub(crate) fn run<T>(rt: &Rt, root: impl Future<Output = T>) -> T {
    let bound = rt.precise_now() + PATIENCE;
    let output = rt.block_on(async { rt.timeout_at(bound, root).await });
    output.unwrap_or_else(|_elapsed| {
        panic!(
            "still not done; {:?}, {:?}, {} tasks",
            rt.holdings(),
            rt.stats(),
            rt.tasks()
        )
    })
}

/// Every completion that was owed arrives within a few turns, without waiting for anybody.
pub(crate) async fn goes_quiet(rt: &Rt) {
    for _ in 0..QUIET_TURNS_MAX {
        if rt.holdings() == NOTHING {
            return;
        }
        rt.yield_now().await;
    }
    panic!(
        "after {QUIET_TURNS_MAX} turns the runtime still holds {:?}",
        rt.holdings()
    );
}

/// As [`goes_quiet`], where listeners or connections of the fact itself are still in use.
pub(crate) async fn conns_fall_to(rt: &Rt, conns: u32) {
    for _ in 0..QUIET_TURNS_MAX {
        if rt.holdings().conns == conns {
            return;
        }
        rt.yield_now().await;
    }
    panic!(
        "after {QUIET_TURNS_MAX} turns {conns} were expected in {:?}",
        rt.holdings()
    );
}

/// Waits for something that another task or the kernel brings about.
pub(crate) async fn until(rt: &Rt, mut come_true: impl FnMut() -> bool) {
    while !come_true() {
        rt.sleep(Duration::from_millis(1)).await;
    }
}

/// A listener on a free port of this machine, and its address.
pub(crate) fn listener(rt: &Rt) -> (Listener, SocketAddr) {
    let socket = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1024).unwrap();
    let listener = rt.listener(socket).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A connection and its peer.
pub(crate) async fn pair(rt: &Rt) -> (Conn, TcpStream) {
    let (listener, addr) = listener(rt);
    pair_from(&listener, addr).await
}

pub(crate) async fn pair_from(listener: &Listener, addr: SocketAddr) -> (Conn, TcpStream) {
    let peer = crate::peer::connect(addr); // Ends in the listener's queue, without anybody's help.
    let conn = listener.accept().await.unwrap();
    assert_eq!(conn.peer_addr(), Some(peer.local_addr().unwrap()));
    (conn, peer)
}

/// The next piece, which must be data.
pub(crate) async fn data(conn: &Conn) -> Lent {
    match conn.recv().await {
        Ok(Rx::Data(lent)) => {
            assert!(!lent.is_empty());
            lent
        }
        other => panic!("data was expected, not {other:?}"),
    }
}

/// Exactly the next `len` bytes.
pub(crate) async fn exactly(conn: &Conn, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let mut lent = data(conn).await;
        let front = lent.split_to(len - bytes.len());
        bytes.extend_from_slice(&front);
        drop(front);
        conn.unread(lent);
    }
    bytes
}

/// What a future says when it is polled once.
pub(crate) async fn once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What a future says within a number of turns.
pub(crate) async fn within_turns<F: Future>(rt: &Rt, turns: u32, future: F) -> Option<F::Output> {
    let turns_pass = async {
        for _ in 0..turns {
            rt.yield_now().await;
        }
    };
    match hp_core::rt::race::race(future, turns_pass).await {
        hp_core::rt::race::First::One(output) => Some(output),
        hp_core::rt::race::First::Other(()) => None,
    }
}

pub(crate) fn soon(rt: &Rt) -> Instant {
    rt.precise_now() + PATIENCE
}

/// The seeds that a fact is proven for.
pub(crate) fn seeds() -> Vec<u64> {
    match std::env::var("HP_SEED") {
        Ok(seed) => vec![seed.parse().expect("HP_SEED is a number")],
        Err(_unset) => vec![1, 2, 3],
    }
}

/// Chance that repeats itself (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(mix(seed))
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// From 1 byte to `max` (a power of two), each order of magnitude as likely as any other.
    pub(crate) fn size(&mut self, max: usize) -> usize {
        let scale = 1u64 << self.below(u64::from(max.ilog2()) + 1);
        usize::try_from(scale + self.below(scale)).unwrap().min(max)
    }
}

pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Ends the whole process, loudly, when a fact hangs in a way that the runtime's own timers do not end.
pub(crate) struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let (alive, ended) = mpsc::channel();
        let fact = std::thread::current().name().unwrap_or("a fact").to_owned();
        let watch = move || {
            if ended.recv_timeout(PATIENCE * 3) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{fact} hangs outside its runtime's control");
                std::process::abort();
            }
        };
        std::thread::Builder::new().spawn(watch).unwrap();
        Self { _alive: alive }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Enough for a cancel, its answer, and tiny completion queues.
const QUIET_TURNS_MAX: u32 = 100;
