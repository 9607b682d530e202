//! Long content goes past the proxy's memory, in simulated time: it arrives whole, and what follows it on both connections as well.
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[macro_use]
#[path = "faces/mod.rs"]
mod faces;
#[path = "from_file/mod.rs"]
mod from_file;
#[path = "messages/mod.rs"]
mod messages;

use from_file::{Proxy, serve};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::rt::{Instant, Rt, RtOptions};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

facts! {
    long_answers_arrive_whole_and_so_does_what_is_asked_for_behind_them,
    long_uploads_arrive_whole_and_so_does_what_is_asked_for_behind_them,
    long_answers_in_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them,
    long_uploads_in_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them,
    long_answers_in_short_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them,
    long_uploads_in_short_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them,
    an_answer_in_the_middle_of_a_long_upload_arrives,
    an_answer_in_the_middle_of_a_long_upload_arrives_though_a_reset_follows,
    what_follows_a_long_answer_unasked_answers_nobody,
    what_stands_behind_the_last_chunk_is_the_next_request,
    a_connection_is_of_use_after_an_answer_whose_end_came_with_the_line_of_a_chunk,
    a_long_answer_that_breaks_off_does_not_look_whole,
    a_long_answer_that_breaks_off_in_a_chunk_does_not_look_whole,
    a_long_answer_that_breaks_off_among_short_chunks_does_not_look_whole,
    a_client_that_does_not_read_a_long_answer_is_given_up,
    a_mirror_has_the_whole_of_a_long_upload,
    chunks_that_came_together_leave_together,
    what_is_a_whole_chunk_of_the_backend_is_in_whole_chunks_for_the_client,
    content_that_came_with_a_line_arrives_where_all_pipes_are_taken,
    the_line_of_a_chunk_too_long_to_be_announced_ends_no_body_where_it_comes_alone,
    content_that_came_with_a_line_pays_for_the_pause_before_it_where_all_pipes_are_taken,
}

fn long_answers_arrive_whole_and_so_does_what_is_asked_for_behind_them(face: Face) {
    check_all(face, &|at| (format!("GET /{}", LENGTHS[at]), 0), "");
}

fn long_uploads_arrive_whole_and_so_does_what_is_asked_for_behind_them(face: Face) {
    check_all(face, &|at| (format!("POST /{}", at + 1), LENGTHS[at]), "");
}

fn long_answers_in_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them(face: Face) {
    check_all(face, &|at| (format!("GET /c{}", LENGTHS[at]), 0), "");
}

fn long_uploads_in_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them(face: Face) {
    check_all(face, &|at| (format!("POST /c{}", at + 1), LENGTHS[at]), "");
}

fn long_answers_in_short_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them(face: Face) {
    check_all(face, &|at| (format!("GET /s{}", LENGTHS[at]), 0), "");
}

fn long_uploads_in_short_chunks_arrive_whole_and_so_does_what_is_asked_for_behind_them(face: Face) {
    check_all(face, &|at| (format!("POST /s{}", at + 1), LENGTHS[at]), "");
}

/// Clients that ask for several things on one connection, each as soon as it likes.
fn check_all(face: Face, request: &dyn Fn(usize) -> (String, usize), lines: &str) {
    let mut splices = 0;
    for seed in 0..SEEDS {
        let profile = if seed % 2 == 0 {
            Profile::calm()
        } else {
            Profile::swarm()
        };
        let lab = Lab::new(seed, face, &profile, lines);
        for client in 0..CLIENTS {
            let requests = (0..LENGTHS.len()).map(|at| request((at + client) % LENGTHS.len()));
            lab.ask(requests.collect());
        }
        lab.run_to_end();
        let heard = lab.heard.borrow();
        if seed % 2 == 0 {
            assert_eq!(heard.len(), CLIENTS * LENGTHS.len(), "seed {seed}");
        }
        let connects = lab.proxy.sum(|row| &row.upstream_connects);
        if seed % 2 == 0 {
            assert!(
                connects <= CLIENTS as u64,
                "seed {seed}: {connects}, though connections are kept"
            );
        }
        for (said, answer) in &*heard {
            let is_ours = !answer.head.starts_with("HTTP/1.1 200");
            // Faults may cost an answer, never a byte of one.
            assert!(
                is_ours && seed % 2 == 1 || answer.is_as_asked(said),
                "seed {seed}: {said:?}: {}",
                answer.head
            );
        }
        splices += lab
            .proxy
            .rts
            .iter()
            .map(|rt| rt.stats().splices)
            .sum::<u64>();
    }
    assert!(splices > SEEDS, "{splices}");
}

