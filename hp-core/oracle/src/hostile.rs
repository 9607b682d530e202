//! Hostile messages: made by the grammar, with what smuggling is made of in every place, then damaged.

use crate::choices::Choices;

/// Appends a stream of one to three requests, some of them plain, most of them not.
pub fn requests(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..=choices.below(3) {
        request(choices, out);
    }
    damage(choices, out);
}

/// Appends a stream of one to three responses.
pub fn responses(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..=choices.below(3) {
        response(choices, out);
    }
    damage(choices, out);
}

/// Appends a chunked body, and sometimes what follows it.
pub fn chunks(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    chunked_body(choices, out);
    if choices.one_in(3) {
        out.extend_from_slice(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    damage(choices, out);
}

/// Appends a request target or an authority.
pub fn target(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let text = choices.pick(&TARGETS);
    out.extend_from_slice(text);
    damage(choices, out);
}

fn request(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let mut words = [
        choices.pick(&METHODS[..4]),
        choices.pick(&TARGETS[..2]),
        b"HTTP/1.1",
    ];
    if choices.one_in(4) {
        words[0] = choices.pick(&METHODS);
    }
    if choices.one_in(4) {
        words[1] = choices.pick(&TARGETS);
    }
    if choices.one_in(8) {
        words[2] = choices.pick(&VERSIONS);
    }
    for (place, word) in words.into_iter().enumerate() {
        if place > 0 {
            out.extend_from_slice(if choices.one_in(64) {
                choices.pick(&BLANKS)
            } else {
                b" "
            });
        }
        out.extend_from_slice(word);
    }
    line_end(choices, out);
    if !choices.one_in(16) {
        out.extend_from_slice(b"Host: a");
        line_end(choices, out);
    }
    fields_and_body(choices, out);
}

fn response(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let line = if choices.one_in(3) {
        choices.pick(&STATUS_LINES)
    } else {
        STATUS_LINES[0]
    };
    out.extend_from_slice(line);
    line_end(choices, out);
    fields_and_body(choices, out);
}

fn fields_and_body(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let framing = choices.below(4);
    for _ in 0..choices.below(3) {
        let field = if choices.one_in(3) {
            choices.pick(&HOSTILE_FIELDS)
        } else {
            choices.pick(&FIELDS)
        };
        out.extend_from_slice(field);
        line_end(choices, out);
    }
    match framing {
        1 => out.extend_from_slice(b"Content-Length: 5\r\n"),
        2 => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => (),
    }
    if choices.one_in(8) {
        out.extend_from_slice(choices.pick(&HOSTILE_FIELDS));
        line_end(choices, out);
    }
    line_end(choices, out);
    match framing {
        1 => out.extend_from_slice(choices.pick(&BODIES)),
        2 => chunked_body(choices, out),
        3 if choices.one_in(4) => out.extend_from_slice(choices.pick(&BODIES)),
        _ => (),
    }
}

fn chunked_body(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..choices.below(3) {
        let odd = choices.one_in(6);
        out.extend_from_slice(if odd { choices.pick(&SIZES) } else { b"5" });
        if choices.one_in(6) {
            out.extend_from_slice(choices.pick(&EXTENSIONS));
        }
        line_end(choices, out);
        out.extend_from_slice(choices.pick(&BODIES));
        line_end(choices, out);
    }
    out.extend_from_slice(if choices.one_in(12) {
        choices.pick(&SIZES)
    } else {
        b"0"
    });
    if choices.one_in(12) {
        out.extend_from_slice(choices.pick(&EXTENSIONS));
    }
    line_end(choices, out);
    if choices.one_in(6) {
        out.extend_from_slice(if choices.one_in(2) {
            choices.pick(&HOSTILE_FIELDS)
        } else {
            choices.pick(&FIELDS)
        });
        line_end(choices, out);
    }
    line_end(choices, out);
}

fn line_end(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if choices.one_in(96) {
        choices.pick(&LINE_ENDS)
    } else {
        b"\r\n"
    });
}

/// Nothing in most cases; else up to three bytes or pieces are put in, taken out, doubled or changed.
fn damage(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    if !choices.one_in(4) {
        return;
    }
    for _ in 0..=choices.below(3) {
        let at = choices.below(out.len() + 1);
        let len = (1 + choices.below(12)).min(out.len() - at);
        match choices.below(6) {
            0 => out.insert(at, choices.pick(&BYTES)),
            1 if len > 0 => out[at] = choices.pick(&BYTES),
            2 => drop(out.drain(at..at + len)),
            3 => out.extend_from_within(at..at + len),
            4 => {
                let piece = choices.pick(&HOSTILE_FIELDS);
                out.splice(at..at, piece.iter().copied());
            }
            _ => out.truncate(out.len() - len),
        }
    }
}

const METHODS: [&[u8]; 12] = [
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"get",
    b"M-SEARCH",
    b"GE T",
    b"",
    b"\xc0GET",
];

const TARGETS: [&[u8]; 32] = [
    b"/",
    b"/a?b=c",
    b"*",
    b"/a%20b",
    b"/a%2",
    b"/a%00b",
    b"/../..//a;b",
    b"/a b",
    b"/a\tHTTP/1.1",
    b"/a#b",
    b"/a\\b",
    b"/\x80",
    b"http://a",
    b"http://a/b?c",
    b"http://a?b",
    b"HTTP://A:80/",
    b"https://a/",
    b"http://b/",
    b"http://u@a/",
    b"http://a:99999/",
    b"http://[::1]/",
    b"http://[::1/",
    b"ftp://a/",
    b"a:443",
    b"a",
    b"[::1]:443",
    b"a:",
    b"a%zz:1",
    b"",
    b"//a/b",
    b"/?a[]={b}|`^\"<>",
    b"/a?b#c HTTP/1.1 HTTP/1.0",
];

const VERSIONS: [&[u8]; 12] = [
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"HTTP/1.10",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/01.1",
    b"HTTP/1,1",
    b"",
];

const STATUS_LINES: [&[u8]; 24] = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 404 ",
    b"HTTP/1.1 404",
    b"HTTP/1.1 205 Reset Content",
    b"HTTP/1.1 200 O\xc3\xa9",
    b"HTTP/1.1 200 O\tK",
    b"HTTP/1.1 200 O\x00K",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 099 No",
    b"HTTP/1.1 600 No",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 +20 OK",
    b"HTTP/1.2 200 OK",
    b"HTTP/2 200",
    b"http/1.1 200 OK",
    b"ICY 200 OK",
    b"\r\nHTTP/1.1 200 OK",
];

