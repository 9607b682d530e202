//! Answers from a directory: which file a path names, and what the conditions of a request make of it.
//!
//! Must not know: connections, tasks.

mod conditions;
mod path;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hp_core::rt::net::{File, FilePart};
use hp_core::sys::file::{self, Facts, Kind, Root};
use hp_core::wire::http1::encode;
use hp_core::wire::http1::method::Method;
use hp_core::wire::http1::request::RequestHead;

use crate::answer::{self, BodyOf, Persistence};
use conditions::{Conditions, Verdict};
use path::Named;

/// What a path below the root is answered with; free of borrows, so that it can wait.
#[derive(Debug)]
pub(crate) enum FileAnswer {
    /// The file, or a part of it.
    Content {
        representation: Representation,
        file: Rc<File>,
        /// What is sent of it; `None` for all.
        range: Option<Range<u64>>,
    },
    /// 304: the client has it. RFC 9110 §15.4.5.
    NotModified(Representation),
    /// 416: the file has no such part. RFC 9110 §15.5.17.
    Unsatisfiable(Representation),
    /// 301 to the same path with a slash behind it, so that relative links of its index point into the directory.
    Moved(String),
    /// Nothing but a status.
    Refused(u16),
}

/// What a head says of a file.
#[derive(Clone, Debug)]
pub(crate) struct Representation {
    facts: Facts,
    media_type: &'static str,
    /// With its quotes.
    etag: String,
    /// Time of the answer, since 1970-01-01 UTC.
    now: Duration,
}

impl FileAnswer {
    /// Finds the answer to GET and HEAD. `now` is the time since 1970-01-01 UTC.
    pub(crate) fn of(head: &RequestHead<'_, '_>, root: &Root, now: Duration) -> Self {
        let named = match Named::read(head.target.path()) {
            Ok(named) => named,
            Err(_not_a_name) => return Self::Refused(BAD_REQUEST),
        };
        match open(root, &named) {
            Ok(Opened::File(file, facts, name)) => {
                let representation = Representation::of(facts, &name, now);
                Self::conditional(head, representation, file)
            }
            Ok(Opened::DirectoryWithoutSlash) => Self::Moved(format!("{}/", head.target.path())),
            Ok(Opened::Nothing) => Self::Refused(FORBIDDEN),
            Err(error) => Self::Refused(status_of(&error)),
        }
    }

    fn conditional(
        head: &RequestHead<'_, '_>,
        representation: Representation,
        file: OwnedFd,
    ) -> Self {
        let conditions = Conditions {
            etag: &representation.etag,
            modified: representation.modified(),
            now: representation.now,
            len: representation.facts.len,
        };
        match conditions.judge(&head.fields, head.method == Method::Get) {
            Verdict::PreconditionFailed => Self::Refused(PRECONDITION_FAILED),
            Verdict::NotModified => Self::NotModified(representation),
            Verdict::Unsatisfiable => Self::Unsatisfiable(representation),
            Verdict::Whole => Self::Content {
                representation,
                file: Rc::new(File::from(file)),
                range: None,
            },
            Verdict::Part(range) => Self::Content {
                representation,
                file: Rc::new(File::from(file)),
                range: Some(range),
            },
        }
    }

    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Content { range: None, .. } => 200,
            Self::Content { range: Some(_), .. } => 206,
            Self::NotModified(_) => 304,
            Self::Unsatisfiable(_) => RANGE_NOT_SATISFIABLE,
            Self::Moved(_) => 301,
            Self::Refused(status) => *status,
        }
    }

    /// Appends all of it but the content of a file.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, persistence: Persistence, body: BodyOf) {
        let status = self.status();
        match self {
            Self::Refused(_) => return answer::status(out, status, persistence, body),
            Self::Moved(location) => {
                answer::begin(out, status);
                encode::field(out, "Location", location.as_bytes());
                encode::content_length(out, 0);
            }
            Self::Unsatisfiable(representation) => {
                answer::begin(out, status);
                let range = format!("bytes */{}", representation.facts.len);
                encode::field(out, "Content-Range", range.as_bytes());
                encode::content_length(out, 0);
            }
            Self::NotModified(representation) => {
                answer::begin(out, status);
                representation.encode_validators(out);
            }
            Self::Content {
                representation,
                range,
                ..
            } => {
                answer::begin(out, status);
                encode::field(out, "Content-Type", representation.media_type.as_bytes());
                let len = representation.facts.len;
                match range {
                    None => encode::content_length(out, len),
                    Some(range) => {
                        let Range { start, end } = *range;
                        let place = format!("bytes {start}-{}/{len}", end.saturating_sub(1));
                        encode::field(out, "Content-Range", place.as_bytes());
                        encode::content_length(out, end.saturating_sub(start));
                    }
                }
                encode::field(out, "Accept-Ranges", b"bytes");
                representation.encode_validators(out);
            }
        }
        persistence.encode(out);
        encode::end_of_head(out);
    }

    /// The content that follows its head, for GET.
    pub(crate) fn content(&self) -> Option<FilePart> {
        let Self::Content {
            representation,
            file,
            range,
        } = self
        else {
            return None;
        };
        let Range { start, end } = range.clone().unwrap_or(0..representation.facts.len);
        Some(FilePart {
            file: Rc::clone(file),
            offset: start,
            left: end.saturating_sub(start),
        })
    }
}

