//! What will run: complete, checked and immutable before the first connection.
//!
//! Must not know: sockets and the runtime. Names are resolved by the caller.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hp_core::rt::Engine;
use hp_core::wire::token::is_token;

use crate::cli::Cli;
use crate::output::Output;
use crate::target::Target;

/// Everything the workers and the report need to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the requests go.
    pub target: Target,
    /// Open connections in all threads together; 1 or more.
    pub connections: u32,
    /// 1 to `connections`.
    pub threads: u32,
    /// From the start of the clock, which is after all connects, to the last send.
    pub duration: Duration,
    /// Longest wait for a connection, and for a complete answer from its request on.
    pub timeout: Duration,
    /// How the kernel is asked.
    pub engine: Engine,
    /// The request's method.
    pub method: String,
    /// The whole request, head and body, as it goes out.
    pub request: Vec<u8>,
    /// Bytes of `request` that are its body.
    pub body_len: usize,
    /// Whether the request leaves its connection open: no `Connection: close` among the headers.
    pub keep_alive: bool,
    /// What becomes of the result.
    pub output: Output,
}

/// Why the words make no plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanError {
    /// The positional word and the flag say different things.
    SaidTwice {
        /// Both names, and their values.
        what: &'static str,
    },
    /// More threads than connections.
    IdleThreads {
        /// As asked.
        threads: u32,
        /// As asked.
        connections: u32,
    },
    /// A time outside its range.
    TimeRange {
        /// The flag.
        flag: &'static str,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// Not `NAME: VALUE`, or with characters that no field has.
    BadHeader {
        /// As given.
        header: String,
    },
    /// A field that follows from other flags or changes the protocol under us.
    OwnedHeader {
        /// The field's name.
        name: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// Not a method's name, or one that does not end in a plain answer.
    BadMethod {
        /// As given.
        method: String,
    },
    /// The body's file cannot be read.
    Body {
        /// The file.
        file: PathBuf,
        /// The system's word.
        cause: String,
    },
}

impl Plan {
    /// Makes the plan; reads the body's file where there is one.
    ///
    /// `cpus` is the number of CPUs this process may use.
    ///
    /// # Errors
    /// The first [`PlanError`] in the order of the fields.
    pub fn resolve(cli: &Cli, cpus: u32) -> Result<Self, PlanError> {
        let connections = one_of(cli.connections_word, cli.connections, "CONNECTIONS and -c")?
            .unwrap_or(CONNECTIONS_DEFAULT);
        let duration =
            one_of(cli.duration_word, cli.duration, "SECONDS and -d")?.unwrap_or(DURATION_DEFAULT);
        let threads = cli.threads.unwrap_or_else(|| cpus.clamp(1, connections));
        if threads > connections {
            return Err(PlanError::IdleThreads {
                threads,
                connections,
            });
        }
        if duration.is_zero() || duration > DURATION_MAX {
            return Err(PlanError::TimeRange {
                flag: "-d",
                range: "1ms to 7d",
            });
        }
        if cli.timeout.is_zero() || cli.timeout > TIMEOUT_MAX {
            return Err(PlanError::TimeRange {
                flag: "--timeout",
                range: "1ms to 60s",
            });
        }
        let body = match &cli.body {
            Some(word) => Some(read_body(word)?),
            None => None,
        };
        let method = method(cli.method.as_deref(), body.is_some())?;
        Ok(Self {
            request: request(&cli.target, &method, &cli.headers, body.as_deref())?,
            keep_alive: !cli.headers.iter().any(|header| says_close(header)),
            body_len: body.map_or(0, |bytes| bytes.len()),
            target: cli.target.clone(),
            connections,
            threads,
            duration,
            timeout: cli.timeout,
            engine: cli.engine,
            method,
            output: cli.output.clone(),
        })
    }

    /// How many of the connections belong to thread `worker`: their numbers differ by one at most.
    pub fn share(&self, worker: u32) -> u32 {
        self.connections / self.threads + u32::from(worker < self.connections % self.threads)
    }
}

impl PlanError {
    /// Whether the words are wrong, rather than the world.
    pub fn is_misuse(&self) -> bool {
        !matches!(self, Self::Body { .. })
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SaidTwice { what } => write!(f, "{what} differ; give one of them"),
            Self::IdleThreads {
                threads,
                connections,
            } => write!(
                f,
                "-t {threads} is more than {connections} connections; give at most one thread per \
                 connection"
            ),
            Self::TimeRange { flag, range } => write!(f, "{flag} is out of range; give {range}"),
            Self::BadHeader { header } => {
                write!(
                    f,
                    "-H {header:?} is no header field; write -H 'Name: value'"
                )
            }
            Self::OwnedHeader { name, instead } => {
                write!(f, "-H '{name}: ...' cannot be set; {instead}")
            }
            Self::BadMethod { method } => {
                write!(
                    f,
                    "-m {method:?} cannot be sent; give GET, HEAD, POST or another method"
                )
            }
            Self::Body { file, cause } => {
                write!(f, "-b @{}: {cause}; name a readable file", file.display())
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// Reads `10`, `10s`, `500ms`, `1m` or `2h`.
///
/// # Errors
/// A line for the user where the text is none of these.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis_per_unit = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is no time; write 10s, 500ms or 1m")),
    };
    let number: Option<u64> = number.parse().ok();
    let millis = number.and_then(|number| number.checked_mul(millis_per_unit));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no time; write 10s, 500ms or 1m"))
}

fn one_of<T: PartialEq>(
    word: Option<T>,
    flag: Option<T>,
    what: &'static str,
) -> Result<Option<T>, PlanError> {
    match (word, flag) {
        (Some(word), Some(flag)) if word != flag => Err(PlanError::SaidTwice { what }),
        (word, flag) => Ok(word.or(flag)),
    }
}

fn read_body(word: &OsStr) -> Result<Vec<u8>, PlanError> {
    let bytes = word.as_encoded_bytes();
    let Some(name) = bytes.strip_prefix(b"@") else {
        return Ok(bytes.to_vec());
    };
    let file = PathBuf::from(os_string(name));
    std::fs::read(&file).map_err(|cause| PlanError::Body {
        file,
        cause: cause.to_string(),
    })
}

fn os_string(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes.to_vec())
}

fn method(asked: Option<&str>, has_body: bool) -> Result<String, PlanError> {
    let method = asked.unwrap_or(if has_body { "POST" } else { "GET" });
    if !is_token(method.as_bytes()) || method == "CONNECT" {
        return Err(PlanError::BadMethod {
            method: method.to_owned(),
        });
    }
    Ok(method.to_owned())
}

/// The bytes of one request. Without `headers` that is the shortest legal one.
fn request(
    target: &Target,
    method: &str,
    headers: &[String],
    body: Option<&[u8]>,
) -> Result<Vec<u8>, PlanError> {
    let mut fields = String::new();
    let mut has_host = false;
    for header in headers {
        let (name, value) = field(header)?;
        has_host |= name.eq_ignore_ascii_case("host");
        fields.push_str(&format!("{name}: {value}\r\n"));
    }
    if !has_host {
        fields.insert_str(0, &format!("Host: {}\r\n", target.authority()));
    }
    // RFC 9110 §8.6: a method that usually has content says so even when it is empty.
    if body.is_some() || matches!(method, "POST" | "PUT" | "PATCH") {
        fields.push_str(&format!(
            "Content-Length: {}\r\n",
            body.map_or(0, <[u8]>::len)
        ));
    }
    let mut bytes = format!("{method} {} HTTP/1.1\r\n{fields}\r\n", target.path()).into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    Ok(bytes)
}

fn field(header: &str) -> Result<(&str, &str), PlanError> {
    let bad = || PlanError::BadHeader {
        header: header.to_owned(),
    };
    let (name, value) = header.split_once(':').ok_or_else(bad)?;
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name.as_bytes()) || value.bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
        return Err(bad());
    }
    let instead = match name.to_ascii_lowercase().as_str() {
        "content-length" => "-b sets it",
        "transfer-encoding" => "-b sends a Content-Length",
        "expect" => "the body is always sent at once",
        "upgrade" => "leave it out",
        _ => return Ok((name, value)),
    };
    Err(PlanError::OwnedHeader {
        name: name.to_owned(),
        instead,
    })
}

