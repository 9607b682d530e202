//! Files from below a root, their parts, and the conditions on them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::{Client, Server, field, on_each_engine};

/// Long enough that no socket takes it at once.
const LONG: usize = 6_000_001;

#[test]
fn files_are_sent_whole() {
    on_tree(|client, tree| {
        let answer = client.get("/page.html");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, b"<p>page");
        assert_eq!(
            field(&answer.head, "Content-Type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(field(&answer.head, "Accept-Ranges"), Some("bytes"));
        for name in ["Date", "Last-Modified", "ETag"] {
            assert!(field(&answer.head, name).is_some(), "{name}");
        }
        let long = client.get("/long.bin");
        assert!(long.body == fs::read(tree.join("long.bin")).unwrap());
        assert_eq!(client.get("/empty.txt").body, b"");
        assert_eq!(client.get("/dir/with%20space.txt").body, b"space");
        assert_eq!(client.get("/dir/inner.css?x=y").body, b"css");
        assert_eq!(client.get("/dir/inner.css?t=1").body, b"css");
    });
}

#[test]
fn directories_have_an_index_behind_their_slash() {
    on_tree(|client, _tree| {
        let answer = client.get("/");
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"<p>index"[..])
        );
        assert_eq!(client.get("/dir/").status, 404);
        let answer = client.get("/dir?a=b");
        assert_eq!(
            (answer.status, field(&answer.head, "Location")),
            (301, Some("/dir/"))
        );
        assert_eq!(client.get("/page.html/").status, 404);
        assert_eq!(client.get("/missing").status, 404);
    });
}

#[test]
fn head_is_what_get_has() {
    on_tree(|client, _tree| {
        for path in ["/page.html", "/long.bin", "/missing", "/dir"] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let (status, head) = client.head();
            let answer = client.get(path);
            assert_eq!(status, answer.status);
            for name in [
                "Content-Length",
                "Content-Type",
                "ETag",
                "Last-Modified",
                "Location",
            ] {
                assert_eq!(
                    field(&head, name),
                    field(&answer.head, name),
                    "{path}: {name}"
                );
            }
        }
    });
}

#[test]
fn one_range_is_a_part_and_what_is_beyond_is_refused() {
    on_tree(|client, tree| {
        let long = fs::read(tree.join("long.bin")).unwrap();
        for (range, start, end) in [
            ("0-0", 0, 1),
            ("10-999999", 10, 1_000_000),
            ("5999990-", 5_999_990, LONG),
            ("-7", LONG - 7, LONG),
            ("1-99999999999999999999999", 1, LONG),
        ] {
            let answer = get(client, "/long.bin", &format!("Range: bytes={range}\r\n"));
            assert_eq!(answer.status, 206, "{range}");
            let want = format!("bytes {start}-{}/{LONG}", end - 1);
            assert_eq!(field(&answer.head, "Content-Range"), Some(want.as_str()));
            assert!(answer.body == long[start..end], "{range}");
        }
        let answer = get(client, "/long.bin", "Range: bytes=6000001-\r\n");
        assert_eq!(answer.status, 416);
        assert_eq!(
            field(&answer.head, "Content-Range"),
            Some("bytes */6000001")
        );
        for ignored in ["bytes=0-1,5-6", "bytes=5-1", "lines=0-1"] {
            let answer = get(client, "/page.html", &format!("Range: {ignored}\r\n"));
            assert_eq!((answer.status, answer.body.len()), (200, 7), "{ignored}");
        }
    });
}

