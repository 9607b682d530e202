//! Names of files in paths of URLs.
//!
//! Must not know: files, descriptors.

use hp_core::wire::token::hex_digit;

/// A path of a URL as names below a root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Named {
    /// Names divided by single slashes, none of them empty, `.` or `..`; empty for the root.
    pub(super) path: Vec<u8>,
    /// The path ended with a slash.
    pub(super) is_directory: bool,
}

/// A path that names nothing that may be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NotAName;

impl Named {
    /// Reads the path of a target. Each name is percent-decoded once, by itself, so that what was encoded divides nothing; what
    /// then is empty, `.` or `..`, or has a slash, a backslash or NUL in it, is refused. RFC 3986 §2.4, §3.3.
    pub(super) fn read(path: &str) -> Result<Self, NotAName> {
        let rest = path.strip_prefix('/').ok_or(NotAName)?;
        let (rest, is_directory) = match rest.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (rest, rest.is_empty()),
        };
        let mut names = Vec::with_capacity(rest.len());
        if rest.is_empty() {
            // `//` is not the root: its one name is empty.
            return match path {
                "/" => Ok(Self {
                    path: names,
                    is_directory,
                }),
                _ => Err(NotAName),
            };
        }
        for encoded in rest.as_bytes().split(|&byte| byte == b'/') {
            if !names.is_empty() {
                names.push(b'/');
            }
            let start = names.len();
            decode(encoded, &mut names)?;
            let name = names.get(start..).unwrap_or_default();
            let is_bad = |byte: &u8| matches!(byte, b'/' | b'\\' | 0);
            if matches!(name, b"" | b"." | b"..") || name.iter().any(is_bad) {
                return Err(NotAName);
            }
        }
        Ok(Self {
            path: names,
            is_directory,
        })
    }
}

/// Appends a name, percent-decoded. RFC 3986 §2.1.
fn decode(mut encoded: &[u8], out: &mut Vec<u8>) -> Result<(), NotAName> {
    while let Some((&byte, rest)) = encoded.split_first() {
        encoded = rest;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let [high, low, rest @ ..] = rest else {
            return Err(NotAName);
        };
        let digits = hex_digit(*high).zip(hex_digit(*low)).ok_or(NotAName)?;
        out.push(digits.0 << 4 | digits.1);
        encoded = rest;
    }
    Ok(())
}

/// The media type of what has this name, by its extension.
pub(super) fn media_type(name: &[u8]) -> &'static str {
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let mut parts = last.rsplitn(2, |&byte| byte == b'.');
    let extension = parts.next().unwrap_or_default();
    if parts.next().is_none() {
        return UNKNOWN; // A name without a dot.
    }
    let known = MEDIA_TYPES
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(extension));
    known.map_or(UNKNOWN, |(_, media_type)| media_type)
}

const UNKNOWN: &str = "application/octet-stream";

/// As IANA has them.
const MEDIA_TYPES: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("toml", "application/toml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once() {
        let check = |path, want: &[u8], is_directory| {
            let want = Named {
                path: want.to_vec(),
                is_directory,
            };
            assert_eq!(Named::read(path), Ok(want), "{path}");
        };
        check("/", b"", true);
        check("/a", b"a", false);
        check("/a/", b"a", true);
        check("/a/b.c", b"a/b.c", false);
        check("/a%20b/%41", b"a b/A", false);
        check("/%252e%252e", b"%2e%2e", false);
        check("/...", b"...", false);
        check("/.a", b".a", false);
        check("/%ff", b"\xff", false);
    }

    #[test]
    fn what_would_leave_the_root_is_no_name() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/../a",
            "/a/..",
            "/a/../b",
            "/a/.",
            "/%2e%2e/a",
            "/.%2E/a",
            "/%2e",
            "/a%2fb",
            "/%2f",
            "/..%2fa",
            "/a%5cb",
            "/a\\b",
            "/%00",
            "/a%00.html",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a/%2e%2e/",
        ] {
            assert_eq!(Named::read(path), Err(NotAName), "{path}");
        }
    }

    /// Whatever the bytes, no name that comes out leaves its directory.
    #[test]
    fn no_bytes_make_a_name_that_leaves() {
        let alphabet = [
            "/", ".", "%2e", "%2E", "%2f", "%5c", "%00", "a", "%25", "2e",
        ];
        for code in 0..alphabet.len().pow(5) {
            let (mut path, mut left) = (String::from("/"), code);
            for _ in 0..5 {
                path.push_str(alphabet[left % alphabet.len()]);
                left /= alphabet.len();
            }
            let Ok(named) = Named::read(&path) else {
                continue;
            };
            for name in named.path.split(|&byte| byte == b'/') {
                assert!(!matches!(name, b"" | b"." | b".."), "{path}");
                assert!(!name.contains(&b'\\') && !name.contains(&0), "{path}");
            }
        }
    }

    #[test]
    fn media_types_follow_the_extension() {
        let check = |name: &str, want| assert_eq!(media_type(name.as_bytes()), want, "{name}");
        check("index.html", "text/html; charset=utf-8");
        check("a/b.PNG", "image/png");
        check("a.tar.gz", "application/gzip");
        check("html", UNKNOWN);
        check("a.html/b", UNKNOWN);
        check("a.", UNKNOWN);
        check("a.unheard-of", UNKNOWN);
    }
}