/// RFC 9110 §7.6.1.
fn says_close(header: &str) -> bool {
    field(header).is_ok_and(|(name, value)| {
        name.eq_ignore_ascii_case("connection")
            && value
                .split(',')
                .any(|option| option.trim().eq_ignore_ascii_case("close"))
    })
}

const CONNECTIONS_DEFAULT: u32 = 50;
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Where the histogram ends: a longer wait could not be told from this one.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::JsonTo;

    fn plan(words: &[&str]) -> Result<Plan, PlanError> {
        let words = ["hp-bench", "a:81"].iter().chain(words).map(OsString::from);
        Plan::resolve(&crate::cli::parse(words).unwrap(), 2)
    }

    fn check_request(words: &[&str], want: &str) {
        let plan = plan(words).unwrap();
        assert_eq!(String::from_utf8(plan.request).unwrap(), want);
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.connections, plan.threads), (50, 2));
        assert_eq!(plan.duration, Duration::from_secs(10));
        assert_eq!(plan.output.json_to(), JsonTo::Nowhere);
    }

    #[test]
    fn threads_never_outnumber_connections() {
        assert_eq!(plan(&["1"]).unwrap().threads, 1);
        let error = plan(&["-c", "2", "-t", "3"]).unwrap_err();
        assert_eq!(
            error,
            PlanError::IdleThreads {
                threads: 3,
                connections: 2
            }
        );
    }

    #[test]
    fn shares_add_up() {
        let plan = plan(&["-c", "7", "-t", "3"]).unwrap();
        assert_eq!([0, 1, 2].map(|worker| plan.share(worker)), [3, 2, 2]);
    }

    #[test]
    fn both_forms_must_agree() {
        assert_eq!(plan(&["9", "-c", "9"]).unwrap().connections, 9);
        assert!(matches!(
            plan(&["9", "-c", "8"]),
            Err(PlanError::SaidTwice { .. })
        ));
        assert!(matches!(
            plan(&["9", "9", "-d", "8s"]),
            Err(PlanError::SaidTwice { .. })
        ));
        assert!(plan(&["9", "9", "-d", "9s"]).is_ok());
    }

    #[test]
    fn times_have_ranges() {
        assert!(matches!(
            plan(&["-d", "0"]),
            Err(PlanError::TimeRange { flag: "-d", .. })
        ));
        let error = plan(&["--timeout", "61s"]).unwrap_err();
        assert!(matches!(
            error,
            PlanError::TimeRange {
                flag: "--timeout",
                ..
            }
        ));
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("1m", 60_000),
        ] {
            assert_eq!(
                parse_time(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1",
            "1.5s",
            "10 s",
            "1d",
            "99999999999999999999",
            "1s1",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn request_is_the_shortest_legal_one() {
        check_request(&[], "GET / HTTP/1.1\r\nHost: a:81\r\n\r\n");
    }

    #[test]
    fn headers_and_method_are_sent_as_given() {
        check_request(
            &["-m", "HEAD", "-H", "X-A:  b ", "-H", "host: c"],
            "HEAD / HTTP/1.1\r\nX-A: b\r\nhost: c\r\n\r\n",
        );
    }

    #[test]
    fn connection_close_among_the_headers_is_obeyed() {
        assert!(plan(&["-H", "Connection: keep-alive"]).unwrap().keep_alive);
        assert!(!plan(&["-H", "connection: x, Close"]).unwrap().keep_alive);
    }

    #[test]
    fn body_brings_its_length_and_makes_it_a_post() {
        check_request(
            &["-b", "xyz"],
            "POST / HTTP/1.1\r\nHost: a:81\r\nContent-Length: 3\r\n\r\nxyz",
        );
        check_request(
            &["-m", "PUT"],
            "PUT / HTTP/1.1\r\nHost: a:81\r\nContent-Length: 0\r\n\r\n",
        );
    }

    #[test]
    fn headers_that_would_break_the_framing_are_refused() {
        for header in ["", "a", ": b", "a b: c", "a: b\r\nc: d", "a: \0"] {
            assert!(
                matches!(plan(&["-H", header]), Err(PlanError::BadHeader { .. })),
                "{header}"
            );
        }
        for header in [
            "Content-Length: 3",
            "transfer-encoding: chunked",
            "Expect: 100-continue",
        ] {
            let error = plan(&["-H", header]).unwrap_err();
            assert!(matches!(error, PlanError::OwnedHeader { .. }), "{header}");
        }
        assert!(matches!(
            plan(&["-m", "G T"]),
            Err(PlanError::BadMethod { .. })
        ));
    }

    #[test]
    fn missing_body_file_is_not_misuse() {
        let error = plan(&["-b", "@/nonexistent/x"]).unwrap_err();
        assert!(!error.is_misuse());
        assert!(
            error.to_string().starts_with("-b @/nonexistent/x: "),
            "{error}"
        );
    }
}