/// What is left of the upload is received and dropped for a while: a reset would take the answer back.
fn an_answer_in_the_middle_of_a_long_upload_arrives(face: Face) {
    check_early(face, "/early", async |conn| {
        conn.write(&content(100_000)).unwrap();
        let answer = messages::read(conn, &mut Vec::new()).await.unwrap();
        conn.write(&content(900_000)).unwrap();
        conn.finish().await.unwrap();
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        answer
    });
}

/// What was spliced counts as sent: the answer was one to the request, although a send had failed by then.
fn an_answer_in_the_middle_of_a_long_upload_arrives_though_a_reset_follows(face: Face) {
    check_early(face, "/early-reset", async |conn| {
        conn.flush().await.unwrap();
        conn.rt().sleep(Duration::from_millis(50)).await;
        // Who takes no more of it is no failure here: the answer says why.
        let _refused = conn.write(&content(1_000_000));
        messages::read(conn, &mut Vec::new()).await.unwrap()
    });
}

/// Who uploads a megabyte to a backend that has answered before it had all of it is told its answer.
fn check_early(
    face: Face,
    path: &'static str,
    upload: impl AsyncFn(&Conn) -> (String, Vec<u8>) + Copy + 'static,
) {
    for seed in 0..SEEDS {
        let lab = Lab::new(seed, face, &Profile::calm(), "");
        let (rt, left) = (lab.clients.clone(), Rc::clone(&lab.clients_left));
        left.set(1);
        lab.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
            conn.write(head.as_bytes()).unwrap();
            let (head, body) = upload(&conn).await;
            assert!(head.starts_with("HTTP/1.1 413"), "seed {seed}: {head}");
            assert_eq!(body, b"too much");
            left.set(0);
        });
        lab.run_to_end();
    }
}

/// The surplus is in the kernel when the exchange ends, and the next request has the connection before anybody looks.
fn what_follows_a_long_answer_unasked_answers_nobody(face: Face) {
    check_between(
        face,
        &["GET /surplus", "GET /10", "GET /csurplus", "GET /10"],
        4,
    );
}

/// It may be received with the line of the last chunk.
fn what_stands_behind_the_last_chunk_is_the_next_request(face: Face) {
    for seed in 0..SEEDS {
        let lab = Lab::new(seed, face, &Profile::calm(), "");
        let (rt, left) = (lab.clients.clone(), Rc::clone(&lab.clients_left));
        left.set(1);
        lab.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            let lengths = [300_000, 65_536, 200_000];
            let mut all = Vec::new();
            for length in lengths {
                let head = format!("POST /{length} HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n");
                all.extend_from_slice(head.as_bytes());
                all.extend_from_slice(&in_bare_chunks(&content(length), 65_536));
            }
            all.extend_from_slice(b"GET /10 HTTP/1.1\r\nHost: a\r\n\r\n");
            conn.write(&all).unwrap();
            let mut held = Vec::new();
            for length in lengths {
                let (_head, body) = messages::read(&conn, &mut held).await.unwrap();
                let said = format!("POST /{length} {}", digest(&content(length)));
                assert_eq!(body, said.as_bytes(), "seed {seed}");
            }
            let (_head, body) = messages::read(&conn, &mut held).await.unwrap();
            assert_eq!(body, content(10), "seed {seed}");
            left.set(0);
        });
        lab.run_to_end();
    }
}

