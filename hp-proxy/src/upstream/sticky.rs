//! Cookies that keep a client with its endpoint. Pure: keys and fields are arguments; no clock, no socket, no await.
//!
//! ```text
//! cookie = base64url( id: 8 bytes | tag: 16 bytes )      both are of HMAC-SHA256(key, upstream, endpoint)
//! ```
//!
//! What a cookie says is the same for all clients of an endpoint, and is made when the plan is. It names the endpoint without telling
//! its address, and nobody makes one without the key. It is no secret of one client: whoever has one can give it to others, who
//! get nothing by it but the endpoint.

use super::endpoint::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hp_core::wire::cookie;
use hp_core::wire::header::{FieldName, Fields};
use sha2::Sha256;
use std::fmt;
use std::time::Duration;

/// How clients are kept with their endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name; a token.
    pub cookie: String,
    /// How long a client keeps it, in whole seconds; `None`: as long as its session lasts.
    pub max_age: Option<Duration>,
    /// Under which path it is sent; begins with a slash.
    pub path: String,
    /// Sent over secured connections only.
    pub is_secure: bool,
    /// Kept from scripts.
    pub is_http_only: bool,
    /// When other sites' requests carry it.
    pub same_site: SameSite,
    /// What signs it; `None`: the process's own.
    pub key: Option<Secret>,
}

/// When a request that another site caused carries a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Where the user follows a link.
    #[default]
    Lax,
    /// Always; only a secure cookie may say so.
    None,
    /// Never.
    Strict,
}

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// As it was given.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// One that nobody knows: 256 bits.
    #[must_use]
    pub fn random() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self(bytes.to_vec())
    }

    /// For whoever takes this process's place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// The cookies of one upstream: what each endpoint's clients are given, and which endpoint one stands for.
#[derive(Debug)]
pub struct Cookies {
    sticky: Sticky,
    signer: Signer,
    /// By the endpoint's hash, sorted.
    endpoints: Box<[Bound]>,
    /// Sorted; with the endpoint's place among those.
    by_id: Box<[(Id, usize)]>,
}

/// What a cookie that stands for an endpoint is made of.
#[derive(Debug)]
struct Bound {
    /// See [`Identity::hash`].
    endpoint: u64,
    identity: Box<[u8]>,
    /// The whole field line that gives a client the cookie.
    line: Box<[u8]>,
}

type Id = [u8; ID_BYTES];

impl Cookies {
    /// For the endpoints of an upstream. The key is that of `sticky`, or else `of_process`.
    #[must_use]
    pub fn new(
        sticky: &Sticky,
        of_process: &Secret,
        upstream: &str,
        endpoints: &[Identity],
    ) -> Self {
        let key = sticky.key.as_ref().unwrap_or(of_process);
        let signer = Signer::new(key, upstream);
        let mut identities: Vec<&Identity> = endpoints.iter().collect();
        identities.sort_by_key(|identity| identity.hash());
        let tokens = identities.into_iter().map(|identity| {
            let text = identity.to_string().into_bytes().into_boxed_slice();
            let token = signer.token(&text);
            let bound = Bound {
                endpoint: identity.hash(),
                identity: text,
                line: line(sticky, &token).into_bytes().into_boxed_slice(),
            };
            (token.id, bound)
        });
        let (ids, endpoints): (Vec<Id>, Vec<Bound>) = tokens.unzip();
        let mut by_id: Vec<(Id, usize)> = ids.into_iter().zip(0..).collect();
        by_id.sort_unstable();
        Self {
            sticky: sticky.clone(),
            signer,
            endpoints: endpoints.into_boxed_slice(),
            by_id: by_id.into_boxed_slice(),
        }
    }