#[test]
fn conditions_are_kept() {
    on_tree(|client, _tree| {
        let answer = client.get("/page.html");
        let etag = field(&answer.head, "ETag").unwrap().to_owned();
        let modified = field(&answer.head, "Last-Modified").unwrap().to_owned();
        let early = "Thu, 01 Jan 1970 00:00:01 GMT";
        let mut check = |fields: String, want: u16| {
            let answer = get(client, "/page.html", &fields);
            assert_eq!(answer.status, want, "{fields}");
            if want == 304 {
                assert_eq!(field(&answer.head, "ETag"), Some(etag.as_str()));
                assert_eq!(answer.body, b"");
            }
        };
        check(format!("If-None-Match: {etag}\r\n"), 304);
        check(format!("If-None-Match: \"x\", W/{etag}\r\n"), 304);
        check(
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {modified}\r\n"),
            200,
        );
        check(format!("If-Modified-Since: {modified}\r\n"), 304);
        check(format!("If-Modified-Since: {early}\r\n"), 200);
        check(format!("If-Match: {etag}\r\n"), 200);
        check(String::from("If-Match: \"x\"\r\n"), 412);
        check(format!("If-Unmodified-Since: {early}\r\n"), 412);
        check(format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n"), 206);
        check(String::from("Range: bytes=0-1\r\nIf-Range: \"x\"\r\n"), 200);
    });
}

#[test]
fn nothing_outside_is_served_and_nothing_special() {
    on_tree(|client, _tree| {
        for (path, status) in [
            ("/../outside", 400),
            ("/%2e%2e/outside", 400),
            ("/.%2e/outside", 400),
            ("/..%2foutside", 400),
            ("/dir/../../outside", 400),
            ("/%2e%2e%2foutside", 400),
            ("/%252e%252e/outside", 404),
            ("/..%5coutside", 400),
            ("/page.html%00", 400),
            ("//outside", 400),
            ("/dir//inner.css", 400),
            ("/out", 403),
            ("/up/outside", 403),
            ("/absolute/passwd", 403),
            ("/loop", 403),
            ("/pipe", 403),
        ] {
            let answer = client.get(path);
            assert_eq!(answer.status, status, "{path}");
            assert!(!answer.body.windows(6).any(|part| part == b"secret"));
        }
        assert_eq!(client.get("/page.html").status, 200);
    });
}

#[test]
fn paths_of_our_own_and_orders_come_before_files() {
    on_tree(|client, _tree| {
        assert_eq!(client.get("/status/503").status, 503);
        assert_eq!(client.get("/page.html?s=5").body, b"xxxxx");
        assert_eq!(client.get("/counters").status, 200);
        client.send("POST /page.html HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.answer().body, b"hi");
    });
}

#[test]
fn files_are_pipelined_and_the_old_clients_connection_ends() {
    on_tree(|client, tree| {
        let paths = ["/page.html", "/long.bin", "/?s=3", "/missing", "/page.html"];
        let request = |path: &&str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(paths.iter().map(request).collect::<String>());
        let lengths = paths.map(|_path| client.answer().body.len());
        assert_eq!(lengths, [7, LONG, 3, 9, 7]);
        client.send("GET /long.bin HTTP/1.0\r\n\r\n");
        let (_status, head) = client.head();
        assert_eq!(field(&head, "Connection"), Some("close"));
        assert!(client.rest() == fs::read(tree.join("long.bin")).unwrap());
    });
}

/// The file loses its end while nobody reads: what was promised cannot be sent any more.
#[test]
fn file_that_is_cut_short_does_not_look_whole() {
    let tree = tree();
    let root = tree.path().join("root");
    on_each_engine(&["--root", root.to_str().unwrap()], |server| {
        fs::write(root.join("cut.bin"), vec![b'c'; 64 << 20]).unwrap();
        let mut client = server.connect();
        client.send("GET /cut.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        let (_status, head) = client.head();
        assert_eq!(field(&head, "Content-Length"), Some("67108864"));
        let file = fs::OpenOptions::new()
            .write(true)
            .open(root.join("cut.bin"))
            .unwrap();
        file.set_len(1).unwrap();
        let (seen, _failure) = client.rest_and_failure();
        assert!(seen.len() < 64 << 20, "{}", seen.len());
    });
}

#[test]
fn root_that_is_none_is_one_line_and_exit_one() {
    let tree = tree();
    let check = |name: &str, cause: &str| {
        let path = tree.path().join(name);
        let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_hp-echo"))
            .args(["--listen", "127.0.0.1:0", "--root"])
            .arg(&path)
            .output()
            .unwrap();
        let line = format!(
            "hp-echo: cannot open --root {}: {cause}; give a directory that can be read\n",
            path.display()
        );
        assert_eq!(String::from_utf8(stderr).unwrap(), line);
        assert_eq!(status.code(), Some(1));
    };
    check("missing", "no such directory");
    check("outside", "not a directory");
}

/// Starts a server for each engine over a fresh tree; its client, and the root.
fn on_tree(check: impl Fn(&mut Client, &Path)) {
    let tree = tree();
    let root = tree.path().join("root");
    on_each_engine(&["--root", root.to_str().unwrap()], |server: &Server| {
        check(&mut server.connect(), &root);
    });
}

fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().join("root");
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(tree.path().join("outside"), "secret").unwrap();
    let long: Vec<u8> = (0..LONG).map(|i| i.to_le_bytes()[i % 3]).collect();
    for (name, content) in [
        ("index.html", &b"<p>index"[..]),
        ("page.html", b"<p>page"),
        ("empty.txt", b""),
        ("long.bin", &long),
        ("dir/inner.css", b"css"),
        ("dir/with space.txt", b"space"),
    ] {
        fs::write(root.join(name), content).unwrap();
    }
    symlink("../outside", root.join("out")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/etc", root.join("absolute")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let made = Command::new("mkfifo")
        .arg(root.join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    tree
}

fn get(client: &mut Client, path: &str, fields: &str) -> crate::server::Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.answer()
}