/// The end was copied then, and the connection, of which nothing was received into memory as long as chunks went past, went back as it was: nobody
/// heard the next answer.
fn a_connection_is_of_use_after_an_answer_whose_end_came_with_the_line_of_a_chunk(face: Face) {
    check_between(face, &["GET /cend", "GET /10"], 1);
}

/// Each of so many clients that ask eight times, by turns for a long answer and for a short one, gets all of each.
fn check_between(face: Face, lines: &[&str], clients: usize) {
    for seed in 0..SEEDS {
        let lab = Lab::new(seed, face, &Profile::calm(), "");
        for _ in 0..clients {
            let asked = lines.iter().cycle().take(8);
            lab.ask(asked.map(|line| ((*line).to_owned(), 0)).collect());
        }
        lab.run_to_end();
        let heard = lab.heard.borrow();
        assert_eq!(heard.len(), 8 * clients, "seed {seed}");
        for ((line, _), answer) in &*heard {
            let length = if line == "GET /10" { 10 } else { 300_000 };
            assert!(
                answer.body == content(length),
                "seed {seed}: {line}: {}",
                answer.head
            );
        }
    }
}

fn a_long_answer_that_breaks_off_does_not_look_whole(face: Face) {
    check_broken(face, "GET /broken");
}

fn a_long_answer_that_breaks_off_in_a_chunk_does_not_look_whole(face: Face) {
    check_broken(face, "GET /cbroken");
}

fn a_long_answer_that_breaks_off_among_short_chunks_does_not_look_whole(face: Face) {
    check_broken(face, "GET /sbroken");
}

fn check_broken(face: Face, line: &str) {
    for seed in 0..SEEDS {
        let lab = Lab::new(seed, face, &Profile::calm(), "");
        lab.ask(vec![(line.to_owned(), 0)]);
        lab.run_to_end();
        let heard = lab.heard.borrow();
        assert!(heard.is_empty(), "seed {seed}: it has no end that is one");
        assert_eq!(lab.clients_left.get(), 0);
    }
}