    /// The endpoint that a request is bound to, by its hash: that of the first cookie with our name that we could have made. A request may carry
    /// as many as its head has room for; all others are passed over.
    #[must_use]
    pub fn endpoint_of(&self, fields: &Fields<'_, '_>) -> Option<u64> {
        let others = fields.iter().filter(|(kind, ..)| *kind == FieldName::Other);
        let cookies = others.filter(|(_, name, _)| name.eq_ignore_ascii_case("cookie"));
        let mut values = cookies.flat_map(|(.., field)| cookie::values(field, &self.sticky.cookie));
        values.find_map(|value| self.read(value))
    }

    /// The field line, with its end, that binds a client to an endpoint; empty where there is no such endpoint.
    #[must_use]
    pub fn line(&self, endpoint: u64) -> &[u8] {
        let place = self
            .endpoints
            .binary_search_by_key(&endpoint, |bound| bound.endpoint);
        let bound = place.ok().and_then(|place| self.endpoints.get(place));
        bound.map_or(&[][..], |bound| &*bound.line)
    }

    /// The same for an endpoint of another plan: one that came while a request was under way answers it, too.
    #[must_use]
    pub fn line_for(&self, endpoint: &Identity) -> Vec<u8> {
        let token = self.signer.token(endpoint.to_string().as_bytes());
        line(&self.sticky, &token).into_bytes()
    }

    /// The endpoint that one cookie stands for.
    fn read(&self, value: &[u8]) -> Option<u64> {
        if value.len() != TOKEN_CHARS {
            return None;
        }
        let mut bytes = [0; TOKEN_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (id, tag) = bytes.get(..length)?.split_first_chunk::<ID_BYTES>()?;
        // Ids are no secrets: only the tag tells whether we made it.
        let place = self.by_id.binary_search_by(|(other, _)| other.cmp(id));
        let (_, place) = *self.by_id.get(place.ok()?)?;
        let bound = self.endpoints.get(place)?;
        let is_ours = self.signer.has_signed(&bound.identity, tag);
        is_ours.then_some(bound.endpoint)
    }
}

/// What names an endpoint to a client.
struct Token {
    id: Id,
    tag: [u8; TAG_BYTES],
}

/// Makes tokens for the endpoints of one upstream, and tells them from others.
#[derive(Clone)]
struct Signer(Hmac<Sha256>);

impl Signer {
    fn new(key: &Secret, upstream: &str) -> Self {
        let mut mac = Hmac::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
        mac.update(CONTEXT);
        mac.update(&(upstream.len() as u64).to_be_bytes()); // So that no two pairs of names read alike.
        mac.update(upstream.as_bytes());
        Self(mac)
    }

    fn token(&self, identity: &[u8]) -> Token {
        let whole = self
            .0
            .clone()
            .chain_update(identity)
            .finalize()
            .into_bytes();
        let mut token = Token {
            id: [0; ID_BYTES],
            tag: [0; TAG_BYTES],
        };
        let (tag, rest) = whole.split_at(TAG_BYTES);
        token.tag.copy_from_slice(tag);
        token
            .id
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        token
    }

