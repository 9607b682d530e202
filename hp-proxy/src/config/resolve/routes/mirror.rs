//! Who gets copies of a route's requests.

use super::{Resolver, Upstreams};
use crate::config::file::Section;
use crate::config::plan::{Action, Mirror};

impl Resolver<'_> {
    pub(super) fn mirror(
        &mut self,
        section: &Section,
        action: &Action,
        upstreams: &Upstreams,
    ) -> Option<Mirror> {
        let mirror = section.section("mirror")?;
        self.only_forwarded(section, "mirror");
        let Some((name, place)) = mirror.text("upstream") else {
            self.missing(mirror, "upstream", "the name of an upstream");
            return None;
        };
        let upstream = self.upstream_named(name, place, upstreams)?;
        if let Action::Forward(split) = action
            && split.shares().any(|(other, _)| other == upstream)
        {
            let reason = format!(
                "{name} gets requests of this route already, and would execute them twice; name another upstream"
            );
            self.report.error(place, reason);
        }
        let bytes = mirror.number("body_max").unwrap_or(BODY_BYTES_DEFAULT);
        if bytes > BODY_BYTES_LIMIT {
            let reason = "out of range; write 0 to 16MiB: each copy is held whole in memory";
            self.report.error(mirror.place_of("body_max"), reason);
        }
        Some(Mirror {
            upstream,
            share_millionths: mirror.millionths("share").unwrap_or(ALL),
            body_bytes_max: u32::try_from(bytes).unwrap_or(u32::MAX),
        })
    }
}

/// Of a million.
const ALL: u32 = 1_000_000;
const BODY_BYTES_DEFAULT: u64 = 64 << 10;
const BODY_BYTES_LIMIT: u64 = 16 << 20;
