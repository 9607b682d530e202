//! How names are looked up.

use super::Resolver;
use crate::config::file::Section;
use crate::config::names::Dns;
use crate::config::paths;
use crate::upstream::discovery::system::SERVERS_MAX;
use hp_core::wire::dns::PORT;
use std::net::{IpAddr, SocketAddr};

impl Resolver<'_> {
    pub(super) fn dns(&mut self) -> Dns {
        let mut dns = Dns::default();
        let Some(section) = self.once("dns", |root, key| root.section(key).cloned()) else {
            return dns;
        };
        dns.servers = self.name_servers(&section);
        dns.timeout = section.time("timeout");
        dns.attempts = section.count("attempts");
        let bounds = &mut dns.bounds;
        bounds.ttl_min = section.time("ttl_min").unwrap_or(bounds.ttl_min);
        bounds.ttl_max = section.time("ttl_max").unwrap_or(bounds.ttl_max);
        if bounds.ttl_min > bounds.ttl_max {
            let key = if section.entry("ttl_max").is_some() {
                "ttl_max"
            } else {
                "ttl_min"
            };
            self.report
                .error(section.place_of(key), "ttl_max is below ttl_min; raise it");
        }
        if let Some((text, place)) = section.text("hosts_file") {
            match paths::file(text.into()) {
                Ok(path) => dns.hosts_file = self.report.folder_of(place.source).join(path),
                Err(reason) => self.report.error(place, reason),
            }
            if !dns.hosts_file.is_file() {
                let reason = format!(
                    "{text:?} is no file that can be read; leave hosts_file out for /etc/hosts"
                );
                self.report.warning(place, reason);
            }
        }
        dns
    }

    fn name_servers(&mut self, section: &Section) -> Vec<SocketAddr> {
        let mut servers = Vec::new();
        for (text, place) in section.texts("servers") {
            match name_server(text) {
                Some(server) => servers.push(server),
                None => self.report.error(
                    place,
                    format!("{text:?} is no address of a name server; write IP or IP:PORT"),
                ),
            }
        }
        let count = section.texts("servers").count();
        if section.entry("servers").is_some() && !(1..=SERVERS_MAX).contains(&count) {
            self.report.error(
                section.place_of("servers"),
                format!("{count} name servers; write 1 to {SERVERS_MAX}, or leave servers out"),
            );
        }
        servers
    }
}

fn name_server(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let addr: SocketAddr = text.parse().ok()?;
    (addr.port() != 0).then_some(addr)
}
