//! How clients are kept with their endpoints.

use super::Resolver;
use crate::config::file::Section;
use crate::upstream::sticky::{SameSite, Secret, Sticky};
use hp_core::wire::cookie;

impl Resolver<'_> {
    /// `section` is the upstream's.
    pub(super) fn sticky(&mut self, section: &Section) -> Option<Sticky> {
        let section = section.section("sticky")?;
        let text = |key: &str, default: &str| {
            let text = section.text(key);
            text.map_or(default, |(text, _)| text).to_owned()
        };
        let sticky = Sticky {
            cookie: text("cookie", "hp_route"),
            max_age: section.time("max_age"),
            path: text("path", "/"),
            is_secure: section.flag("secure"),
            is_http_only: section.entry("http_only").is_none() || section.flag("http_only"),
            same_site: match section.text("same_site") {
                Some(("strict", _)) => SameSite::Strict,
                Some(("none", _)) => SameSite::None,
                _ => SameSite::Lax, // The default; its shape has told of all other words.
            },
            key: section.text("key").map(|(key, _)| Secret::new(key)),
        };
        self.check_cookie(section, &sticky);
        self.check_key(section);
        Some(sticky)
    }

    /// What browsers drop in silence is told here.
    fn check_cookie(&mut self, section: &Section, sticky: &Sticky) {
        let name = &sticky.cookie;
        let mut tell = |key: &str, reason: String| {
            self.report.error(section.place_of(key), reason);
        };
        if !cookie::is_name(name) {
            let reason = format!("{name:?} is no name of a cookie; write letters, digits, - and _");
            tell("cookie", reason);
        }
        let starts = |prefix: &str| {
            let start = name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if (starts("__Host-") || starts("__Secure-")) && !sticky.is_secure {
            let reason = format!("browsers take {name} only with secure = true");
            tell("cookie", reason);
        }
        if starts("__Host-") && sticky.path != "/" {
            tell(
                "path",
                format!("browsers take {name} only with path = \"/\""),
            );
        }
        if !cookie::is_path(&sticky.path) {
            let path = &sticky.path;
            let reason = format!("{path:?} is no path of a cookie; begin with / and leave out ;");
            tell("path", reason);
        }
        if sticky.same_site == SameSite::None && !sticky.is_secure {
            let reason = "browsers take same_site = \"none\" only with secure = true";
            tell("same_site", String::from(reason));
        }
        if sticky.max_age.is_some_and(|age| age.subsec_nanos() > 0) {
            let reason = "clients count in whole seconds; write \"1s\" or more";
            tell("max_age", String::from(reason));
        }
    }

    fn check_key(&mut self, section: &Section) {
        match section.text("key") {
            Some(("", place)) => {
                let reason = "the key is empty; leave it out for a random one of the process";
                self.report.error(place, reason);
            }
            Some((key, place)) if key.len() < KEY_BYTES_MIN => {
                let reason = format!(
                    "a key of less than {KEY_BYTES_MIN} bytes can be guessed; take one from openssl rand -hex 32"
                );
                self.report.warning(place, reason);
            }
            _ => (),
        }
    }
}

/// 128 bits, where all of them are random.
const KEY_BYTES_MIN: usize = 16;
