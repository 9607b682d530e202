//! The smallest HTTP/1.1 reverse proxy that Pingora allows, as a peer to measure: plain text on both sides, no filter that
//! touches a head, no log of requests. `hp-peer-pingora LISTEN CONF BACKEND[,BACKEND]...`; CONF is Pingora's own YAML.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::Opt;

struct Forward {
    backends: Vec<String>,
    next: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len();
        let mut peer = Box::new(HttpPeer::new(self.backends[turn].as_str(), false, String::new()));
        peer.options.idle_timeout = Some(Duration::from_secs(3600)); // as long as every other peer's
        Ok(peer)
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--version"] {
        println!("pingora {} on tokio {}", env!("PINGORA"), env!("TOKIO"));
        return;
    }
    let [listen, conf, backends] = words.as_slice() else {
        eprintln!("hp-peer-pingora: write hp-peer-pingora LISTEN CONF BACKEND[,BACKEND]...");
        std::process::exit(2);
    };
    let opt = Opt { conf: Some(conf.clone()), ..Opt::default() };
    let mut server = Server::new(Some(opt)).expect("the configuration is readable");
    server.bootstrap();
    let forward = Forward {
        backends: backends.split(',').map(str::to_owned).collect(),
        next: AtomicUsize::new(0),
    };
    let mut service = http_proxy_service(&server.configuration, forward);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