const FIELDS: [&[u8]; 24] = [
    b"Accept: */*",
    b"X-Real-IP: 10.0.0.1",
    b"Cookie: a=b; c=d",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: X-Gone, close",
    b"X-Gone: yes",
    b"Keep-Alive: timeout=5",
    b"Via: 1.0 other",
    b"TE: trailers",
    b"Trailer: X-Sum",
    b"Expect: 100-continue",
    b"Max-Forwards: 3",
    b"X-Forwarded-For: 1.2.3.4",
    b"Forwarded: for=1.2.3.4",
    b"X-Text: \xc3\xa9\xff",
    b"X-Empty:",
    b"X-Blank: \t ",
    b"Date: Mon, 01 Jan 2024 00:00:00 GMT",
    b"ETag: \"a\"",
    b"Content-Type: text/plain",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authorization: Basic YQ==",
    b"Content-Encoding: gzip",
];

const HOSTILE_FIELDS: [&[u8]; 64] = [
    b"Content-Length: 5",
    b"content-length:5",
    b"Content-Length: 0",
    b"Content-Length: 005",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 5, 5",
    b"Content-Length: 5,6",
    b"Content-Length: 5;a",
    b"Content-Length: 0x5",
    b"Content-Length: 5 5",
    b"Content-Length: 5.0",
    b"Content-Length:",
    b"Content-Length: \"5\"",
    b"Content-Length: 5\x00",
    b"Content-Length: 4294967301",
    b"Content-Length: 9223372036854775808",
    b"Content-Length: 18446744073709551621",
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b"Content-Length\x0b: 5",
    b" Content-Length: 5",
    b"Content_Length: 5",
    b"Content-Length5",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:\tChunked\t",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: , chunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding:",
    b"Transfer-Encoding : chunked",
    b"\tTransfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\r\n\r\nGET /evil HTTP/1.1\r\nHost: a",
    b"Host: b",
    b"Host:",
    b"Host: a:80",
    b"Host: a, b",
    b"Host: u@a",
    b"Connection: content-length",
    b"Connection: transfer-encoding",
    b"Connection: host, x-forwarded-for",
    b"Connection: a b",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Expect: 200-ok",
    b"X-Name[]: a",
    b": empty",
    b"NoColon",
    b"X: \x7f\x01",
];

const SIZES: [&[u8]; 20] = [
    b"5",
    b"05",
    b"0",
    b"00",
    b"000000000000005",
    b"00000000000000005",
    b"0x5",
    b"+5",
    b"-5",
    b" 5",
    b"5 ",
    b"5\t",
    b"A",
    b"fffffffffffffff0",
    b"100000005",
    b"10000000000000005",
    b"5g",
    b"",
    b"4",
    b"5\x00",
];

const EXTENSIONS: [&[u8]; 12] = [
    b";a",
    b";a=b",
    b";a=\"b;\\\"c\"",
    b"; a = b",
    b";",
    b";;",
    b";a=\"",
    b";a\n0",
    b";a\r0",
    b";a=\"\r\n\"",
    b" ;a",
    b";\x00",
];

const BODIES: [&[u8]; 6] = [
    b"hello",
    b"GET /",
    b"0\r\n\r\n",
    b"a\r\nb\n",
    b"hell",
    b"hello!",
];
const LINE_ENDS: [&[u8]; 7] = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b" \r\n", b"\r\n\r\n"];
const BLANKS: [&[u8]; 5] = [b"  ", b"\t", b"\x0b", b"", b"\r\n "];
const BYTES: [u8; 24] = [
    0, b'\t', b'\n', 0x0b, b'\r', b' ', b'"', b'%', b'+', b',', b'-', b'0', b'5', b':', b';', b'=',
    b'A', b'\\', b'_', b'x', 0x7f, 0x80, 0x8a, 0xff,
];