fn a_client_that_does_not_read_a_long_answer_is_given_up(face: Face) {
    let lab = Lab::new(1, face, &Profile::calm(), "");
    let (rt, left) = (lab.clients.clone(), Rc::clone(&lab.clients_left));
    left.set(left.get() + 1);
    lab.clients.spawn(async move {
        let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
        conn.write(b"GET /50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        rt.sleep(Duration::from_secs(60)).await; // Twice the time that a body may stand still.
        let (mut bytes, mut ended) = (0, false);
        while !ended {
            match conn.recv().await {
                Ok(Rx::Data(lent)) => bytes += lent.len(),
                Ok(Rx::Eof) | Err(_) => ended = true,
            }
        }
        assert!(bytes < 50_000_000, "{bytes}");
        left.set(left.get() - 1);
    });
    lab.run_to_end();
    let splices: u64 = lab.proxy.rts.iter().map(|rt| rt.stats().splices).sum();
    assert!(splices > 0);
}

/// Each was a send of its own, though one receive had brought many.
fn chunks_that_came_together_leave_together(face: Face) {
    const CHUNKS: usize = 200;
    let length = CHUNKS * EVEN[0];
    for said in [
        (format!("GET /e{length}"), 0),
        ("POST /e".to_owned(), length),
    ] {
        let lab = Lab::new(1, face, &Profile::calm(), "");
        lab.ask(vec![said.clone()]);
        lab.run_to_end();
        let heard = lab.heard.borrow();
        assert!(
            heard.len() == 1 && heard[0].1.is_as_asked(&said),
            "{said:?}"
        );
        let sends: u64 = lab.proxy.rts.iter().map(|rt| rt.stats().sends).sum();
        assert!(sends < CHUNKS as u64 / 2, "{said:?}: {sends} sends");
    }
}

/// Who wants whole chunks waits for no more than it would without us, wherever the backend pauses.
fn what_is_a_whole_chunk_of_the_backend_is_in_whole_chunks_for_the_client(face: Face) {
    for said in (1..=10).map(|at| at * 14_321) {
        let lab = Lab::new(1, face, &Profile::calm(), "");
        let line = format!("GET /pause{said}");
        let told = lab.listen(&line, Duration::from_millis(500));
        lab.run_to_end();
        let heard = chunks_of(&told.borrow()).concat();
        assert!(heard.len() >= said / BARE * BARE, "{said}: {}", heard.len());
        assert!(content(said).starts_with(&heard), "{said}");
    }
}

/// The client's chunk before went past; while its next one is awaited, others take all pipes.
fn content_that_came_with_a_line_arrives_where_all_pipes_are_taken(face: Face) {
    let lab = Lab::new(1, face, &Profile::calm(), "");
    lab.take_all_pipes(Duration::from_secs(1), Duration::from_secs(4));
    let (rt, left) = (lab.clients.clone(), Rc::clone(&lab.clients_left));
    left.set(1);
    lab.clients.spawn(async move {
        let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
        let head = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n");
        conn.write(head.as_bytes()).unwrap();
        let (body, first) = (in_bare_chunks(&content(140_000), 70_000), 70_007);
        conn.write(&body[..first]).unwrap();
        rt.sleep(Duration::from_secs(3)).await;
        conn.write(&body[first..]).unwrap();
        let (_, answer) = messages::read(&conn, &mut Vec::new()).await.unwrap();
        let expected = format!("POST /1 {}", digest(&content(140_000)));
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
        left.set(0);
    });
    lab.run_to_end();
}

/// A backend whose pauses are each below the time that it has: what it said between two of them was in no pipe, and counted for nothing.
fn content_that_came_with_a_line_pays_for_the_pause_before_it_where_all_pipes_are_taken(
    face: Face,
) {
    let lab = Lab::new(1, face, &Profile::calm(), "");
    lab.take_all_pipes(Duration::from_secs(10), Duration::from_secs(20));
    lab.ask(vec![("GET /hesitant".to_owned(), 0)]);
    lab.run_to_end();
    let heard = lab.heard.borrow();
    assert!(heard.len() == 1, "it came whole");
    assert!(heard[0].1.body == content(140_000));
}

/// Behind a chunk that went past us came the line of one of more than 16 MiB, and nothing with it: it went on as the last chunk, and what
/// followed it as the next request.
fn the_line_of_a_chunk_too_long_to_be_announced_ends_no_body_where_it_comes_alone(face: Face) {
    let lab = Lab::new(1, face, &Profile::calm(), "");
    let (rt, left) = (lab.clients.clone(), Rc::clone(&lab.clients_left));
    left.set(1);
    lab.clients.spawn(async move {
        let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
        let pause = async || rt.sleep(Duration::from_millis(100)).await;
        let head = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n10000\r\n");
        conn.write(head.as_bytes()).unwrap();
        pause().await;
        conn.write(&content(20_000)).unwrap();
        pause().await;
        conn.write(&[&content(0x10000 - 20_000)[..], b"\r\n1000001\r\n"].concat())
            .unwrap();
        pause().await;
        assert!(!conn.has_news(), "there is no answer to a part of a body");
        conn.reset();
        left.set(0);
    });
    lab.run_to_end();
}

fn a_mirror_has_the_whole_of_a_long_upload(face: Face) {
    for seed in 0..SEEDS {
        for line in ["POST /7", "POST /c7", "POST /s7"] {
            let lab = Lab::new(seed, face, &Profile::calm(), MIRROR);
            lab.ask(vec![(line.to_owned(), 300_000)]);
            lab.run_to_end();
            let uploads = lab.uploads.borrow();
            assert_eq!(*uploads, vec![content(300_000); 2], "seed {seed}: {line}");
        }
    }
}

/// The beginning of a request's first line, and how much content it has.
type Said = (String, usize);

/// What a client got.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Whether it is what the backend says to such a request: the content that was asked for, or how much it was given.
    fn is_as_asked(&self, (line, sent): &(String, usize)) -> bool {
        match line.strip_prefix("GET /") {
            Some(length) => {
                let length = length.trim_start_matches(['c', 's', 'e']).parse().unwrap();
                self.body == content(length)
            }
            None => self.body == format!("{line} {}", digest(&content(*sent))).as_bytes(),
        }
    }
}