    /// Whether a tag is the endpoint's, in a time that does not tell how much of it is right.
    fn has_signed(&self, identity: &[u8], tag: &[u8]) -> bool {
        let mac = self.0.clone().chain_update(identity);
        tag.len() == TAG_BYTES && mac.verify_truncated_left(tag).is_ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// RFC 6265 §4.1; SameSite as browsers know it.
fn line(sticky: &Sticky, token: &Token) -> String {
    let mut bytes = [0; TOKEN_BYTES];
    let (id, tag) = bytes.split_at_mut(ID_BYTES);
    id.copy_from_slice(&token.id);
    tag.copy_from_slice(&token.tag);
    let value = URL_SAFE_NO_PAD.encode(bytes);
    let mut line = format!(
        "Set-Cookie: {}={value}; Path={}",
        sticky.cookie, sticky.path
    );
    if let Some(max_age) = sticky.max_age {
        line += &format!("; Max-Age={}", max_age.as_secs());
    }
    if sticky.is_secure {
        line += "; Secure";
    }
    if sticky.is_http_only {
        line += "; HttpOnly";
    }
    line += match sticky.same_site {
        SameSite::Lax => "; SameSite=Lax\r\n",
        SameSite::None => "; SameSite=None\r\n",
        SameSite::Strict => "; SameSite=Strict\r\n",
    };
    line
}

/// What else is ever signed with the same key reads otherwise.
const CONTEXT: &[u8] = b"hp-proxy sticky 1\0";
const ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const TOKEN_BYTES: usize = ID_BYTES + TAG_BYTES;
const TOKEN_CHARS: usize = TOKEN_BYTES / 3 * 4;
const _: () = assert!(TOKEN_BYTES.is_multiple_of(3), "no padding");

#[cfg(test)]
mod tests {
    use super::*;
    use hp_core::rt::net::Address;
    use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
    use hp_core::wire::http1::request::parse_request;
    use proptest::prelude::*;

    fn sticky() -> Sticky {
        Sticky {
            cookie: String::from("hp_route"),
            max_age: Some(Duration::from_secs(3600)),
            path: String::from("/"),
            is_secure: false,
            is_http_only: true,
            same_site: SameSite::Lax,
            key: Some(Secret::new("0123456789abcdef")),
        }
    }

    fn identity(name: &str) -> Identity {
        Identity::new(name, Address::Unix(name.into()))
    }

    fn hash(name: &str) -> u64 {
        identity(name).hash()
    }

    fn cookies_of(sticky: &Sticky, upstream: &str, endpoints: &[&str]) -> Cookies {
        let process = Secret::new("of this process");
        let identities: Vec<Identity> = endpoints.iter().map(|name| identity(name)).collect();
        Cookies::new(sticky, &process, upstream, &identities)
    }

    fn cookies(endpoints: &[&str]) -> Cookies {
        cookies_of(&sticky(), "web", endpoints)
    }

    /// The pair of name and value that a client sends.
    fn pair(cookies: &Cookies, endpoint: &str) -> String {
        let line = std::str::from_utf8(cookies.line(hash(endpoint))).unwrap();
        let value = line.strip_prefix("Set-Cookie: ").unwrap();
        value.split_once(';').unwrap().0.to_owned()
    }

    fn bound(cookies: &Cookies, lines: &str) -> Option<u64> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let limits = HeadLimits {
            head_bytes_max: 1 << 20,
            ..HeadLimits::default()
        };
        let mut scratch = HeaderScratch::new();
        let Ok(Parse::Complete(head)) = parse_request(head.as_bytes(), &limits, &mut scratch)
        else {
            panic!("{lines:?}");
        };
        cookies.endpoint_of(&head.fields)
    }

    /// A request whose plan has another one after it while it is under way was answered by an endpoint of that one, and was given
    /// no cookie.
    #[test]
    fn an_endpoint_of_the_next_plan_has_the_cookie_that_it_has_there() {
        let (now, next) = (cookies(&["a"]), cookies(&["a", "b"]));
        assert_eq!(now.line(hash("b")), b"");
        assert_eq!(now.line_for(&identity("b")), next.line(hash("b")));
        assert_eq!(now.line_for(&identity("a")), now.line(hash("a")));
    }

    #[test]
    fn an_endpoint_is_found_by_its_own_cookie() {
        let names = ["10.0.0.1:80", "10.0.0.2:80", "unix:/run/a.sock"];
        let cookies = cookies(&names);
        for endpoint in names {
            let pair = pair(&cookies, endpoint);
            assert_eq!(
                bound(&cookies, &format!("Cookie: {pair}\r\n")),
                Some(hash(endpoint))
            );
            assert_eq!(
                bound(&cookies, &format!("cookie: a=b; {pair} ;c=d\r\n")),
                Some(hash(endpoint))
            );
            assert!(!names.iter().any(|name| pair.contains(name)));
        }
        assert_eq!(cookies.line(3), b"");
    }

    #[test]
    fn a_cookie_is_of_its_key_its_upstream_and_its_endpoint() {
        let ours = cookies(&["a", "b"]);
        let cookie = format!("Cookie: {}\r\n", pair(&ours, "a"));
        assert_eq!(bound(&cookies(&["b", "a"]), &cookie), Some(hash("a")));
        assert_eq!(bound(&cookies(&["b", "c"]), &cookie), None);
        assert_eq!(
            bound(&cookies_of(&sticky(), "api", &["a", "b"]), &cookie),
            None
        );
        let other_key = Sticky {
            key: Some(Secret::new("0123456789abcdeg")),
            ..sticky()
        };
        assert_eq!(
            bound(&cookies_of(&other_key, "web", &["a", "b"]), &cookie),
            None
        );
        let no_key = Sticky {
            key: None,
            ..sticky()
        };
        let of_process = cookies_of(&no_key, "web", &["a", "b"]);
        assert_eq!(bound(&of_process, &cookie), None);
        let own = format!("Cookie: {}\r\n", pair(&of_process, "b"));
        assert_eq!(bound(&of_process, &own), Some(hash("b")));
    }

    #[test]
    fn of_several_cookies_the_first_good_one_counts() {
        let cookies = cookies(&["a", "b"]);
        let (a, b) = (pair(&cookies, "a"), pair(&cookies, "b"));
        let bad = "hp_route=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (lines, expected) in [
            (format!("Cookie: {bad}; {b}; {a}\r\n"), Some(hash("b"))),
            (
                format!("Cookie: {bad}\r\nCookie: {a}\r\nCookie: {b}\r\n"),
                Some(hash("a")),
            ),
            (
                format!("Cookie: {bad}; hp_route=; hp_route; hp_route=x\r\n"),
                None,
            ),
            (
                format!("Cookie: {}{a}\r\n", format!("{bad};").repeat(900)),
                Some(hash("a")),
            ),
            (format!("X-Cookie: {a}\r\n"), None),
            (String::from("Cookie:\r\n"), None),
        ] {
            assert_eq!(bound(&cookies, &lines), expected, "{lines}");
        }
    }

