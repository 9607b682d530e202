//! What whoever connects is told with the outcome.

use crate::lab::{check, goes_quiet, once, options, soon};
use crate::peer;
use hp_core::rt::Engine;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;

/// All of it is there before the report: an attempt over the loopback interface is decided when the call returns, and the runtime hears
/// of it with its next turn.
pub(crate) fn a_connection_that_is_reset_before_its_outcome_is_told_was_never_made(engine: Engine) {
    check(&options(engine), async |rt| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        for says_something in [false, true] {
            let mut connecting = pin!(rt.connect(addr, soon(&rt)));
            assert!(once(connecting.as_mut()).await.is_none());
            let mut peer = listener.accept().unwrap().0;
            if says_something {
                peer.write_all(b"early").unwrap();
            }
            peer::reset(peer);
            let error = connecting.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        goes_quiet(&rt).await;
    });
}