struct Lab {
    world: World,
    clients: Rt,
    backend: Rt,
    proxy: Proxy,
    clients_left: Rc<Cell<u64>>,
    heard: Rc<RefCell<Vec<(Said, Answer)>>>,
    /// What was sent with POST, where it came whole.
    uploads: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Lab {
    fn new(seed: u64, face: Face, profile: &Profile, lines: &str) -> Self {
        let world = World::new(seed, profile);
        let start = |host: &Host, face| host.rt(face, &RtOptions::default()).unwrap();
        let client_host = world.host([10, 0, 0, 1]);
        let proxy_host = world.host([10, 0, 0, 2]);
        let host = world.host([10, 0, 1, 1]);
        let addr = SocketAddr::from((host.addr(), 8000));
        let backend = start(&host, Face::Readiness);
        let uploads: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let noted = Rc::clone(&uploads);
        serve(&backend, &host, addr, move |conn| {
            answer(conn, Rc::clone(&noted))
        });
        let text = format!(
            "workers = 1\n[[listener]]\naddress = \"{PROXY}\"\n[[route]]\nupstream = \"u\"\n{lines}\n[upstream.u]\nendpoints = [\"{addr}\"]\n[upstream.copies]\nendpoints = [\"{addr}\"]\n"
        );
        Self {
            clients: start(&client_host, Face::Readiness),
            proxy: Proxy::start(&proxy_host, face, &text),
            backend,
            world,
            clients_left: Rc::default(),
            heard: Rc::default(),
            uploads,
        }
    }

    /// A client that sends requests with so much content, and leaves with the first answer that is not whole.
    fn ask(&self, requests: Vec<(String, usize)>) {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let heard = Rc::clone(&self.heard);
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            if let Ok(conn) = rt.connect(PROXY, Instant::NEVER).await {
                let mut held = Vec::new();
                for (line, length) in requests {
                    let body = content(length);
                    let (field, body) = match line.as_bytes().get(..7) {
                        Some(b"POST /c") => (CHUNKED.to_owned(), in_chunks(&body, &LONG)),
                        Some(b"POST /s") => (CHUNKED.to_owned(), in_chunks(&body, &SHORT)),
                        Some(b"POST /e") => (CHUNKED.to_owned(), in_chunks(&body, &EVEN)),
                        _ => (format!("Content-Length: {length}"), body),
                    };
                    let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
                    let message = [head.into_bytes(), body].concat();
                    if conn.write(&message).is_err() {
                        break;
                    }
                    let Some((head, body)) = messages::read(&conn, &mut held).await else {
                        break;
                    };
                    heard
                        .borrow_mut()
                        .push(((line, length), Answer { head, body }));
                }
            }
            left.set(left.get() - 1);
        });
    }

    /// A client that asks for something and notes for a while what it is told, byte by byte.
    fn listen(&self, line: &str, time: Duration) -> Rc<RefCell<Vec<u8>>> {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let told: Rc<RefCell<Vec<u8>>> = Rc::default();
        let heard = Rc::clone(&told);
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            conn.set_deadline(Some(rt.now() + time));
            conn.write(head.as_bytes()).unwrap();
            while let Ok(Rx::Data(lent)) = conn.recv().await {
                heard.borrow_mut().extend_from_slice(&lent);
            }
            left.set(left.get() - 1);
        });
        told
    }

    /// Clients that come after so long, and do not read their long answers for so long.
    fn take_all_pipes(&self, after: Duration, during: Duration) {
        for _ in 0..PIPES_MAX {
            let rt = self.clients.clone();
            self.clients.spawn(async move {
                rt.sleep(after).await;
                let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
                conn.write(b"GET /2000000 HTTP/1.1\r\nHost: a\r\n\r\n")
                    .unwrap();
                rt.sleep(during).await;
                conn.reset();
            });
        }
    }

    /// Until all clients have ended, and a drain after them.
    fn run_to_end(&self) {
        self.run(&|| self.clients_left.get() == 0);
        self.proxy.drain();
        self.run(&|| self.proxy.has_ended());
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        let ends = [&self.clients, &self.backend].into_iter();
        faces::run(&self.world, ends.chain(&self.proxy.rts), LIMITS, done);
    }
}