impl Representation {
    fn of(facts: Facts, name: &[u8], now: Duration) -> Self {
        let etag = format!(
            "\"{:x}.{:x}-{:x}\"",
            facts.modified.as_secs(),
            facts.modified.subsec_nanos(),
            facts.len
        );
        Self {
            facts,
            media_type: path::media_type(name),
            etag,
            now,
        }
    }

    /// Whole seconds, as its date has them; not later than the answer. RFC 9110 §8.8.2.1.
    fn modified(&self) -> Duration {
        Duration::from_secs(self.facts.modified.as_secs().min(self.now.as_secs()))
    }

    fn encode_validators(&self, out: &mut Vec<u8>) {
        encode::field(out, "Date", conditions::date(self.now).as_bytes());
        encode::field(
            out,
            "Last-Modified",
            conditions::date(self.modified()).as_bytes(),
        );
        encode::field(out, "ETag", self.etag.as_bytes());
    }
}

/// What stands where a path points to.
enum Opened {
    /// A file, what it is, and its name.
    File(OwnedFd, Facts, Vec<u8>),
    /// A directory, asked for as if it were a file.
    DirectoryWithoutSlash,
    /// A device or its like, or a directory where a file has to be.
    Nothing,
}

fn open(root: &Root, named: &Named) -> io::Result<Opened> {
    let found = root.open_below(&named.path)?;
    let facts = file::facts(&found)?;
    match facts.kind {
        Kind::Regular if !named.is_directory => Ok(Opened::File(found, facts, named.path.clone())),
        Kind::Directory if !named.is_directory => Ok(Opened::DirectoryWithoutSlash),
        Kind::Directory => {
            let mut index = named.path.clone();
            if !index.is_empty() {
                index.push(b'/');
            }
            index.extend_from_slice(INDEX);
            let found = root.open_below(&index)?;
            let facts = file::facts(&found)?;
            match facts.kind {
                Kind::Regular => Ok(Opened::File(found, facts, index)),
                Kind::Directory | Kind::Special => Ok(Opened::Nothing),
            }
        }
        Kind::Regular => Err(io::Error::from(io::ErrorKind::NotFound)),
        Kind::Special => Ok(Opened::Nothing),
    }
}

fn status_of(error: &io::Error) -> u16 {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => 404,
        io::ErrorKind::PermissionDenied => FORBIDDEN,
        _ if file::is_refused_link(error) => FORBIDDEN,
        // Descriptors or memory are short, or the tree changes under the path: another try may do.
        _ => 503,
    }
}

const BAD_REQUEST: u16 = 400;
const FORBIDDEN: u16 = 403;
const PRECONDITION_FAILED: u16 = 412;
const RANGE_NOT_SATISFIABLE: u16 = 416;
const INDEX: &[u8] = b"index.html";