    #[test]
    fn a_cookie_with_one_wrong_bit_is_foreign() {
        let cookies = cookies(&["a"]);
        let pair = pair(&cookies, "a");
        let value = pair.strip_prefix("hp_route=").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(value).unwrap();
        assert_eq!(bytes.len(), TOKEN_BYTES);
        for bit in 0..TOKEN_BYTES * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let line = format!("Cookie: hp_route={}\r\n", URL_SAFE_NO_PAD.encode(wrong));
            assert_eq!(bound(&cookies, &line), None, "bit {bit}");
        }
    }

    #[test]
    fn a_line_says_what_the_plan_says() {
        let line = |sticky: &Sticky| {
            let cookies = cookies_of(sticky, "web", &["a"]);
            let line = String::from_utf8(cookies.line(hash("a")).to_vec()).unwrap();
            let (_pair, attributes) = line.split_once("; ").unwrap();
            attributes.to_owned()
        };
        assert_eq!(
            line(&sticky()),
            "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax\r\n"
        );
        let other = Sticky {
            max_age: None,
            path: String::from("/app"),
            is_secure: true,
            is_http_only: false,
            same_site: SameSite::None,
            ..sticky()
        };
        assert_eq!(line(&other), "Path=/app; Secure; SameSite=None\r\n");
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("0123456789abcdef");
        assert_eq!(format!("{secret:?}"), "(not shown)");
        let shown = format!("{:?}", cookies(&["a"]).signer);
        assert_eq!(shown, "(not shown)");
        assert_ne!(Secret::random(), Secret::random());
    }

    proptest! {
        #[test]
        fn no_field_is_taken_for_a_cookie_of_ours(value in "[ -~]{0,200}") {
            let cookies = cookies(&["a", "b"]);
            prop_assert_eq!(bound(&cookies, &format!("Cookie: {value}\r\n")), None);
            prop_assert_eq!(bound(&cookies, &format!("Cookie: hp_route={value}\r\n")), None);
        }
    }
}