/// Answers each request: with so much content as it asks for, or with what it was sent.
async fn answer(conn: Conn, uploads: Rc<RefCell<Vec<Vec<u8>>>>) {
    let mut held = Vec::new();
    loop {
        while messages::head_of(&held).is_none() {
            match conn.recv().await {
                Ok(Rx::Data(lent)) => held.extend_from_slice(&lent),
                Ok(Rx::Eof) | Err(_) => return,
            }
        }
        let is_reset = held.starts_with(b"POST /early-reset ");
        if held.starts_with(b"POST /early") {
            while held.len() < 60_000 {
                match conn.recv().await {
                    Ok(Rx::Data(lent)) => held.extend_from_slice(&lent),
                    Ok(Rx::Eof) | Err(_) => return,
                }
            }
            let said = messages::answer("413 Content Too Large", b"too much");
            let _gone = conn.write(&said);
            let _gone = conn.flush().await;
            if is_reset {
                conn.rt().sleep(Duration::from_millis(20)).await; // A reset takes away what is on its way.
                return; // With bytes that nobody has read.
            }
            while let Ok(Rx::Data(_)) = conn.recv().await {} // Or its words would be lost with a reset.
            return;
        }
        let Some((head, body)) = messages::read(&conn, &mut held).await else {
            return;
        };
        let line = head.split(" HTTP").next().unwrap();
        let said = match line.strip_prefix("GET /") {
            Some(path @ ("broken" | "cbroken" | "sbroken")) => {
                let whole = match path {
                    "broken" => messages::answer("200 OK", &content(400_000)),
                    "cbroken" => answer_in_chunks(&content(400_000), &LONG),
                    _ => answer_in_chunks(&content(400_000), &SHORT),
                };
                let _gone = conn.write(&whole[..200_000]);
                let _gone = conn.flush().await;
                return;
            }
            Some("hesitant") => hesitate(&conn).await,
            Some(asked) if asked.starts_with("pause") => {
                return pause(&conn, asked["pause".len()..].parse().unwrap()).await;
            }
            Some(asked) => content_asked(asked),
            None => {
                let said =
                    messages::answer("200 OK", format!("{line} {}", digest(&body)).as_bytes());
                uploads.borrow_mut().push(body);
                said
            }
        };
        if conn.write(&said).is_err() || conn.flush().await.is_err() {
            return;
        }
    }
}

/// Sends two chunks, with pauses behind the first line, the first chunk, and the second line with three bytes; gives what is left of them.
async fn hesitate(conn: &Conn) -> Vec<u8> {
    let body = in_bare_chunks(&content(140_000), 70_000);
    let _gone = conn.write(BARE_HEAD.as_bytes());
    let mut start = 0;
    for (end, millis) in [(7, 500), (70_007, 20_000), (70_019, 20_000)] {
        let _gone = conn.write(&body[start..end]);
        conn.rt().sleep(Duration::from_millis(millis)).await;
        start = end;
    }
    body[start..].to_vec()
}

/// Sends a body in chunks as far as that much content, and then nothing for a while.
async fn pause(conn: &Conn, said: usize) {
    let body = in_bare_chunks(&content(200_000), BARE);
    let lines = said.div_ceil(BARE) * (CHUNK_LINE.len() + 2) - 2;
    let _gone = conn.write(BARE_HEAD.as_bytes());
    let _gone = conn.write(&body[..said + lines]);
    let _gone = conn.flush().await;
    conn.rt().sleep(Duration::from_secs(5)).await;
}

/// Content of a length that is asked for, in the chunks that the letter before it names; or one of a few that are special.
fn content_asked(asked: &str) -> Vec<u8> {
    match asked {
        "surplus" | "csurplus" => {
            let long = content(300_000);
            let whole = match asked {
                "surplus" => messages::answer("200 OK", &long),
                _ => answer_in_bare_chunks(&long, 65_536),
            };
            return [whole, messages::answer("200 OK", b"unasked")].concat();
        }
        "cend" => return answer_in_bare_chunks(&content(300_000), 299_999),
        _ => (),
    }
    let body = content(asked.trim_start_matches(['c', 's', 'e']).parse().unwrap());
    match asked.as_bytes().first() {
        Some(b'c') => answer_in_chunks(&body, &LONG),
        Some(b's') => answer_in_chunks(&body, &SHORT),
        Some(b'e') => answer_in_chunks(&body, &EVEN),
        _ => messages::answer("200 OK", &body),
    }
}

fn answer_in_bare_chunks(body: &[u8], size: usize) -> Vec<u8> {
    [BARE_HEAD.as_bytes(), &in_bare_chunks(body, size)].concat()
}

fn answer_in_chunks(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{CHUNKED}\r\n\r\n");
    [head.into_bytes(), in_chunks(body, sizes)].concat()
}

/// Chunks of these sizes in turn, those of three bytes with an extension, those of one size behind zeros; and a trailer.
fn in_chunks(mut body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    for &size in sizes.iter().cycle() {
        if body.is_empty() {
            break;
        }
        let (chunk, rest) = body.split_at(size.min(body.len()));
        let extension = if size == 3 { ";a=\"b\"" } else { "" };
        let digits = if size == PADDED { 9 } else { 1 };
        out.extend_from_slice(format!("{:0digits$x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        body = rest;
    }
    out.extend_from_slice(b"0\r\nX-End: yes\r\n\r\n");
    out
}

/// Chunks of one size, and nothing in the lines that has not to be there.
fn in_bare_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = in_chunks(body, &[size]);
    out.truncate(out.len() - b"X-End: yes\r\n\r\n".len());
    out.extend_from_slice(b"\r\n");
    out
}

/// No two of its parts are alike, so that a byte in the wrong place is seen.
fn content(length: usize) -> Vec<u8> {
    let words =
        (0..length.div_ceil(4)).map(|at| u32::try_from(at).unwrap().wrapping_mul(0x9E37_79B1));
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// The chunks of an answer that are there whole, with their ends.
fn chunks_of(answer: &[u8]) -> Vec<Vec<u8>> {
    let (head, _framing) = messages::head_of(answer).unwrap();
    let (mut rest, mut chunks) = (&answer[head..], Vec::new());
    while let Some(line) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let digits = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(digits, 16).unwrap();
        let Some(chunk) = rest.get(line + 2..line + 2 + size + 2) else {
            break;
        };
        assert!(chunk.ends_with(b"\r\n"));
        if size > 0 {
            chunks.push(chunk[..size].to_vec());
        }
        rest = &rest[line + 2 + size + 2..];
    }
    chunks
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const CHUNKED: &str = "Transfer-Encoding: chunked";
const BARE_HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// All too short to go past, and none so short that it is copied behind another.
const EVEN: [usize; 1] = [4_000];
/// Long enough to go past.
const BARE: usize = 60_000;
const CHUNK_LINE: &str = "ea60\r\n";
/// A line that is shorter than the one before comes with content, for which there may be no room in a pipe.
const PADDED: usize = 40_000;
const LONG: [usize; 7] = [70_000, 40_000, 1, 150_000, 3, 32 * 1024, 5_000];
/// Some of them too short to go past, by a byte or by many.
const SHORT: [usize; 9] = [
    16_384, 5_000, 40_000, 16_383, 9_999, 17_000, 70_000, 16_400, 3,
];
/// Of a worker, with bytes in them.
const PIPES_MAX: usize = 64;
const LENGTHS: [usize; 6] = [300_000, 10, 100_000, 0, 1_000_000, 30_000];
const MIRROR: &str = "mirror = { upstream = \"copies\", body_max = \"1MiB\" }";
const SEEDS: u64 = 12;
const CLIENTS: usize = 3;
const PROXY: SocketAddr = {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 2);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, 80))
};
const LIMITS: Limits = Limits {
    turns: 10_000_000,
    time: Duration::from_secs(3600),
};
